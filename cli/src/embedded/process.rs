//! A guarded child process: dies with us, is waited for, and is signalled without ever hitting a stranger.

use std::ffi::OsString;
use std::fs::File;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, LazyLock, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use tokio::sync::{oneshot, watch};

use super::{StartError, StopError};
use crate::guard::DeathSignal;

/// How long a dropped handle waits for the killed process to be gone.
const DROP_PATIENCE: Duration = Duration::from_secs(2);

/// What to start.
#[derive(Debug)]
pub struct Launch {
    /// Name for messages, such as `nats-server`.
    pub name: String,
    /// The executable.
    pub program: PathBuf,
    /// Its arguments.
    pub arguments: Vec<OsString>,
    /// Variables added to our own environment.
    pub environment: Vec<(String, String)>,
    /// Where it runs.
    pub directory: PathBuf,
    /// User and group id to run as, if not our own.
    pub run_as: Option<u32>,
    /// What it gets when we die.
    pub death_signal: DeathSignal,
    /// Standard input; nothing to read if `None`. A lock on this file lasts as long as the process.
    pub input: Option<File>,
    /// Standard output and error.
    pub output: File,
}

/// A running or ended child. Dropping it kills the process.
///
/// It is in a process group of its own, so that a Ctrl-C at the terminal reaches us alone and we decide the order.
#[derive(Debug)]
pub struct Process {
    name: String,
    pid: u32,
    /// How it ended. Signals are sent under this lock and only while it is `None`: the pid is ours until then.
    ended: Arc<Mutex<Option<ExitStatus>>>,
    exited: watch::Receiver<Option<ExitStatus>>,
}

impl Process {
    /// Starts a program.
    ///
    /// # Errors
    /// [`StartError::GuardMissing`] without a `chat4all` binary, [`StartError::Spawn`] if the system refuses. A program
    /// that does not exist shows as an exit with code 126 and a line in `output`.
    pub async fn spawn(launch: Launch) -> Result<Self, StartError> {
        let guard = chat4all_program()?;
        let name = launch.name.clone();
        let (answer, started) = oneshot::channel();
        let job = Job {
            command: command(&guard, launch)?,
            name: name.clone(),
            answer,
        };
        SPAWNER.send(job).expect("the spawner thread never ends");
        started
            .await
            .expect("the spawner answers every job")
            .map_err(|source| StartError::Spawn {
                program: name,
                source,
            })
    }

    /// The process id, which does not change when the guard becomes the program.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// How it ended, `None` while it runs.
    pub fn status(&self) -> Option<ExitStatus> {
        *self.exited.borrow()
    }

    /// Ends when the process has ended; independent of the handle's life.
    pub fn exited(&self) -> impl Future<Output = ExitStatus> + Send + 'static {
        let mut exited = self.exited.clone();
        async move {
            let status = exited
                .wait_for(Option::is_some)
                .await
                .expect("the waiter sends before it ends");
            status.expect("just checked")
        }
    }

    /// Sends a signal, if the process still runs.
    pub fn signal(&self, signal: Signal) {
        let ended = lock(&self.ended);
        if ended.is_none() {
            // Only fails if the process has just ended, which is what every caller wants or does not mind.
            let _ = kill_process(raw(self.pid), signal);
        }
    }

    /// Asks the process to end with `signal`, kills it after `grace`, and returns when it is gone.
    ///
    /// # Errors
    /// [`StopError`] if it had to be killed.
    pub async fn stop(&self, signal: Signal, grace: Duration) -> Result<(), StopError> {
        self.signal(signal);
        // A suspended process acts on nothing.
        self.signal(Signal::CONT);
        if tokio::time::timeout(grace, self.exited()).await.is_ok() {
            return Ok(());
        }
        self.kill().await;
        Err(StopError {
            program: self.name.clone(),
            grace,
        })
    }

    /// Kills the process with `SIGKILL`; returns when it is gone.
    pub async fn kill(&self) {
        self.signal(Signal::KILL);
        self.exited().await;
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
        let deadline = Instant::now() + DROP_PATIENCE;
        while self.status().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(1));
        }
    }
}

struct Job {
    command: Command,
    name: String,
    answer: oneshot::Sender<io::Result<Process>>,
}

/// The parent-death signal comes when the *thread* that started the child ends, so one thread starts them all and
/// lives as long as this process.
static SPAWNER: LazyLock<mpsc::Sender<Job>> = LazyLock::new(|| {
    let (jobs, queue) = mpsc::channel::<Job>();
    thread::Builder::new()
        .name("spawner".into())
        .spawn(move || {
            for Job {
                mut command,
                name,
                answer,
            } in queue
            {
                // A caller that has gone away drops the process, which kills it.
                let _ = answer.send(command.spawn().map(|child| watched(name, child)));
            }
        })
        .expect("the system gives us a thread");
    jobs
});

/// Waits for `child` on a thread of its own.
fn watched(name: String, mut child: Child) -> Process {
    let pid = child.id();
    let ended = Arc::new(Mutex::new(None));
    let (sender, exited) = watch::channel(None);
    let process = Process {
        name,
        pid,
        ended: Arc::clone(&ended),
        exited,
    };
    thread::spawn(move || {
        // First look without collecting it: the pid is not given to another process before the lock is held.
        while waitid(
            WaitId::Pid(raw(pid)),
            WaitIdOptions::EXITED | WaitIdOptions::NOWAIT,
        )
        .is_err_and(|error| error == rustix::io::Errno::INTR)
        {}
        let mut ended = lock(&ended);
        let status = child
            .wait()
            .expect("a child of ours that nobody else waits for");
        *ended = Some(status);
        sender.send_replace(Some(status));
    });
    process
}

fn command(guard: &Path, launch: Launch) -> Result<Command, StartError> {
    let Launch {
        program,
        arguments,
        environment,
        directory,
        run_as,
        death_signal,
        input,
        output,
        ..
    } = launch;
    let errors = output
        .try_clone()
        .map_err(StartError::file("share the log of", &program))?;
    let mut command = Command::new(guard);
    command
        .arg("guard")
        .arg(format!("--parent={}", std::process::id()))
        .arg(format!("--death-signal={}", death_signal.as_str()));
    if let Some(id) = run_as {
        command.arg(format!("--become-id={id}"));
    }
    command
        .arg("--")
        .arg(program)
        .args(arguments)
        .envs(environment)
        .current_dir(directory)
        .stdin(input.map_or_else(Stdio::null, Stdio::from))
        .stdout(output)
        .stderr(errors)
        .process_group(0);
    Ok(command)
}

/// The `chat4all` binary: this one, or the one that was built beside the test that is running.
///
/// # Errors
/// [`StartError::GuardMissing`], when only the test was built.
pub fn chat4all_program() -> Result<PathBuf, StartError> {
    let own =
        std::env::current_exe().map_err(StartError::file("find", "the running executable"))?;
    // target/<profile>/chat4all for target/<profile>/deps/it-<hash> and for itself.
    let found = own
        .ancestors()
        .skip(1)
        .take(2)
        .map(|dir| dir.join("chat4all"))
        .find(|path| path.is_file());
    found.ok_or(StartError::GuardMissing { near: own })
}

fn raw(pid: u32) -> Pid {
    let pid = i32::try_from(pid).expect("pids are small and positive");
    Pid::from_raw(pid).expect("a child's pid is not 0")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing inside can be left half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

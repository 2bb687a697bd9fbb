//! A running `chat4all up`, as its user has it: a process and its `env` file.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use chat4all_cli::embedded::{chat4all_program, children_of};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

const FIRST_PORT: u16 = 10_000;
/// Above those for HTTP and the simulator.
const NATS_ABOVE: u16 = 60;
/// As `up` does it.
const SIMULATOR_ABOVE: u16 = 20;

fn first_port() -> u16 {
    FIRST_PORT + u16::try_from(std::process::id() % 200).unwrap() * 100
}

/// A `chat4all up`, killed at the end of the test.
pub struct Up {
    pub child: Child,
    pub output: BufReader<ChildStdout>,
    /// What it said until it ran.
    pub said: String,
    dir: PathBuf,
}

impl Up {
    /// The command, on ports of its own, with nothing of the surrounding shell.
    ///
    /// Each process of tests looks for them in a hundred of its own, below those that the system gives to clients: the port
    /// of a part that was killed must not be taken by somebody else's before it is started again.
    pub fn command(dir: &Path) -> Command {
        let http = first_port();
        let mut command = Command::new(chat4all_program().unwrap());
        command
            .arg("up")
            .arg("--dir")
            .arg(dir)
            .args(["--http-port", &http.to_string()])
            .args(["--nats-port", &(http + NATS_ABOVE).to_string()]);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name == "UP_EXIT" || (name.starts_with("CHAT4ALL_") && name != "CHAT4ALL_TOOLS") {
                command.env_remove(name);
            }
        }
        command.stdin(Stdio::null());
        command
    }

    /// Where its simulator is going to be, unless somebody has that port.
    pub fn simulator() -> String {
        format!("http://127.0.0.1:{}", first_port() + SIMULATOR_ABOVE)
    }

    /// Returns when it says that it runs.
    pub fn start(dir: &Path, mut command: Command) -> Self {
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let mut up = Self {
            child,
            output,
            said: String::new(),
            dir: dir.to_owned(),
        };
        let mut seen = String::new();
        while !seen.contains("running") {
            let read = up.output.read_line(&mut seen).unwrap();
            assert!(read > 0, "up ended: {seen}");
        }
        up.said = seen;
        up
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What a shell would have after `. env`.
    pub fn variables(&self) -> BTreeMap<String, String> {
        let script = format!(
            "unset $(env | grep -o '^CHAT4ALL_[A-Z0-9_]*') X; . '{}/env'; env -0",
            self.dir.display()
        );
        let output = Command::new("sh").args(["-c", &script]).output().unwrap();
        let text = String::from_utf8(output.stdout).unwrap();
        let ours = text
            .split('\0')
            .filter(|line| line.starts_with("CHAT4ALL_"));
        ours.filter_map(|line| line.split_once('='))
            .map(|(n, v)| (n.to_owned(), v.to_owned()))
            .collect()
    }

    /// The process of a role or server, by what it was started as.
    pub fn process(&self, name: &str) -> Option<u32> {
        children_of(self.pid())
            .into_iter()
            .find(|pid| is(*pid, name))
    }

    /// How it ends, and what else it said.
    pub fn wait(mut self) -> (ExitStatus, String) {
        let deadline = Instant::now() + Duration::from_secs(60);
        let status = loop {
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => assert!(Instant::now() < deadline, "up still runs after a minute"),
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let mut said = String::new();
        self.output.read_to_string(&mut said).unwrap();
        (status, said)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is(pid: u32, name: &str) -> bool {
    let cmdline = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let mut words = cmdline
        .split(|byte| *byte == 0)
        .map(String::from_utf8_lossy);
    let program = words.next().unwrap_or_default();
    let first = words.next().unwrap_or_default();
    program.rsplit('/').next() == Some(name) || (program.ends_with("chat4all") && first == name)
}

pub fn send(pid: u32, signal: Signal) {
    // One that has just ended is as good as one that got the signal.
    let _ = kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal);
}

/// What a `chat4all` command that has to succeed prints.
#[track_caller]
pub fn printed(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// What a `chat4all` command that has to succeed answers, as JSON.
pub async fn answer(mut command: Command) -> Value {
    let printed = tokio::task::spawn_blocking(move || printed(&mut command));
    serde_json::from_str(&printed.await.unwrap()).unwrap()
}

/// An account's row in what `chat4all channels ls --json` says.
pub fn row_of(rows: &Value, account: &str) -> Value {
    let mut rows = rows.as_array().unwrap().iter();
    rows.find(|row| row["account"] == account).unwrap().clone()
}

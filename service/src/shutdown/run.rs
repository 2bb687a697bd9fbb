//! A role's life: start, wait for a reason to stop, give it time, and say truly how it ended.

use std::error::Error;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::process::ExitCode;
use std::time::Duration;

use futures::FutureExt;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;
use tracing::{error, info, warn};

use super::Shutdown;
use crate::chain::Chain;

/// How long those who listen to the hard stage may take to return.
const LAST_MOMENT: Duration = Duration::from_secs(1);

/// How a role ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Everything was finished. Exit code 0.
    Clean,
    /// The role or one of its tasks failed. Exit code 1.
    Failed,
    /// The grace was not enough, or a second signal came; work was dropped. Exit code 2.
    Forced,
}

impl From<Outcome> for ExitCode {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Clean => Self::SUCCESS,
            Outcome::Failed => Self::from(1),
            Outcome::Forced => Self::from(2),
        }
    }
}

/// Runs a role until it ends or a signal asks it to, and returns the exit code that is true.
///
/// The role should return soon after [`Shutdown::soft`]; its spawned tasks are waited for. `grace` is how long both may
/// take together.
pub async fn run<F, Fut, E>(role: &'static str, grace: Duration, main: F) -> Outcome
where
    F: FnOnce(Shutdown) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let (sender, signals) = mpsc::channel(4);
    let listener = TaskTracker::new();
    let (mut interrupt, mut terminate) = match (
        signal(SignalKind::interrupt()),
        signal(SignalKind::terminate()),
    ) {
        (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
        (Err(error), _) | (_, Err(error)) => {
            error!(error = %Chain(&error), "cannot listen to signals");
            return Outcome::Failed;
        }
    };
    let listening = listener.spawn(async move {
        loop {
            let name = tokio::select! {
                _ = interrupt.recv() => "SIGINT",
                _ = terminate.recv() => "SIGTERM",
            };
            if sender.send(name).await.is_err() {
                return;
            }
        }
    });
    let outcome = supervise(role, grace, signals, main).await;
    listening.abort();
    outcome
}

/// [`run`], with signals from wherever the caller says.
async fn supervise<F, Fut, E>(
    role: &'static str,
    grace: Duration,
    mut signals: mpsc::Receiver<&'static str>,
    main: F,
) -> Outcome
where
    F: FnOnce(Shutdown) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let shutdown = Shutdown::new();
    info!(role, "starting `{role}`");
    let main = Box::pin(AssertUnwindSafe(main(shutdown.clone())).catch_unwind());
    let tasks = shutdown.clone();
    // The role and then its tasks: an ended role leaves its tasks nothing to work for.
    let mut life = Box::pin(async move {
        let ended = main.await;
        tasks.stop();
        tasks.tasks_ended().await;
        ended
    });

    let ended = tokio::select! {
        ended = &mut life => Some(ended),
        Some(signal) = signals.recv() => {
            info!(role, signal, "{signal}: stopping `{role}`; a second one forces it");
            None
        }
        () = shutdown.soft().cancelled() => None,
    };
    shutdown.stop();
    let ended = match ended {
        Some(ended) => Some(ended),
        None => tokio::select! {
            ended = &mut life => Some(ended),
            () = tokio::time::sleep(grace) => {
                warn!(role, grace_ms = grace.as_millis(), "the grace is over; dropping what is left");
                None
            }
            Some(signal) = signals.recv() => {
                warn!(role, signal, "{signal} again; dropping what is left");
                None
            }
        },
    };
    let Some(ended) = ended else {
        shutdown.hard().cancel();
        let in_time = timeout(LAST_MOMENT, life).await.is_ok();
        warn!(role, in_time, "`{role}` was forced to stop");
        return Outcome::Forced;
    };
    conclude(role, &shutdown, ended)
}

fn conclude<E>(
    role: &'static str,
    shutdown: &Shutdown,
    ended: Result<Result<(), E>, Box<dyn std::any::Any + Send>>,
) -> Outcome
where
    E: Into<Box<dyn Error + Send + Sync>>,
{
    match ended {
        Ok(Ok(())) if shutdown.deaths() == 0 => {
            info!(role, "`{role}` stopped");
            Outcome::Clean
        }
        Ok(Ok(())) => {
            error!(
                role,
                deaths = shutdown.deaths(),
                "`{role}` stopped because a task died"
            );
            Outcome::Failed
        }
        Ok(Err(cause)) => {
            let cause = cause.into();
            error!(role, error = %Chain(&*cause), "`{role}` failed");
            Outcome::Failed
        }
        Err(_panic) => {
            error!(role, "`{role}` panicked");
            Outcome::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    const GRACE: Duration = Duration::from_secs(20);

    async fn until_soft(shutdown: Shutdown) -> io::Result<()> {
        shutdown.soft().cancelled().await;
        Ok(())
    }

    #[tokio::test(start_paused = true)]
    async fn a_signal_lets_work_in_flight_finish() {
        let (signal, signals) = mpsc::channel(4);
        signal.send("SIGTERM").await.unwrap();
        let (done, finished) = tokio::sync::oneshot::channel();
        let outcome = supervise("test", GRACE, signals, |shutdown| {
            let soft = shutdown.soft().clone();
            shutdown.spawn("worker", async move {
                soft.cancelled().await;
                tokio::time::sleep(GRACE / 2).await;
                done.send(()).map_err(|()| "nobody listens")
            });
            until_soft(shutdown)
        })
        .await;
        assert_eq!(outcome, Outcome::Clean);
        finished.await.expect("the work was finished");
    }

    #[tokio::test(start_paused = true)]
    async fn the_end_of_the_grace_forces_the_stop_and_the_exit_code_says_so() {
        let (signal, signals) = mpsc::channel(4);
        signal.send("SIGTERM").await.unwrap();
        let begin = tokio::time::Instant::now();
        let outcome = supervise("test", GRACE, signals, |shutdown| {
            shutdown.spawn("stuck", std::future::pending::<io::Result<()>>());
            until_soft(shutdown)
        })
        .await;
        assert_eq!(outcome, Outcome::Forced);
        assert_eq!(
            begin.elapsed(),
            GRACE,
            "a stuck task is dropped at once when the grace ends"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_second_signal_does_not_wait_for_the_grace() {
        let (signal, signals) = mpsc::channel(4);
        signal.send("SIGINT").await.unwrap();
        signal.send("SIGINT").await.unwrap();
        let begin = tokio::time::Instant::now();
        let outcome = supervise("test", GRACE, signals, |shutdown| async move {
            shutdown.hard().cancelled().await;
            io::Result::Ok(())
        })
        .await;
        assert_eq!(outcome, Outcome::Forced);
        assert!(begin.elapsed() < LAST_MOMENT, "{:?}", begin.elapsed());
    }

    #[tokio::test(start_paused = true)]
    async fn a_task_that_dies_stops_the_role_and_is_not_forgotten() {
        for panics in [false, true] {
            let (_signal, signals) = mpsc::channel(4);
            let outcome = supervise("test", GRACE, signals, |shutdown| {
                shutdown.spawn("mortal", async move {
                    assert!(!panics, "as the test wants");
                    Err::<(), _>(io::Error::other("no more"))
                });
                until_soft(shutdown)
            })
            .await;
            assert_eq!(outcome, Outcome::Failed, "panics: {panics}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_role_that_ends_by_itself_stops_its_tasks() {
        let (_signal, signals) = mpsc::channel(4);
        let outcome = supervise("test", GRACE, signals, |shutdown| {
            let worker = until_soft(shutdown.clone());
            shutdown.spawn("worker", worker);
            async { io::Result::Ok(()) }
        })
        .await;
        assert_eq!(outcome, Outcome::Clean);
        let (_signal, signals) = mpsc::channel(4);
        let failing = |_| async { Err::<(), _>(io::Error::other("cannot start")) };
        assert_eq!(
            supervise("test", GRACE, signals, failing).await,
            Outcome::Failed
        );
    }
}

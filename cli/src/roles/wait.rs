//! Waiting for the log: a role may be started before its broker, or before somebody has made the log there. It then waits,
//! and readiness says for what. Only what waiting does not mend ends the process.

use std::time::Duration;

use chat4all_nats::{Log, connect};
use chat4all_service::health::Checks;
use chat4all_service::{Chain, Config};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::tool::{broker_config, layout, nats_place};

/// The pause after the first vain try; doubled each time, up to [`LONGEST_PAUSE`].
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// The longest pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// How often it is said what is missing.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// Why there is no log.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is no connection.
    #[error(transparent)]
    Connect(#[from] connect::Error),
    /// There is a broker, and no log of ours on it.
    #[error(transparent)]
    Open(#[from] chat4all_nats::log::Error),
}

impl Error {
    fn passes(&self) -> bool {
        match self {
            Self::Connect(error) => error.passes(),
            Self::Open(error) => error.passes(),
        }
    }
}

/// A role that has no log yet. The check `nats` is red, and says what is missing, from the first moment until somebody
/// registers another one: make it before anybody can ask.
#[derive(Debug)]
pub struct Waiting(watch::Sender<String>);

impl Waiting {
    /// Makes `checks` red.
    pub fn begin(checks: &Checks) -> Self {
        let missing = watch::Sender::new("not connected to NATS yet".to_owned());
        let seen = missing.subscribe();
        checks.register("nats", move || {
            let missing = seen.borrow().clone();
            async move { Err(missing) }
        });
        Self(missing)
    }

    /// The log, as soon as it is there. Drop it to give up.
    ///
    /// # Errors
    /// Only what waiting does not mend: wrong credentials, a log that was made for other partitions.
    pub async fn for_log(&self, config: &Config, name: &str) -> Result<Log, Error> {
        let (mut pause, mut said) = (FIRST_PAUSE, None::<Instant>);
        loop {
            let error = match open(config, name).await {
                Ok(log) => {
                    if said.is_some() {
                        info!("the log is there");
                    }
                    let nearly = "connected; the role is not at work yet".to_owned();
                    self.0.send_replace(nearly);
                    return Ok(log);
                }
                Err(error) if error.passes() => error,
                Err(error) => return Err(error),
            };
            let place = nats_place(config);
            self.0
                .send_replace(format!("waiting for {place}: {}", Chain(&error)));
            if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
                warn!(error = %Chain(&error), "waiting for {place}");
                said = Some(Instant::now());
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

async fn open(config: &Config, name: &str) -> Result<Log, Error> {
    let client = connect::connect(&broker_config(config, name)).await?;
    Ok(Log::open(client, &layout(config)).await?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn who_waits_for_the_log_is_not_ready_before_it_has_looked_for_it() {
        let checks = Checks::new("projector");
        checks.register("postgres", || async { Ok(()) });
        let _waiting = Waiting::begin(&checks);
        let report = checks.report().await;
        assert!(!report.ready());
        assert_eq!(
            report.needed["nats"],
            Err("not connected to NATS yet".to_owned())
        );
    }
}

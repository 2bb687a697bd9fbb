//! Waiting for the log: a role may be started before its broker, or before somebody has made the log there. It then waits,
//! and readiness says for what. Only what waiting does not mend ends the process.

use std::time::Duration;

use chat4all_nats::{Log, connect};
use chat4all_service::health::Checks;
use chat4all_service::{Chain, Config};
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{info, warn};

use crate::tool::{broker_config, layout};

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

/// The log, as soon as it is there. Until somebody registers another, the check `nats` is red and says what is missing.
/// Drop it to give up.
///
/// # Errors
/// Only what waiting does not mend: wrong credentials, a log that was made for other partitions.
pub async fn for_log(config: &Config, name: &str, checks: &Checks) -> Result<Log, Error> {
    let missing = watch::Sender::new("not connected to NATS yet".to_owned());
    let seen = missing.subscribe();
    checks.register("nats", move || {
        let missing = seen.borrow().clone();
        async move { Err(missing) }
    });
    let (mut pause, mut said) = (FIRST_PAUSE, None::<Instant>);
    loop {
        let error = match open(config, name).await {
            Ok(log) => {
                if said.is_some() {
                    info!("the log is there");
                }
                missing.send_replace("connected; the role is not at work yet".to_owned());
                return Ok(log);
            }
            Err(error) if error.passes() => error,
            Err(error) => return Err(error),
        };
        missing.send_replace(format!("waiting: {}", Chain(&error)));
        if said.is_none_or(|at| at.elapsed() >= SAY_EVERY) {
            warn!(error = %Chain(&error), "waiting for NATS");
            said = Some(Instant::now());
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(LONGEST_PAUSE);
    }
}

async fn open(config: &Config, name: &str) -> Result<Log, Error> {
    let client = connect::connect(&broker_config(config, name)).await?;
    Ok(Log::open(client, &layout(config)).await?)
}

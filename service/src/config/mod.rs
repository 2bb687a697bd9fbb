//! The configuration of the whole system: one documented tree, the same for every role.
//!
//! Defaults stand in the code, a TOML file goes over them, variables go over both (`nats.url` is `CHAT4ALL_NATS__URL`).
//! Whatever is wrong is reported at once: each mistake with its key, its variable, what was found and what would be
//! right. Unknown keys and variables are mistakes too, so that a misspelt setting cannot be silently ignored.
//! Every role reads and checks the whole configuration: what one role would trip over is found by the first that starts.

mod channels;
mod effective;
mod mistake;
mod raw;
mod reader;
mod reference;
mod rules;
mod section;
mod sections;
mod source;
mod spec;
#[cfg(test)]
mod tests;
mod types;

use std::collections::BTreeMap;
use std::path::PathBuf;

pub use channels::{Channel, WhatsApp};
pub use effective::Effective;
pub use mistake::{Mistake, Mistakes};
pub use reader::Entry;
pub use reference::reference;
pub use sections::{
    Auth, Bridges, Http, Ids, Live, Log, Nats, Postgres, Projector, Shutdown, Telemetry,
};
pub use source::{Origin, Sources};
pub use types::{LogFormat, Milliseconds, Poison, Seconds, Sync, Unsure};

use reader::{Reader, Report};

/// The configuration is of no use as it is.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The named file cannot be read.
    #[error("failed to read the configuration file {}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// The file is not TOML; nothing in it can be judged before that is put right.
    #[error("{} is not TOML: {place}", path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// Where and why, without the text found there.
        place: String,
    },
    /// Settings are missing, wrong or unknown.
    #[error(transparent)]
    Mistakes(#[from] Mistakes),
}

/// Everything that can be set.
#[derive(Clone, Debug)]
pub struct Config {
    /// The broker.
    pub nats: Nats,
    /// The log on it.
    pub log: Log,
    /// The read models' database.
    pub postgres: Postgres,
    /// The servers' common manners.
    pub http: Http,
    /// Who may call.
    pub auth: Auth,
    /// The secret behind derived ids.
    pub ids: Ids,
    /// Logs and traces.
    pub telemetry: Telemetry,
    /// Events in, rows out.
    pub projector: Projector,
    /// The outside world.
    pub bridges: Bridges,
    /// Subscriptions, server-sent events and notifications.
    pub live: Live,
    /// How a role stops.
    pub shutdown: Shutdown,
    /// Accounts at providers, by the account's id.
    pub channels: BTreeMap<String, Channel>,
}

/// A configuration without mistakes, and where each value came from.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The settings.
    pub config: Config,
    /// Each setting with its documentation and origin.
    pub entries: Vec<Entry>,
}

impl Loaded {
    /// For `chat4all config`: every value that holds and who set it, secrets hidden.
    pub fn effective(&self) -> Effective<'_> {
        Effective::new(&self.entries)
    }
}

impl Config {
    /// Reads and checks the whole configuration.
    ///
    /// # Errors
    /// [`Error::Syntax`] if the file is not TOML; otherwise [`Error::Mistakes`] with *everything* that is wrong.
    pub fn load(sources: &Sources) -> Result<Loaded, Error> {
        let mut leaves = sources.leaves()?;
        let mut report = Report::default();
        let config = Self::read(&mut Reader::new(&mut leaves, &mut report));
        let known: Vec<&str> = report
            .entries
            .iter()
            .map(|entry| entry.key.as_str())
            .collect();
        for (key, leaf) in leaves {
            let nearest = mistake::nearest(&key, known.iter().copied());
            report.mistakes.push(Mistake::Unknown {
                key,
                origin: leaf.origin,
                nearest,
            });
        }
        report.mistakes.extend(rules::check(&report.entries));
        match config {
            Some(config) if report.mistakes.is_empty() => Ok(Loaded {
                config,
                entries: report.entries,
            }),
            _ => Err(Mistakes(report.mistakes).into()),
        }
    }

    fn read(reader: &mut Reader<'_>) -> Option<Self> {
        // Every section is read before any is given up, so that all mistakes come up.
        let nats = Nats::read(&mut reader.section("nats"));
        let log = Log::read(&mut reader.section("log"));
        let postgres = Postgres::read(&mut reader.section("postgres"));
        let http = Http::read(&mut reader.section("http"));
        let auth = Auth::read(&mut reader.section("auth"));
        let ids = Ids::read(&mut reader.section("ids"));
        let telemetry = Telemetry::read(&mut reader.section("telemetry"));
        let projector = Projector::read(&mut reader.section("projector"));
        let bridges = Bridges::read(&mut reader.section("bridges"));
        let live = Live::read(&mut reader.section("live"));
        let shutdown = Shutdown::read(&mut reader.section("shutdown"));
        let channels = channels::read(&mut reader.section("channels"));
        Some(Self {
            nats: nats?,
            log: log?,
            postgres: postgres?,
            http: http?,
            auth: auth?,
            ids: ids?,
            telemetry: telemetry?,
            projector: projector?,
            bridges: bridges?,
            live: live?,
            shutdown: shutdown?,
            channels: channels?,
        })
    }
}

//! `chat4all doctor`: what is wrong with a configuration or with a running system, in sentences.
//!
//! It looks, and changes nothing. Each finding says what would be right and which command or variable mends it. What cannot
//! be looked at, because something before it is broken, is left out; the rest is looked at all the same.

mod accounts;
mod broker;
mod finding;
mod models;
mod readers;
mod roles;
mod settings;
mod streams;

use std::collections::BTreeSet;
use std::process::ExitCode;

use chat4all_nats::{Client, Log};
use chat4all_postgres::checkpoint;
use chat4all_service::Config;
use clap::Args;
use serde_json::json;
use url::Url;

pub use finding::{Area, Finding, Weight};

use super::{Common, layout, line};

/// Flags of `chat4all doctor`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all doctor                                            configuration, servers, readers, channels, the role here
  chat4all doctor --role http://10.0.0.5:8080 --role http://10.0.0.6:8080
  chat4all doctor --only config --config new.toml            a file, before anything is started with it
  chat4all doctor --only roles                               is the role that listens on http.listen ready? A health check
  chat4all doctor --json | jq -r '.findings[].mend'

Changes nothing. When a reader is behind it looks twice, two seconds apart, to see whether it moves.
Exit code: 0 nothing is wrong (there may be notices), 1 something is, and each says what mends it.")]
pub struct DoctorCommand {
    #[command(flatten)]
    common: Common,
    /// Look at this only; may be repeated.
    #[arg(long, value_enum, value_name = "AREA")]
    only: Vec<Area>,
    /// A running role to ask, by its URL; may be repeated. [default: the one that listens on http.listen]
    #[arg(long, value_name = "URL")]
    role: Vec<Url>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Looks and says what it has found.
///
/// # Errors
/// The configuration file cannot be read, or standard output is closed.
pub async fn run(command: &DoctorCommand) -> anyhow::Result<ExitCode> {
    let mut seen = Seen::new(command);
    match settings::read(&command.common)? {
        Ok(config) => {
            seen.add(Area::Config, settings::notices(&config));
            look(&config, command, &mut seen).await;
        }
        Err(mistakes) => seen.add(Area::Config, mistakes),
    }
    seen.tell(command.json)?;
    Ok(if seen.is_well() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Everything that was asked for and can be looked at.
async fn look(config: &Config, command: &DoctorCommand, seen: &mut Seen) {
    let mut client = None;
    if seen.wants_any(&[
        Area::Broker,
        Area::Log,
        Area::ReadModels,
        Area::Readers,
        Area::Channels,
    ]) {
        let (connected, found) = broker::look(config).await;
        // Without a broker there is nothing else to say of it, whatever was asked for.
        if connected.is_none() {
            seen.looked_at.insert(Area::Broker);
            seen.findings.extend(found);
        } else {
            seen.add(Area::Broker, found);
        }
        client = connected;
    }
    let log = match &client {
        Some(client) => look_at_the_log(config, client, seen).await,
        None => None,
    };
    let mut rows = None;
    if seen.wants_any(&[Area::ReadModels, Area::Readers]) {
        let (checkpoints, found) = models::look(config, log.as_ref()).await;
        seen.add(Area::ReadModels, found);
        rows = checkpoints;
    }
    if let Some(log) = &log
        && seen.wants(Area::Readers)
    {
        let found = readers::look(config, log, rows.as_ref()).await;
        seen.add(Area::Readers, found);
    }
    if let Some(client) = &client
        && seen.wants(Area::Channels)
    {
        seen.add(
            Area::Channels,
            accounts::look(config, client, log.as_ref()).await,
        );
    }
    if seen.wants(Area::Roles) {
        // Whoever asks for nothing else wants an answer; for others the roles may run on other machines.
        let must_answer = !command.role.is_empty() || command.only == [Area::Roles];
        let found = roles::look(config, &command.role, must_answer).await;
        seen.add(Area::Roles, found);
    }
}

async fn look_at_the_log(config: &Config, client: &Client, seen: &mut Seen) -> Option<Log> {
    let whole = streams::look(&Log::context(client), &layout(config)).await;
    let is_whole = whole.is_whole;
    seen.add(Area::Log, whole.findings);
    if !is_whole {
        return None;
    }
    Log::open(client.clone(), &layout(config)).await.ok()
}

/// Where the read models stand, if they could be asked.
type Checkpoints = std::collections::BTreeMap<chat4all_domain::Partition, checkpoint::Checkpoint>;

/// What was looked at, and found.
struct Seen {
    only: Vec<Area>,
    looked_at: BTreeSet<Area>,
    findings: Vec<Finding>,
}

impl Seen {
    fn new(command: &DoctorCommand) -> Self {
        Self {
            only: command.only.clone(),
            looked_at: BTreeSet::new(),
            findings: Vec::new(),
        }
    }

    fn wants(&self, area: Area) -> bool {
        // Settings with mistakes are of no use to any other look.
        self.only.is_empty() || area == Area::Config || self.only.contains(&area)
    }

    fn wants_any(&self, areas: &[Area]) -> bool {
        areas.iter().any(|area| self.wants(*area))
    }

    fn add(&mut self, area: Area, found: Vec<Finding>) {
        if self.wants(area) {
            self.looked_at.insert(area);
            self.findings.extend(found);
        }
    }

    fn is_well(&self) -> bool {
        self.findings.iter().all(|one| one.weight != Weight::Wrong)
    }

    /// Prints the findings, what is wrong first.
    fn tell(&mut self, json: bool) -> anyhow::Result<()> {
        self.findings.sort_by_key(|one| (one.weight, one.area));
        if json {
            line(json!({
                "well": self.is_well(),
                "looked_at": self.looked_at,
                "findings": self.findings,
            }))?;
            return Ok(());
        }
        for finding in &self.findings {
            line(finding)?;
        }
        let areas: Vec<_> = self.looked_at.iter().map(|area| area.name()).collect();
        let count = |weight| {
            self.findings
                .iter()
                .filter(|one| one.weight == weight)
                .count()
        };
        line(format_args!(
            "looked at: {}; {} wrong, {} to know",
            areas.join(", "),
            count(Weight::Wrong),
            count(Weight::Notice)
        ))?;
        Ok(())
    }
}

//! `chat4all restore`: a backup into a broker that has nothing of ours.
//!
//! Every checksum is compared before the first byte is written. Each stream is there as a whole or not at all, and carries
//! the backup's mark until all of them are there: in between nobody opens the log, and the same command goes on where it
//! was killed. At the end the marks say that it is complete, that of the first partition last: a restore that is repeated
//! after that finds nothing left to do.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use async_nats::jetstream;
use chat4all_domain::{IdSecret, PartitionCount, Timestamp};
use chat4all_nats::backup::{self, Mark, State, Upload};
use chat4all_nats::streams::Layout;
use chat4all_nats::{Client, Log};
use chat4all_service::{Config, clock};
use clap::Args;
use secrecy::ExposeSecret as _;

use super::backup::{Kept, Manifest, Tell, Verified};
use super::{Common, broker, layout, say};

/// How long one question to the broker may take, while it restores.
const TIMEOUT: Duration = Duration::from_secs(30);

/// Flags of `chat4all restore`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all restore /backup/2026-11-22     into the broker of the configuration; stop every role first
  chat4all restore --json /backup/2026-11-22

The broker must have no streams of Chat4All. ids.secret and log.partitions must be those of the backup. Killed half-way, it
goes on when it is started again; until then no role starts on that broker. What was accepted after the backup began may be
missing, and what was handed to a provider after it may be handed over again. Then: chat4all provision, and the roles.
Exit code: 0 everything is there, 1 it is not; what was wrong is said, and a broker that had something is as it was. 130
interrupted: start it again.")]
pub struct RestoreCommand {
    #[command(flatten)]
    common: Common,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The backup.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Restores, and says what comes next.
///
/// # Errors
/// The backup is damaged or of another installation, the broker is not empty or does not answer.
pub async fn run(command: &RestoreCommand) -> anyhow::Result<()> {
    let tell = Tell { json: command.json };
    let config = command.common.load()?.config;
    let verified = Verified::open(&command.dir, tell).await?;
    let layout = layout(&config);
    fits(verified.manifest(), &layout, &id_secret(&config)?)?;
    let target = Target {
        client: broker(&config, "restore").await?,
        layout,
    };
    let done = target.restore(&verified, tell).await?;
    tell_done(command, verified.manifest(), &done)
}

fn tell_done(command: &RestoreCommand, manifest: &Manifest, done: &Done) -> anyhow::Result<()> {
    let (restored, met) = match done {
        Done::Before => (&[][..], 0),
        Done::Now { restored, met } => (&restored[..], *met),
    };
    if command.json {
        say(serde_json::json!({
            "backup": manifest.id, "restored": restored, "identities_met_again": met,
            "messages": manifest.messages(), "begun_at": manifest.begun_at,
            "was_complete": matches!(done, Done::Before),
        }))?;
        return Ok(());
    }
    if matches!(done, Done::Before) {
        say(format_args!(
            "complete   this broker was restored from {} before; nothing was changed",
            command.dir.display()
        ))?;
        return Ok(());
    }
    if met > 0 {
        say(format_args!(
            "completed  {met} identities whose first contact fell into the minutes of the backup"
        ))?;
    }
    say(format_args!(
        "restored   {}: {} messages, everything accepted before {}",
        command.dir.display(),
        manifest.messages(),
        manifest.begun_at
    ))?;
    say(
        "next       chat4all provision, then the roles; `chat4all lag` shows how the read models catch up",
    )?;
    Ok(())
}

/// The installation's id secret.
///
/// # Errors
/// None that the configuration's own check lets through.
pub fn id_secret(config: &Config) -> anyhow::Result<IdSecret> {
    IdSecret::from_hex(config.ids.secret.expose_secret()).context("ids.secret")
}

/// Whether the backup is one of this installation.
fn fits(manifest: &Manifest, layout: &Layout, secret: &IdSecret) -> anyhow::Result<()> {
    ensure!(
        manifest.id_secret == secret.fingerprint_of_itself(),
        "the backup was made with another ids.secret; set the one that was kept with it: with any other, everybody known is a \
         stranger"
    );
    let (ours, theirs) = (layout.partitions.get(), manifest.partitions);
    ensure!(
        ours == theirs,
        "the backup has {theirs} partitions, log.partitions says {ours}; set it to {theirs}"
    );
    ensure!(
        manifest.hash == PartitionCount::HASH,
        "the backup's ids are spread by {}, this release spreads them by {}",
        manifest.hash,
        PartitionCount::HASH
    );
    let held: Vec<_> = manifest.streams.iter().map(|kept| &kept.name).collect();
    let wanted = backup::contents(layout);
    ensure!(
        held.iter().copied().eq(&wanted),
        "the backup holds {held:?}, this release needs {wanted:?}; restore it with the release that made it, {}",
        manifest.made_by
    );
    Ok(())
}

/// What a restore did.
enum Done {
    /// All of it was there, from the same backup.
    Before,
    /// It is there.
    Now {
        /// The streams that were made now; others had been, by a restore that was cut off.
        restored: Vec<String>,
        /// How many identities were met again.
        met: usize,
    },
}

/// The stream whose mark is changed last.
fn last_marked(layout: &Layout) -> String {
    let first = layout.partitions.all().next().expect("at least one");
    chat4all_nats::streams::name(first)
}

/// The broker to restore into.
struct Target {
    client: Client,
    layout: Layout,
}

impl Target {
    async fn restore(&self, verified: &Verified, tell: Tell) -> anyhow::Result<Done> {
        let js = jetstream::context::ContextBuilder::new()
            .timeout(TIMEOUT)
            .build(self.client.clone());
        let manifest = verified.manifest();
        let id = manifest.id.to_string();
        let there = backup::present(&js, &self.layout).await.map_err(|error| {
            anyhow::anyhow!(error).context("the broker does not say what it has")
        })?;
        let last = last_marked(&self.layout);
        let all = || {
            manifest
                .streams
                .iter()
                .all(|kept| there.contains_key(&kept.name))
        };
        if there.get(&last) == Some(&Mark::Restored(id.clone())) && all() {
            Log::provision(self.client.clone(), &self.layout).await?;
            return Ok(Done::Before);
        }
        let missing = missing(manifest, &there)?;
        let mut restored = Vec::new();
        for kept in &manifest.streams {
            let state = if missing.contains(&kept.name.as_str()) {
                restored.push(kept.name.clone());
                self.upload(verified, kept, &id).await?
            } else {
                held(&js, &kept.name).await?
            };
            compare(kept, state)?;
            tell.say(format_args!(
                "restored   {:<20} {:>10} messages, {} to {}",
                kept.name, state.messages, state.first_seq, state.last_seq
            ))?;
        }
        let now = Timestamp::from(clock::now());
        let since = manifest.since();
        let met = backup::identities(&self.client, &self.layout, &id, &since, now).await?;
        self.open_to_everybody(&js, manifest).await?;
        // What needs no backup; the operator's `provision` does the same.
        Log::provision(self.client.clone(), &self.layout).await?;
        Ok(Done::Now { restored, met })
    }

    /// Changes the marks. The log can be opened only when no mark says that it is being restored, and that of the first
    /// partition is changed last: until then the same restore goes on, and afterwards it knows that it is done.
    async fn open_to_everybody(
        &self,
        js: &jetstream::Context,
        manifest: &Manifest,
    ) -> anyhow::Result<()> {
        let last = last_marked(&self.layout);
        let others = manifest.streams.iter().map(|kept| kept.name.as_str());
        let others = others.filter(|name| *name != last);
        for stream in others.chain([last.as_str()]) {
            let done = backup::complete(js, stream).await;
            done.map_err(|error| anyhow::anyhow!(error).context(format!("stream {stream}")))?;
        }
        Ok(())
    }

    async fn upload(&self, verified: &Verified, kept: &Kept, id: &str) -> anyhow::Result<State> {
        let copy = (kept.config.clone(), kept.state);
        let (client, replicas) = (&self.client, self.layout.replicas);
        let mut upload = Upload::begin(client, &kept.name, copy, replicas, id).await?;
        let mut pieces = verified.pieces(kept)?;
        // The checksum is compared once more: a stream is made only of what was verified.
        while let Some(piece) = pieces.next()? {
            upload.send(piece).await?;
        }
        Ok(upload.finish().await?)
    }
}

/// What is to be made on a broker that has `there`.
fn missing<'a>(
    manifest: &'a Manifest,
    there: &BTreeMap<String, Mark>,
) -> anyhow::Result<Vec<&'a str>> {
    let names = || there.keys().cloned().collect::<Vec<_>>().join(" ");
    let id = manifest.id.to_string();
    let begun = there
        .values()
        .any(|mark| matches!(mark, Mark::Restoring(_)));
    if !there.is_empty() && !begun {
        bail!(
            "the broker is not empty: it has {}. A backup is restored into a broker without streams of Chat4All; nothing was \
             changed",
            names()
        );
    }
    let other = there.values().find_map(|mark| match mark {
        Mark::Restoring(other) | Mark::Restored(other) if *other != id => Some(other),
        Mark::Restoring(_) | Mark::Restored(_) | Mark::None => None,
    });
    if let Some(other) = other {
        bail!(
            "the broker has a part of another backup ({other}): {}. Go on with that one, or begin with an empty broker; \
             nothing was changed",
            names()
        );
    }
    let all = manifest.streams.iter().map(|kept| kept.name.as_str());
    Ok(all.filter(|name| !there.contains_key(*name)).collect())
}

/// What a stream of the broker holds now.
async fn held(js: &jetstream::Context, stream: &str) -> anyhow::Result<State> {
    let found = js.get_stream(stream).await?;
    let state = &found.cached_info().state;
    Ok(State {
        messages: state.messages,
        bytes: state.bytes,
        first_seq: state.first_sequence,
        last_seq: state.last_sequence,
    })
}

/// Nothing of the copy may be missing, and a partition has no holes.
fn compare(kept: &Kept, found: State) -> anyhow::Result<()> {
    let partition = kept.name.starts_with("EVT-");
    ensure!(
        found.can_come_from(&kept.state) && (!partition || found.is_whole()),
        "stream {} is not what the backup holds: {found:?} instead of {:?}; begin again with an empty broker",
        kept.name,
        kept.state
    );
    Ok(())
}

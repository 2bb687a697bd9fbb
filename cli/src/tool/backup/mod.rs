//! `chat4all backup`: everything that cannot be made again, copied while the system runs, with checksums.
//!
//! A backup is a directory: one file per stream, `manifest.json` saying what they hold, and `SHA256SUMS` over all of it. It
//! is written beside its name, as `<name>.partial`, and gets its name when all of it is on the disk: what has the name is
//! whole, what does not was interrupted. Texts and addresses are in it, secrets are not.

mod directory;
mod manifest;
mod take;
mod verified;

use std::path::PathBuf;

use clap::Args;

pub use manifest::{Kept, Manifest};
pub use verified::Verified;

use super::{Common, Unheard, broker, layout, say};

/// Flags of `chat4all backup`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all backup /backup/$(date +%F)             while everything runs; the directory must not exist yet
  chat4all backup --verify /backup/2026-11-22     reads every byte and compares checksums; needs neither broker nor configuration
  chat4all backup --json /backup/$(date +%F) | jq '.streams[] | {name, last: .state.last_seq}'

A backup holds everything that was accepted before it began, and of what came while it ran a beginning, partition by
partition. It holds texts, names and addresses: encrypt it. It does not hold ids.secret and the configuration, without
which it is of little use: keep them, elsewhere.
Exit code: 0 there is a backup (with --verify: it is intact), 1 there is none; an interrupted one ends in .partial.")]
pub struct BackupCommand {
    #[command(flatten)]
    common: Common,
    /// Compare an existing backup with its checksums instead of making one.
    #[arg(long)]
    verify: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// The directory to make.
    #[arg(value_name = "DIR")]
    dir: PathBuf,
}

/// Makes a backup, or verifies one.
///
/// # Errors
/// The broker does not answer, there is no log, the disk is full, or something is there already; what was written is gone.
/// With `--verify`: what is wrong with the backup.
pub async fn run(command: &BackupCommand) -> anyhow::Result<()> {
    let tell = Tell { json: command.json };
    let (manifest, word) = if command.verify {
        let verified = Verified::open(&command.dir, tell).await?;
        (verified.into_manifest(), "intact")
    } else {
        let config = command.common.load()?.config;
        let client = broker(&config, "backup").await?;
        let id_secret = super::restore::id_secret(&config)?;
        let from = take::From {
            client,
            layout: layout(&config),
            id_secret,
        };
        (take::take(&from, &command.dir, tell).await?, "complete")
    };
    if command.json {
        say(serde_json::to_string(&manifest)?)?;
    } else {
        say(format_args!(
            "{word}   {}: {} messages in {} streams, begun {}",
            command.dir.display(),
            manifest.messages(),
            manifest.streams.len(),
            manifest.begun_at,
        ))?;
    }
    Ok(())
}

/// How to talk to whoever watches.
#[derive(Clone, Copy, Debug)]
pub struct Tell {
    /// Programs get one object at the end and nothing before.
    pub json: bool,
}

impl Tell {
    /// Says what has been done. Nobody needs to listen.
    ///
    /// # Errors
    /// The disk behind standard output is full.
    pub fn say(self, text: std::fmt::Arguments<'_>) -> Result<(), Unheard> {
        if self.json { Ok(()) } else { say(text) }
    }
}

//! What a backup says about itself.

use std::collections::BTreeMap;

use anyhow::{Context as _, ensure};
use chat4all_domain::{Fingerprint, Partition};
use chat4all_nats::backup::State;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use uuid::Uuid;

/// The manifest's file.
pub const MANIFEST: &str = "manifest.json";
/// Checksums of everything else, as `sha256sum -c` reads them.
pub const SUMS: &str = "SHA256SUMS";
/// What kind of directory it is.
const FORMAT: &str = "chat4all-backup";
/// The manifest's version that this release writes, and the newest it reads.
const VERSION: u32 = 1;

/// `manifest.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// `chat4all-backup`.
    format: String,
    /// The manifest's own version.
    version: u32,
    /// Names this backup.
    pub id: Uuid,
    /// The release that made it.
    pub made_by: String,
    /// The broker's release.
    pub broker: String,
    /// Everything accepted before is in it. RFC 3339.
    pub begun_at: String,
    /// When the last stream was copied. RFC 3339.
    pub ended_at: String,
    /// How many partitions the log has.
    pub partitions: u8,
    /// How ids are spread over them.
    pub hash: String,
    /// Tells the id secret from others.
    pub id_secret: Fingerprint,
    /// Where each partition's stream ended when the backup began.
    pub since: BTreeMap<String, u64>,
    /// The streams, in the order they were copied.
    pub streams: Vec<Kept>,
}

/// One stream in a backup.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kept {
    /// The stream.
    pub name: String,
    /// The file beside the manifest.
    pub file: String,
    /// Its size.
    pub bytes: u64,
    /// SHA-256 of it, 64 hexadecimal digits.
    pub sha256: String,
    /// What it holds.
    pub state: State,
    /// The stream's configuration, in the broker's words.
    pub config: Value,
}

impl Manifest {
    /// One without streams.
    pub fn begin(
        broker: String,
        begun_at: String,
        (partitions, hash): (u8, &str),
        id_secret: Fingerprint,
        since: BTreeMap<String, u64>,
    ) -> Self {
        Self {
            format: FORMAT.to_owned(),
            version: VERSION,
            id: Uuid::now_v7(),
            made_by: env!("CARGO_PKG_VERSION").to_owned(),
            broker,
            begun_at,
            ended_at: String::new(),
            partitions,
            hash: hash.to_owned(),
            id_secret,
            since,
            streams: vec![],
        }
    }

    /// Reads `manifest.json`.
    ///
    /// # Errors
    /// It is not one, or newer than this release.
    pub fn read(bytes: &[u8]) -> anyhow::Result<Self> {
        let value: Value = serde_json::from_slice(bytes).context("it is not JSON")?;
        ensure!(
            value["format"] == FORMAT,
            "it does not describe a backup of Chat4All"
        );
        ensure!(
            value["version"] == VERSION,
            "it is of version {}, this release reads version {VERSION}; use the release that made it, {}",
            value["version"],
            value["made_by"]
        );
        serde_json::from_value(value).context("it is not complete")
    }

    /// All streams' messages.
    pub fn messages(&self) -> u64 {
        self.streams.iter().map(|kept| kept.state.messages).sum()
    }

    /// Where each partition ended when the backup began.
    pub fn since(&self) -> BTreeMap<Partition, u64> {
        let known = self.since.iter().filter_map(|(stream, last)| {
            let number = stream.strip_prefix("EVT-")?.parse().ok()?;
            Some((Partition::new(number)?, *last))
        });
        known.collect()
    }
}

#[cfg(test)]
mod tests {
    use chat4all_domain::IdSecret;
    use serde_json::json;

    use super::*;

    fn manifest() -> Manifest {
        let secret = IdSecret::new([7; 32]).fingerprint_of_itself();
        let since = BTreeMap::from([("EVT-00".to_owned(), 7)]);
        Manifest::begin("2.15.1".into(), "t".into(), (8, "fnv1a-32"), secret, since)
    }

    #[test]
    fn a_manifest_reads_back() {
        let written = serde_json::to_vec(&manifest()).unwrap();
        let read = Manifest::read(&written).unwrap();
        assert_eq!(serde_json::to_vec(&read).unwrap(), written);
        assert_eq!(read.since(), [(Partition::new(0).unwrap(), 7)].into());
    }

    #[test]
    fn what_this_release_cannot_read_is_refused_in_words() {
        let whole = serde_json::to_value(manifest()).unwrap();
        let with = |field: &str, value: Value| {
            let mut changed = whole.clone();
            changed[field] = value;
            format!(
                "{:#}",
                Manifest::read(changed.to_string().as_bytes()).unwrap_err()
            )
        };
        assert!(with("version", json!(2)).contains("it is of version 2"));
        assert!(with("format", json!("x")).contains("does not describe a backup"));
        assert!(with("streams", json!(1)).contains("it is not complete"));
        assert!(with("more", json!(1)).contains("it is not complete"));
        let cut = &whole.to_string()[..40];
        assert!(format!("{:#}", Manifest::read(cut.as_bytes()).unwrap_err()).contains("not JSON"));
    }
}

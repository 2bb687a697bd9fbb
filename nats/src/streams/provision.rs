//! Making what is missing on the broker, and telling what differs.

use async_nats::jetstream::stream::{Compression, Config};
use async_nats::jetstream::{self, context::GetStreamErrorKind};
use chat4all_domain::Partition;

use crate::backup;

use super::{HASH_KEY, Layout, PARTITIONS_KEY, definitions, name};

/// One setting that is not what this installation would have made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Drift {
    /// The stream.
    pub stream: String,
    /// The setting.
    pub setting: &'static str,
    /// What it would have been.
    pub wanted: String,
    /// What it is.
    pub found: String,
}

/// What provisioning found and did.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// Streams that were made.
    pub created: Vec<String>,
    /// Settings that differ and were left as they are.
    pub drift: Vec<Drift>,
}

/// Why provisioning stopped.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Positions and revisions would point elsewhere.
    #[error(
        "stream {stream} was made for {setting} = {found}, this configuration says {wanted}; \
         set it back: sequences depend on it and it cannot be changed once events exist"
    )]
    Incompatible {
        /// The stream.
        stream: String,
        /// What differs for ever.
        setting: &'static str,
        /// What the configuration says.
        wanted: String,
        /// What the stream says.
        found: String,
    },
    /// A restore has begun and has not ended.
    #[error(
        "stream {stream} is from a restore that is not complete; end it with `chat4all restore` and the same backup \
         ({backup})"
    )]
    Restoring {
        /// The stream.
        stream: String,
        /// The backup's id.
        backup: String,
    },
    /// The broker did not do it.
    #[error("failed to set up stream {stream}")]
    Broker {
        /// The stream.
        stream: String,
        /// Why not.
        #[source]
        source: async_nats::Error,
    },
}

/// Makes what is missing, compares what is there.
///
/// # Errors
/// [`Error::Incompatible`] when the log was made for other partitions; [`Error::Restoring`] when only a part of it is there;
/// [`Error::Broker`] when the broker refuses or is away.
pub async fn provision(js: &jetstream::Context, layout: &Layout) -> Result<Report, Error> {
    let mut report = Report::default();
    refuse_half_a_log(js, layout).await?;
    for wanted in definitions(layout) {
        let broken = |source: async_nats::Error| Error::Broker {
            stream: wanted.name.clone(),
            source,
        };
        match js.get_stream(&wanted.name).await {
            Ok(stream) => {
                let found = &stream.cached_info().config;
                compatible(&wanted, found)?;
                report.drift.extend(drift(&wanted, found));
            }
            Err(error) if is_missing(&error) => {
                js.create_stream(wanted.clone())
                    .await
                    .map_err(|error| broken(error.into()))?;
                report.created.push(wanted.name);
            }
            Err(error) => return Err(broken(error.into())),
        }
    }
    refuse_a_stream_too_many(js, layout).await?;
    Ok(report)
}

/// Half of a log, completed with empty streams, would be taken for a whole.
async fn refuse_half_a_log(js: &jetstream::Context, layout: &Layout) -> Result<(), Error> {
    for stream in backup::contents(layout) {
        match js.get_stream(&stream).await {
            Ok(found) => not_restoring(&found.cached_info().config, None)?,
            Err(error) if is_missing(&error) => {}
            Err(error) => {
                let source = error.into();
                return Err(Error::Broker { stream, source });
            }
        }
    }
    Ok(())
}

/// Refuses a stream of a restore that is not complete, unless it is that of `backup`.
pub(crate) fn not_restoring(found: &Config, backup: Option<&str>) -> Result<(), Error> {
    match found.metadata.get(backup::RESTORING) {
        Some(of) if backup != Some(of.as_str()) => Err(Error::Restoring {
            stream: found.name.clone(),
            backup: of.clone(),
        }),
        Some(_) | None => Ok(()),
    }
}

/// Fewer partitions than there are streams would hash ids to other places than before.
pub(super) async fn refuse_a_stream_too_many(
    js: &jetstream::Context,
    layout: &Layout,
) -> Result<(), Error> {
    let Some(next) = Partition::new(layout.partitions.get()) else {
        return Ok(());
    };
    let stream = name(next);
    match js.get_stream(&stream).await {
        Ok(found) => Err(Error::Incompatible {
            stream,
            setting: PARTITIONS_KEY,
            wanted: layout.partitions.get().to_string(),
            found: metadata(&found.cached_info().config, PARTITIONS_KEY),
        }),
        Err(error) if is_missing(&error) => Ok(()),
        Err(error) => Err(Error::Broker {
            stream,
            source: error.into(),
        }),
    }
}

pub(super) fn is_missing(error: &jetstream::context::GetStreamError) -> bool {
    matches!(error.kind(), GetStreamErrorKind::JetStream(e)
        if e.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND)
}

fn metadata(config: &Config, key: &str) -> String {
    config
        .metadata
        .get(key)
        .cloned()
        .unwrap_or_else(|| "nothing".to_owned())
}

/// Refuses a stream whose sequences mean something else.
pub(crate) fn compatible(wanted: &Config, found: &Config) -> Result<(), Error> {
    for setting in [PARTITIONS_KEY, HASH_KEY] {
        let (want, have) = (wanted.metadata.get(setting), metadata(found, setting));
        if let Some(want) = want
            && *want != have
        {
            let stream = wanted.name.clone();
            return Err(Error::Incompatible {
                stream,
                setting,
                wanted: want.clone(),
                found: have,
            });
        }
    }
    Ok(())
}

/// Every other difference that matters, setting by setting.
pub(super) fn drift(wanted: &Config, found: &Config) -> Vec<Drift> {
    let mut all = Vec::new();
    let mut compare = |setting, want: String, have: String| {
        if want != have {
            let stream = wanted.name.clone();
            all.push(Drift {
                stream,
                setting,
                wanted: want,
                found: have,
            });
        }
    };
    let shown = |value: &dyn std::fmt::Debug| format!("{value:?}");
    compare("subjects", shown(&wanted.subjects), shown(&found.subjects));
    compare(
        "retention",
        shown(&wanted.retention),
        shown(&found.retention),
    );
    compare("storage", shown(&wanted.storage), shown(&found.storage));
    compare(
        "replicas",
        shown(&wanted.num_replicas),
        shown(&found.num_replicas),
    );
    compare("discard", shown(&wanted.discard), shown(&found.discard));
    compare("max_bytes", limit(wanted.max_bytes), limit(found.max_bytes));
    compare(
        "max_messages",
        limit(wanted.max_messages),
        limit(found.max_messages),
    );
    compare(
        "max_msgs_per_subject",
        limit(wanted.max_messages_per_subject),
        limit(found.max_messages_per_subject),
    );
    compare("max_age", shown(&wanted.max_age), shown(&found.max_age));
    compare(
        "max_msg_size",
        limit(wanted.max_message_size.into()),
        limit(found.max_message_size.into()),
    );
    compare(
        "deny_delete",
        shown(&wanted.deny_delete),
        shown(&found.deny_delete),
    );
    compare(
        "deny_purge",
        shown(&wanted.deny_purge),
        shown(&found.deny_purge),
    );
    compare(
        "allow_direct",
        shown(&wanted.allow_direct),
        shown(&found.allow_direct),
    );
    compare(
        "allow_msg_ttl",
        shown(&wanted.allow_message_ttl),
        shown(&found.allow_message_ttl),
    );
    compare("compression", compression(wanted), compression(found));
    compare(
        "persist_mode",
        shown(&wanted.persist_mode.unwrap_or_default()),
        shown(&found.persist_mode.unwrap_or_default()),
    );
    all
}

/// The server writes "no limit" as -1 where we write 0.
fn limit(value: i64) -> String {
    if value <= 0 {
        "unlimited".to_owned()
    } else {
        value.to_string()
    }
}

fn compression(config: &Config) -> String {
    match config.compression {
        Some(Compression::S2) => "s2".to_owned(),
        Some(Compression::None) | None => "none".to_owned(),
    }
}

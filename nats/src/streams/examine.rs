//! Looking at what is on the broker, without changing it.

use async_nats::jetstream;
use async_nats::jetstream::stream::Info;

use super::provision::{Drift, Error, compatible, drift, is_missing, not_restoring};
use super::{Layout, definitions};

/// How one of our streams is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Its name.
    pub stream: String,
    /// What it holds, in bytes.
    pub bytes: u64,
    /// What it may hold; 0 without a limit.
    pub max_bytes: u64,
    /// Whether somebody takes what is to be stored. Always so on one node.
    pub has_leader: bool,
    /// Copies that are away, or behind, by the name of their node.
    pub behind: Vec<String>,
}

impl Standing {
    /// How full it is, in percent; 0 without a limit.
    pub fn percent(&self) -> u64 {
        let percent = self.bytes.saturating_mul(100).checked_div(self.max_bytes);
        percent.unwrap_or(0)
    }
}

/// What was found on the broker.
#[derive(Clone, Debug, Default)]
pub struct Examined {
    /// Streams that are not there.
    pub missing: Vec<String>,
    /// Settings that are not what this installation would have made.
    pub drift: Vec<Drift>,
    /// Those that are there.
    pub standing: Vec<Standing>,
}

/// Compares what is there with what is to be there.
///
/// # Errors
/// [`Error::Incompatible`] when the log was made for other partitions; [`Error::Restoring`] when only a part of it is there;
/// [`Error::Broker`] when the broker does not answer. That a stream has no leader is none, it is in its [`Standing`].
pub async fn examine(js: &jetstream::Context, layout: &Layout) -> Result<Examined, Error> {
    let mut found = Examined::default();
    for wanted in definitions(layout) {
        match js.get_stream(&wanted.name).await {
            Ok(stream) => {
                let info = stream.cached_info();
                not_restoring(&info.config, None)?;
                compatible(&wanted, &info.config)?;
                found.drift.extend(drift(&wanted, &info.config));
                found.standing.push(standing(info));
            }
            Err(error) if is_missing(&error) => found.missing.push(wanted.name),
            Err(error) => {
                let (stream, source) = (wanted.name, error.into());
                return Err(Error::Broker { stream, source });
            }
        }
    }
    match super::provision::refuse_a_stream_too_many(js, layout).await {
        // While nobody leads, nobody can say that a stream is not there; the streams without a leader tell why.
        Err(Error::Broker { .. }) if found.standing.iter().any(|one| !one.has_leader) => {}
        looked => looked?,
    }
    Ok(found)
}

fn standing(info: &Info) -> Standing {
    let cluster = info.cluster.as_ref();
    let away = |peer: &&async_nats::jetstream::stream::PeerInfo| peer.offline || !peer.current;
    let behind = cluster.map(|cluster| cluster.replicas.iter().filter(away));
    Standing {
        stream: info.config.name.clone(),
        bytes: info.state.bytes,
        max_bytes: u64::try_from(info.config.max_bytes).unwrap_or(0),
        has_leader: cluster.is_none_or(|cluster| cluster.leader.is_some()),
        behind: behind.map_or_else(Vec::new, |peers| {
            peers.map(|peer| peer.name.clone()).collect()
        }),
    }
}

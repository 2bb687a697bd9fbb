//! What a feed follows.

use chat4all_domain::Partition;

use crate::streams;

/// What to follow, and under which name.
#[derive(Clone, Debug)]
pub struct Spec {
    /// The stream.
    pub stream: String,
    /// The durable's name, `projector-07`.
    pub durable: String,
    /// What an operator reads about it in `nats consumer info`.
    pub description: String,
    /// One subject (wildcards allowed) of a stream; `None` follows the whole stream.
    pub filter: Option<String>,
    /// What becomes of the consumer when nobody follows.
    pub keep: Keep,
}

/// What becomes of a [`Feed`](super::Feed)'s consumer on the broker when nobody follows any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keep {
    /// It stays, and `nats consumer report` shows how far its readers are.
    Always,
    /// It goes away a minute later: for followers that are many and nameless.
    WhileFollowed,
}

impl Spec {
    /// Follows a whole partition.
    pub fn partition(partition: Partition, durable: String, description: String) -> Self {
        Self {
            stream: streams::name(partition),
            durable,
            description,
            filter: None,
            keep: Keep::Always,
        }
    }
}

//! `Identity`.

use async_graphql::{ID, Object};
use chat4all_postgres::read::identities;

use super::global_id::GlobalId;
use super::scalar::{Moment, Place};
use super::words::ChannelKind;

/// Somebody outside: one for each address.
#[derive(Clone)]
pub struct Identity(pub identities::Identity);

/// Somebody outside: one for each address.
#[Object]
impl Identity {
    /// Names them among all nodes.
    pub async fn id(&self) -> ID {
        GlobalId::Identity(self.0.id).into()
    }
    /// Names them elsewhere.
    async fn identity_id(&self) -> ID {
        ID(self.0.id.to_string())
    }
    /// The kind of channel.
    async fn channel_kind(&self) -> ChannelKind {
        self.0.kind.into()
    }
    /// Their address there.
    async fn address(&self) -> &str {
        self.0.address.reveal()
    }
    /// What they call themselves, if the channel told us.
    async fn name(&self) -> Option<&str> {
        self.0.name.as_ref().map(|name| name.reveal())
    }
    /// When we first met.
    async fn first_seen_at(&self) -> Moment {
        Moment(self.0.first_seen_at)
    }
    /// Where that stands in the log.
    async fn position(&self) -> Place {
        Place(self.0.position)
    }
}

//! `Participant`, and how far one has read.

use async_graphql::{Context, ID, Object, Result};
use chat4all_domain::conversation::Who;
use chat4all_postgres::read::{marks, participants};

use super::error::error;
use super::global_id::GlobalId;
use super::identity::Identity;
use super::scalar::Moment;
use super::words::ChannelKind;
use crate::session::Session;

/// Somebody who is or was in a conversation: a user, or somebody outside.
#[derive(Clone)]
pub struct Participant(pub participants::Participant);

/// Somebody who is or was in a conversation: a user, or somebody outside.
#[Object]
impl Participant {
    /// Names them among all nodes.
    pub async fn id(&self) -> ID {
        GlobalId::Participant(self.0.conversation, self.0.id).into()
    }
    /// Names them within the conversation, in commands and in REST.
    async fn participant_id(&self) -> ID {
        ID(self.0.id.to_string())
    }
    /// The conversation's id in commands and in REST.
    async fn conversation_id(&self) -> ID {
        ID(self.0.conversation.to_string())
    }
    /// A user's id.
    async fn user_id(&self) -> Option<ID> {
        match &self.0.who {
            Who::User { user } => Some(ID(user.to_string())),
            Who::Contact { .. } => None,
        }
    }
    /// Who is behind the address of somebody outside.
    async fn identity(&self, ctx: &Context<'_>) -> Result<Option<Identity>> {
        let Who::Contact { identity, .. } = &self.0.who else {
            return Ok(None);
        };
        let session = ctx.data_unchecked::<Session>();
        let found = session.identity(*identity).await;
        Ok(found.map_err(|p| error(&p))?.map(Identity))
    }
    /// The kind of channel that somebody outside is reached through.
    async fn channel_kind(&self) -> Option<ChannelKind> {
        match &self.0.who {
            Who::User { .. } => None,
            Who::Contact { kind, .. } => Some((*kind).into()),
        }
    }
    /// The account that somebody outside is reached through.
    async fn channel(&self) -> Option<&str> {
        match &self.0.who {
            Who::User { .. } => None,
            Who::Contact { account, .. } => Some(account.as_str()),
        }
    }
    /// The address of somebody outside.
    async fn address(&self) -> Option<&str> {
        self.0.address.as_ref().map(|address| address.reveal())
    }
    /// When they joined, the last time.
    async fn joined_at(&self) -> Option<Moment> {
        self.0.stays.last().map(|stay| Moment(stay.joined_at))
    }
    /// When they left; null while they are in it.
    async fn left_at(&self) -> Option<Moment> {
        let (_, at) = self.0.stays.last()?.left?;
        Some(Moment(at))
    }
}

/// How far a user has read a conversation.
#[derive(Clone)]
pub struct ReadMark(pub marks::Mark);

/// How far a user has read a conversation.
#[Object]
impl ReadMark {
    /// Who reads.
    async fn participant(&self, ctx: &Context<'_>) -> Result<Option<Participant>> {
        let session = ctx.data_unchecked::<Session>();
        let found = session.participant((self.0.conversation, self.0.participant));
        let participant = found.await.map_err(|p| error(&p))?;
        Ok(participant.map(|found| Participant(found.as_ref().clone())))
    }
    /// The reader's id within the conversation.
    async fn participant_id(&self) -> ID {
        ID(self.0.participant.to_string())
    }
    /// The last message that they have seen: everything before it too.
    async fn up_to_message_id(&self) -> ID {
        ID(self.0.message.to_string())
    }
    /// When they came that far.
    async fn read_at(&self) -> Moment {
        Moment(self.0.read_at)
    }
}

//! `Message`.

use async_graphql::{Context, ID, Object, Result, SimpleObject, Union};
use chat4all_domain::message;
use chat4all_postgres::read::deliveries::Tally;
use chat4all_postgres::read::messages;

use super::conversation::Conversation;
use super::delivery::{Delivery, DeliveryEvent};
use super::error::error;
use super::global_id::GlobalId;
use super::participant::{Participant, ReadMark};
use super::scalar::{Moment, Place};
use super::words::{DeliveryStatus, MessageOrigin};
use crate::session::{MessageKey, Session};

/// A message.
#[derive(Clone)]
pub struct Message(pub messages::Message);

impl Message {
    fn key(&self) -> MessageKey {
        (self.0.conversation, self.0.id)
    }
}

/// A message.
#[Object]
impl Message {
    /// Names it among all nodes.
    pub async fn id(&self) -> ID {
        GlobalId::Message(self.0.conversation, self.0.id).into()
    }
    /// Names it within its conversation, in commands and in REST.
    async fn message_id(&self) -> ID {
        ID(self.0.id.to_string())
    }
    /// The conversation's id in commands and in REST.
    async fn conversation_id(&self) -> ID {
        ID(self.0.conversation.to_string())
    }
    /// The conversation it is in.
    async fn conversation(&self, ctx: &Context<'_>) -> Result<Option<Conversation>> {
        let session = ctx.data_unchecked::<Session>();
        let found = session.conversation(self.0.conversation).await;
        Ok(found.map_err(|p| error(&p))?.map(Conversation))
    }
    /// Its place: the order of the conversation, and its cursor.
    async fn position(&self) -> Place {
        Place(self.0.position)
    }
    /// Who wrote it.
    async fn author(&self, ctx: &Context<'_>) -> Result<Option<Participant>> {
        let session = ctx.data_unchecked::<Session>();
        let found = session.participant((self.0.conversation, self.0.author));
        let author = found.await.map_err(|p| error(&p))?;
        Ok(author.map(|author| Participant(author.as_ref().clone())))
    }
    /// How it came to us.
    async fn origin(&self) -> MessageOrigin {
        match self.0.origin {
            message::Origin::Api => MessageOrigin::Api,
            message::Origin::Channel { .. } => MessageOrigin::Channel,
        }
    }
    /// The channel account that received it, when a channel did.
    async fn channel(&self) -> Option<&str> {
        match &self.0.origin {
            message::Origin::Api => None,
            message::Origin::Channel { account } => Some(account.as_str()),
        }
    }
    /// What it says.
    async fn content(&self) -> Content {
        Content::from(&self.0.content)
    }
    /// When it was written; for a channel's message by the provider's clock.
    async fn occurred_at(&self) -> Moment {
        Moment(self.0.occurred_at)
    }
    /// When it was accepted, by ours: from then on it is PENDING.
    async fn recorded_at(&self) -> Moment {
        Moment(self.0.recorded_at)
    }
    /// Deliveries that have not left by then expire.
    async fn valid_until(&self) -> Moment {
        Moment(self.0.valid_until)
    }
    /// The least of its deliveries that have not failed; FAILED only when all have. Null when it goes to nobody outside.
    async fn status(&self, ctx: &Context<'_>) -> Result<Option<DeliveryStatus>> {
        let session = ctx.data_unchecked::<Session>();
        let tally = session.tally(self.key()).await.map_err(|p| error(&p))?;
        Ok(tally.status().map(DeliveryStatus::from))
    }
    /// How many of its deliveries stand where.
    async fn delivery_counts(&self, ctx: &Context<'_>) -> Result<DeliveryCounts> {
        let session = ctx.data_unchecked::<Session>();
        let tally = session.tally(self.key()).await.map_err(|p| error(&p))?;
        Ok(tally.into())
    }
    /// One for each outside recipient, by number.
    #[graphql(complexity = "5 + child_complexity")]
    async fn deliveries(&self, ctx: &Context<'_>) -> Result<Vec<Delivery>> {
        let session = ctx.data_unchecked::<Session>();
        let deliveries = session
            .deliveries(self.key())
            .await
            .map_err(|p| error(&p))?;
        Ok(deliveries.iter().cloned().map(Delivery).collect())
    }
    /// What happened to its deliveries, in order.
    #[graphql(complexity = "5 + child_complexity")]
    async fn history(&self, ctx: &Context<'_>) -> Result<Vec<DeliveryEvent>> {
        let session = ctx.data_unchecked::<Session>();
        let history = session.history(self.key()).await.map_err(|p| error(&p))?;
        let partition = self.0.position.partition;
        let event = |happened| DeliveryEvent(happened, partition);
        Ok(history.iter().cloned().map(event).collect())
    }
    /// The users who have read it, by their marks.
    #[graphql(complexity = "5 + child_complexity")]
    async fn read_by(&self, ctx: &Context<'_>) -> Result<Vec<ReadMark>> {
        let session = ctx.data_unchecked::<Session>();
        let read_by = session.read_by(&self.0).await.map_err(|p| error(&p))?;
        Ok(read_by
            .into_iter()
            .map(|(mark, _)| ReadMark(mark))
            .collect())
    }
}

/// What a message says.
#[derive(Union)]
pub enum Content {
    Text(TextContent),
    Unsupported(UnsupportedContent),
}

impl From<&message::Content> for Content {
    fn from(content: &message::Content) -> Self {
        match content {
            message::Content::Text { text } => Self::Text(TextContent {
                text: text.reveal().to_owned(),
            }),
            message::Content::Unsupported { what } => {
                Self::Unsupported(UnsupportedContent { what: what.clone() })
            }
        }
    }
}

/// Plain text.
#[derive(SimpleObject)]
pub struct TextContent {
    /// As it was written.
    text: String,
}

/// Something that cannot be shown yet.
#[derive(SimpleObject)]
pub struct UnsupportedContent {
    /// The provider's word for it.
    what: String,
}

/// How many of a message's deliveries stand where.
#[derive(SimpleObject)]
pub struct DeliveryCounts {
    pending: u32,
    sent: u32,
    delivered: u32,
    read: u32,
    failed: u32,
}

impl From<Tally> for DeliveryCounts {
    fn from(tally: Tally) -> Self {
        let Tally {
            pending,
            sent,
            delivered,
            read,
            failed,
        } = tally;
        Self {
            pending,
            sent,
            delivered,
            read,
            failed,
        }
    }
}

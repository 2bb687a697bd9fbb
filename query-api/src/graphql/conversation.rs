//! `Conversation`.

use async_graphql::connection::Connection;
use async_graphql::{Context, ID, Object, Result};
use chat4all_postgres::read::conversations;

use super::connection::connection;
use super::error::error;
use super::global_id::GlobalId;
use super::message::Message;
use super::participant::{Participant, ReadMark};
use super::scalar::Moment;
use super::words::ConversationKind;
use crate::session::Session;
use crate::{cursor, page};

/// A conversation, as its reader knows it: who has left knows what was there when they left.
#[derive(Clone)]
pub struct Conversation(pub conversations::Conversation);

/// A conversation, as its reader knows it: who has left knows what was there when they left.
#[Object]
impl Conversation {
    /// Names it among all nodes.
    pub async fn id(&self) -> ID {
        GlobalId::Conversation(self.0.id).into()
    }
    /// Names it in commands and in REST.
    async fn conversation_id(&self) -> ID {
        ID(self.0.id.to_string())
    }
    /// Direct or group.
    async fn kind(&self) -> ConversationKind {
        self.0.kind.into()
    }
    /// What it is called.
    async fn title(&self) -> Option<&str> {
        self.0.title.as_ref().map(|title| title.reveal())
    }
    /// When it was started.
    async fn started_at(&self) -> Moment {
        Moment(self.0.started_at)
    }
    /// The last thing that happened in it: started, joined, left, message. For who has left, when they left.
    async fn last_activity_at(&self) -> Moment {
        Moment(self.0.last_activity_at)
    }
    /// How many messages it has, whether or not they are yours to see. Null for who has left.
    async fn message_count(&self) -> Option<u64> {
        self.0.message_count
    }
    /// Everybody who is or was in it, in the order they first joined.
    #[graphql(complexity = "5 + child_complexity")]
    async fn participants(&self, ctx: &Context<'_>) -> Result<Vec<Participant>> {
        let session = ctx.data_unchecked::<Session>();
        let everybody = session.everybody(self.0.id).await.map_err(|p| error(&p))?;
        Ok(everybody.iter().cloned().map(Participant).collect())
    }
    /// How far users have read it, furthest first.
    #[graphql(complexity = "5 + child_complexity")]
    async fn read_marks(&self, ctx: &Context<'_>) -> Result<Vec<ReadMark>> {
        let session = ctx.data_unchecked::<Session>();
        let marks = session.marks(self.0.id).await.map_err(|p| error(&p))?;
        Ok(marks.iter().cloned().map(ReadMark).collect())
    }
    /// The last of its messages that is yours to see.
    async fn last_message(&self, ctx: &Context<'_>) -> Result<Option<Message>> {
        let session = ctx.data_unchecked::<Session>();
        let range = chat4all_postgres::read::Range {
            after: None,
            before: None,
            size: 1,
            from_end: true,
        };
        let page = session.message_page(self.0.id, range).await;
        Ok(page
            .map_err(|p| error(&p))?
            .items
            .first()
            .cloned()
            .map(Message))
    }
    /// Its messages in their order, those that are yours to see. A cursor stays right while others write.
    #[graphql(complexity = "page::cost(first, last, child_complexity)")]
    async fn messages(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The first so many, 1 to 100; 50 when neither `first` nor `last` is there"
        )]
        first: Option<i64>,
        #[graphql(desc = "Only those behind this cursor")] after: Option<String>,
        #[graphql(desc = "The last so many, 1 to 100")] last: Option<i64>,
        #[graphql(desc = "Only those before this cursor")] before: Option<String>,
    ) -> Result<Connection<String, Message>> {
        let session = ctx.data_unchecked::<Session>();
        let arguments = page::Arguments {
            first,
            after,
            last,
            before,
        };
        let range = page::parse(arguments)
            .and_then(|range| cursor::of_messages(range, self.0.started))
            .map_err(|p| error(&p))?;
        let slice = session.message_page(self.0.id, range).await;
        let slice = slice.map_err(|p| error(&p))?;
        Ok(connection(
            slice.as_ref().clone(),
            |message| message.position.to_string(),
            Message,
        ))
    }
}

//! `Query`: where every read begins. Each field takes `atLeast`, the position of a command whose effect must be seen.

use async_graphql::connection::Connection;
use async_graphql::{Context, ID, Interface, Object, Result};
use chat4all_service::Problem;

use super::connection::connection;
use super::conversation::Conversation;
use super::dead_letter::{DeadLetter, FailedDelivery, ParkedInbound, PoisonEvent};
use super::dead_letter_list::{self, DeadLetterFilter};
use super::error::error;
use super::global_id::{GlobalId, named};
use super::identity::Identity;
use super::message::Message;
use super::participant::Participant;
use super::scalar::Place;
use super::words::DeadLetterKind;
use crate::cursor::ConversationCursor;
use crate::session::Session;
use crate::{cursor, page};

/// What a list of dead letters costs beside its items: it may ask each store of each kind.
const DEAD_LETTERS_COST: usize = 20;

/// Anything that has a global id.
#[derive(Interface)]
#[graphql(field(name = "id", ty = "ID", desc = "Names it among all nodes."))]
pub enum Node {
    Conversation(Conversation),
    Message(Message),
    Participant(Participant),
    Identity(Identity),
    FailedDelivery(FailedDelivery),
    PoisonEvent(PoisonEvent),
    ParkedInbound(ParkedInbound),
}

/// Reads. What is not yours to see is answered as if it did not exist.
pub struct Query;

/// Reads. What is not yours to see is answered as if it did not exist.
#[Object]
impl Query {
    /// The conversations you are or were in, or all with the scope `conversations:read:all`; latest activity first.
    #[graphql(complexity = "page::cost(first, last, child_complexity)")]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the field's arguments in the schema"
    )]
    async fn conversations(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The first so many, 1 to 100; 50 when neither `first` nor `last` is there"
        )]
        first: Option<i64>,
        #[graphql(desc = "Only those behind this cursor")] after: Option<String>,
        #[graphql(desc = "The last so many, 1 to 100")] last: Option<i64>,
        #[graphql(desc = "Only those before this cursor")] before: Option<String>,
        #[graphql(
            default,
            desc = "Only those you are or were in, whatever else you may see"
        )]
        mine: bool,
        #[graphql(desc = "Wait until everything up to here can be seen, at most 5 seconds")]
        at_least: Option<Place>,
    ) -> Result<Connection<String, Conversation>> {
        let arguments = page::Arguments {
            first,
            after,
            last,
            before,
        };
        let page = async {
            let session = open(ctx, at_least).await?;
            let range = cursor::of_conversations(page::parse(arguments)?);
            session.conversation_page(mine, range).await
        };
        let slice = page.await.map_err(|p| error(&p))?;
        Ok(connection(
            slice,
            |conversation| ConversationCursor::from(conversation).to_string(),
            Conversation,
        ))
    }

    /// One conversation.
    async fn conversation(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its `conversationId` or its `id`")] id: ID,
        #[graphql(desc = "Wait until everything up to here can be seen, at most 5 seconds")]
        at_least: Option<Place>,
    ) -> Result<Option<Conversation>> {
        let found = async {
            let session = open(ctx, at_least).await?;
            session.conversation(named("id", &id)?).await
        };
        Ok(found.await.map_err(|p| error(&p))?.map(Conversation))
    }

    /// One message.
    async fn message(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The conversation's `conversationId` or `id`")] conversation_id: ID,
        #[graphql(desc = "The message's `messageId` or `id`")] message_id: ID,
        #[graphql(desc = "Wait until everything up to here can be seen, at most 5 seconds")]
        at_least: Option<Place>,
    ) -> Result<Option<Message>> {
        let found = async {
            let session = open(ctx, at_least).await?;
            let conversation = named("conversationId", &conversation_id)?;
            let message = named("messageId", &message_id)?;
            session.message((conversation, message)).await
        };
        Ok(found.await.map_err(|p| error(&p))?.map(Message))
    }

    /// The people outside with whom you share or shared a conversation, or all with the scope `conversations:read:all`.
    #[graphql(complexity = "page::cost(first, last, child_complexity)")]
    async fn identities(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "The first so many, 1 to 100; 50 when neither `first` nor `last` is there"
        )]
        first: Option<i64>,
        #[graphql(desc = "Only those behind this cursor")] after: Option<String>,
        #[graphql(desc = "The last so many, 1 to 100")] last: Option<i64>,
        #[graphql(desc = "Only those before this cursor")] before: Option<String>,
        #[graphql(desc = "Wait until everything up to here can be seen, at most 5 seconds")]
        at_least: Option<Place>,
    ) -> Result<Connection<String, Identity>> {
        let arguments = page::Arguments {
            first,
            after,
            last,
            before,
        };
        let page = async {
            let session = open(ctx, at_least).await?;
            session.identity_page(page::parse(arguments)?).await
        };
        let slice = page.await.map_err(|p| error(&p))?;
        Ok(connection(
            slice,
            |identity| identity.id.to_string(),
            Identity,
        ))
    }

    /// One of them.
    async fn identity(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Their `identityId` or `id`")] id: ID,
        #[graphql(desc = "Wait until everything up to here can be seen, at most 5 seconds")]
        at_least: Option<Place>,
    ) -> Result<Option<Identity>> {
        let found = async {
            let session = open(ctx, at_least).await?;
            session.identity(named("id", &id)?).await
        };
        Ok(found.await.map_err(|p| error(&p))?.map(Identity))
    }

    /// What somebody must look at, with the scope `dead-letters:read`: one kind behind the other, each newest first. A cursor
    /// stays right while others arrive. A kind whose store is away is left out: then `errors` has an entry with `left_out`.
    #[graphql(complexity = "page::cost(first, last, child_complexity) + DEAD_LETTERS_COST")]
    #[expect(
        clippy::too_many_arguments,
        reason = "they are the field's arguments in the schema"
    )]
    async fn dead_letters(
        &self,
        ctx: &Context<'_>,
        #[graphql(
            desc = "Only these kinds, in this order; all of them when it is not there: POISON_EVENT, PARKED_INBOUND, \
                    FAILED_DELIVERY"
        )]
        kinds: Option<Vec<DeadLetterKind>>,
        #[graphql(desc = "Only those that all of this holds for")] filter: Option<DeadLetterFilter>,
        #[graphql(
            desc = "The first so many, 1 to 100; 50 when neither `first` nor `last` is there"
        )]
        first: Option<i64>,
        #[graphql(desc = "Only those behind this cursor")] after: Option<String>,
        #[graphql(desc = "The last so many, 1 to 100")] last: Option<i64>,
        #[graphql(desc = "Only those before this cursor")] before: Option<String>,
        #[graphql(
            desc = "Wait until everything up to here can be seen, at most 5 seconds; says nothing about PARKED_INBOUND, \
                    which is always as it is now"
        )]
        at_least: Option<Place>,
    ) -> Result<Connection<String, DeadLetter>> {
        let arguments = page::Arguments {
            first,
            after,
            last,
            before,
        };
        dead_letter_list::answer(ctx, kinds, filter, arguments, at_least).await
    }

    /// Anything by its global id.
    async fn node(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "The `id` of a node")] id: ID,
        #[graphql(desc = "Wait until everything up to here can be seen, at most 5 seconds")]
        at_least: Option<Place>,
    ) -> Result<Option<Node>> {
        let found = async {
            let id = GlobalId::parse(&id);
            if id.is_some_and(GlobalId::is_dead_letter) {
                let session = ctx.data_unchecked::<Session>();
                let at_least = at_least.map(|place| place.0);
                return load(session.open_dead_letters(at_least).await?, id).await;
            }
            load(open(ctx, at_least).await?, id).await
        };
        found.await.map_err(|p| error(&p))
    }
}

async fn open<'c>(ctx: &Context<'c>, at_least: Option<Place>) -> Result<&'c Session, Problem> {
    let session = ctx.data_unchecked::<Session>();
    session.open(at_least.map(|place| place.0)).await
}

async fn load(session: &Session, id: Option<GlobalId>) -> Result<Option<Node>, Problem> {
    Ok(match id {
        None => None,
        Some(GlobalId::Conversation(id)) => session
            .conversation(id)
            .await?
            .map(|found| Node::Conversation(Conversation(found))),
        Some(GlobalId::Message(conversation, id)) => session
            .message((conversation, id))
            .await?
            .map(|found| Node::Message(Message(found))),
        Some(GlobalId::Participant(conversation, id)) => session
            .participant((conversation, id))
            .await?
            .map(|found| Node::Participant(Participant(found.as_ref().clone()))),
        Some(GlobalId::Identity(id)) => session
            .identity(id)
            .await?
            .map(|found| Node::Identity(Identity(found))),
        Some(GlobalId::FailedDelivery(conversation, message, n)) => session
            .failed_delivery((conversation, message, n))
            .await?
            .map(|found| Node::FailedDelivery(FailedDelivery(found))),
        Some(GlobalId::PoisonEvent(position)) => session
            .poison_event(position)
            .await?
            .map(|found| Node::PoisonEvent(PoisonEvent(found))),
        Some(GlobalId::ParkedInbound(sequence)) => session
            .parked_inbound(sequence)
            .await?
            .map(|found| Node::ParkedInbound(ParkedInbound(found))),
    })
}

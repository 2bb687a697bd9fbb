//! Subscriptions: what happens, as it happens, resumable behind a cursor.

use async_graphql::{Context, Error, ID, Result, Subscription};
use chat4all_service::auth::Caller;
use futures::{Stream, StreamExt};

use super::dead_letter_notice::DeadLetterUpdate;
use super::error::error;
use super::global_id::named;
use super::live_event::ConversationUpdate;
use crate::live::{Live, Topic, Update, ended};

/// Who watches, and what follows the log for them.
pub struct Watch {
    pub live: Live,
    pub caller: Caller,
}

/// What happens, from the log: an update may come before reads show it; `atLeast` with its `position` waits for that. The first
/// update has no events, and the cursor from which the subscription goes on. `after` resumes behind a cursor, without a gap and
/// without a double. A subscriber that does not take what there is gets the error `resync`, with the cursor to resume from.
pub struct Subscriptions;

/// What happens, from the log: an update may come before reads show it; `atLeast` with its `position` waits for that. The first
/// update has no events, and the cursor from which the subscription goes on. `after` resumes behind a cursor, without a gap and
/// without a double. A subscriber that does not take what there is gets the error `resync`, with the cursor to resume from.
#[Subscription(name = "Subscription")]
impl Subscriptions {
    /// Messages, deliveries, read marks, and who joins and leaves, in one conversation that you are in. It ends when you leave.
    async fn conversation_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Its `conversationId` or its `id`")] conversation_id: ID,
        #[graphql(
            desc = "Behind the cursor of an earlier update, or behind a position of this conversation"
        )]
        after: Option<String>,
    ) -> Result<impl Stream<Item = Result<ConversationUpdate>>> {
        let id = named("conversationId", &conversation_id).map_err(|problem| error(&problem))?;
        let updates = updates(ctx, Topic::Conversation(id), after).await?;
        Ok(updates.map(|update| update.map(ConversationUpdate::from)))
    }

    /// The same of all your conversations, or of every one with the scope `conversations:read:all`. What belongs to one
    /// conversation comes in its order.
    async fn my_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Behind the cursor of an earlier update")] after: Option<String>,
    ) -> Result<impl Stream<Item = Result<ConversationUpdate>>> {
        let updates = updates(ctx, Topic::Mine, after).await?;
        Ok(updates.map(|update| update.map(ConversationUpdate::from)))
    }

    /// What becomes a dead letter, with the scope `dead-letters:read`: deliveries that fail, events that this release cannot
    /// read, inbound items that are put aside. `node` has the details.
    async fn dead_letter_events(
        &self,
        ctx: &Context<'_>,
        #[graphql(desc = "Behind the cursor of an earlier update")] after: Option<String>,
    ) -> Result<impl Stream<Item = Result<DeadLetterUpdate>>> {
        let updates = updates(ctx, Topic::DeadLetters, after).await?;
        Ok(updates.map(|update| update.map(DeadLetterUpdate::from)))
    }
}

async fn updates(
    ctx: &Context<'_>,
    topic: Topic,
    after: Option<String>,
) -> Result<impl Stream<Item = Result<Update>> + use<>> {
    let Watch { live, caller } = ctx.data::<Watch>()?;
    let subscription = live.subscribe(caller, topic, after.as_deref()).await;
    let subscription = subscription.map_err(|problem| error(&problem))?;
    let updates = subscription.updates();
    Ok(updates.map(|item| item.map_err(|(end, cursor)| -> Error { error(&ended(end, cursor)) })))
}

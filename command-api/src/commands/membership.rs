//! A conversation as seen by somebody who must be in it.

use chat4all_domain::{Conversation, ConversationId, ParticipantId, UserId};
use chat4all_service::problem::Problem;
use tokio::time::Instant;

use crate::CommandApi;
use crate::problem::{no_such_conversation, of_load};

/// Who `user` is in `conversation`. The cache may say yes; only the leader may say no.
///
/// # Errors
/// 404 when there is no such conversation or the user is not in it, 503 when the log is out of reach.
pub(super) async fn participant(
    api: &CommandApi,
    conversation: ConversationId,
    user: UserId,
    deadline: Instant,
) -> Result<ParticipantId, Problem> {
    let known = api.follower().state(&conversation, deadline).await;
    let known = known.map_err(|error| of_load(&error))?;
    if let Some(participant) = known.state.participant_of(user) {
        return Ok(participant);
    }
    let state = confirmed(api, conversation, deadline).await?;
    state.participant_of(user).ok_or_else(no_such_conversation)
}

/// The conversation as the leader knows it.
///
/// # Errors
/// 503 when the log is out of reach.
pub(super) async fn confirmed(
    api: &CommandApi,
    conversation: ConversationId,
    deadline: Instant,
) -> Result<Conversation, Problem> {
    let loaded = api
        .stores()
        .conversations
        .from_leader(&conversation, deadline)
        .await;
    loaded
        .map(|loaded| loaded.state.clone())
        .map_err(|error| of_load(&error))
}

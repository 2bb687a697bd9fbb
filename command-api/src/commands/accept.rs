//! A draft becomes a message on the log.
//!
//! The hot path is one round trip: the conversation from the cache, one publish under revision 0 of the message's own
//! subject. Nothing is refused from the cache: then the conversation is read from the leader, and then whether the
//! message was accepted before, because somebody who has left still gets the old answer.

use chat4all_domain::{Message, Position, message};
use chat4all_nats::execute::{Assume, Purpose};
use chat4all_service::problem::{Code, Problem};
use tracing::error;

use super::draft::{Draft, Refusal};
use super::membership;
use crate::CommandApi;
use crate::direct::establish;
use crate::problem::{Repeat, mismatch, no_such_conversation, of_execute, of_load};
use crate::request::{Call, Party};

/// The message is on the log.
pub(super) struct Accepted {
    pub position: Position,
    /// It was there before this request.
    pub replay: bool,
}

/// Decides and appends, or finds what was appended before.
///
/// # Errors
/// Refusals confirmed by the leader, and what the log could not do.
pub(super) async fn accept(
    api: &CommandApi,
    call: &Call,
    draft: &Draft,
    repeat: Repeat,
) -> Result<Accepted, Problem> {
    let (conversation, valid_for) = (draft.id.conversation, api.settings().valid_for);
    let known = api.follower().state(&conversation, call.deadline).await;
    let known = known.map_err(|error| of_load(&error))?;
    if let Ok(command) = draft.command(&known.state, call.now, valid_for) {
        return append(api, call, draft, command, repeat).await;
    }
    let confirmed = membership::confirmed(api, conversation, call.deadline).await?;
    let refusal = match draft.command(&confirmed, call.now, valid_for) {
        Ok(command) => return append(api, call, draft, command, repeat).await,
        Err(refusal) => refusal,
    };
    // After the conversation, not before: what was accepted until the author left is seen here.
    if let Some(earlier) = earlier(api, call, draft).await? {
        return Ok(earlier);
    }
    let Some(party) = draft
        .to
        .as_ref()
        .filter(|_| refusal == Refusal::NotAParticipant)
    else {
        return Err(refused(draft, refusal));
    };
    // Before anything is started for a message that cannot be sent.
    if let Party::Contact { kind, .. } = party {
        draft
            .fits(*kind)
            .map_err(|refusal| refused(draft, refusal))?;
    }
    let established = establish(api, call, draft.author, party).await?;
    let command = draft.command(&established.state, call.now, valid_for);
    let command = command.map_err(|refusal| refused(draft, refusal))?;
    append(api, call, draft, command, repeat).await
}

async fn append(
    api: &CommandApi,
    call: &Call,
    draft: &Draft,
    command: message::Command,
    repeat: Repeat,
) -> Result<Accepted, Problem> {
    let store = &api.stores().messages;
    let context = call.context(Purpose::Accept, Assume::Absent);
    let done = api
        .execute(store, &draft.id, (command.name(), command), context)
        .await;
    let done = done.map_err(|error| {
        let problem = of_execute(error, repeat);
        match problem.code() {
            Code::UnknownOutcome => problem.with("message_id", draft.id.message.to_string()),
            _ => problem,
        }
    })?;
    let position = done.created.at(api.log().partition_of(&draft.id));
    Ok(Accepted {
        position,
        replay: done.events.is_empty(),
    })
}

/// The answer to the first request under this id, if there was one.
async fn earlier(
    api: &CommandApi,
    call: &Call,
    draft: &Draft,
) -> Result<Option<Accepted>, Problem> {
    let loaded = api
        .stores()
        .messages
        .from_leader(&draft.id, call.deadline)
        .await;
    let loaded = loaded.map_err(|error| of_load(&error))?;
    match &loaded.state {
        Message::Absent => Ok(None),
        Message::Accepted { fingerprint, .. } if *fingerprint == draft.fingerprint => {
            let position = loaded.created.at(api.log().partition_of(&draft.id));
            Ok(Some(Accepted {
                position,
                replay: true,
            }))
        }
        Message::Accepted { .. } => Err(mismatch()),
    }
}

fn refused(draft: &Draft, refusal: Refusal) -> Problem {
    match refusal {
        Refusal::NotAParticipant => no_such_conversation(),
        Refusal::TooLong { kind } => Problem::field(
            "/content/text",
            format!(
                "the text has {} characters; a recipient is on {kind}, which carries {} at most",
                draft.text.chars(),
                kind.max_text_chars(),
            ),
        ),
        Refusal::NoAddress => {
            let conversation = draft.id.conversation;
            error!(conversation.id = %conversation, "somebody outside has no address in conversation `{conversation}`");
            Problem::internal()
        }
    }
}

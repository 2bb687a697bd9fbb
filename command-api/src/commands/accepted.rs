//! A message that a command refers to.

use std::sync::Arc;

use chat4all_domain::{Message, message};
use chat4all_nats::load::Loaded;
use chat4all_service::problem::Problem;

use crate::CommandApi;
use crate::problem::of_load;
use crate::request::Call;

/// The message, if there is one. What was accepted never changes, so the cache may say it; only the leader may say that there
/// is none.
///
/// # Errors
/// 503 when the log is out of reach.
pub(super) async fn accepted(
    api: &CommandApi,
    call: &Call,
    id: &message::Id,
) -> Result<Option<Arc<Loaded<Message>>>, Problem> {
    let store = &api.stores().messages;
    let exists = |known: &Arc<Loaded<Message>>| matches!(known.state, Message::Accepted { .. });
    if let Some(known) = store.cached(id).filter(exists) {
        return Ok(Some(known));
    }
    let loaded = store.from_leader(id, call.deadline).await;
    Ok(Some(loaded.map_err(|error| of_load(&error))?).filter(exists))
}

//! `GET /v1/conversations` and `GET /v1/conversations/{conversation_id}`.

use axum::extract::State;
use chat4all_domain::ConversationId;
use chat4all_service::Problem;
use chat4all_service::auth::Caller;
use chat4all_service::http::{Json, Path, Query};
use futures::future::try_join_all;
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::{Conversation, Conversations, PageInfo, Problem as ProblemBody, at_least};
use crate::cursor::ConversationCursor;
use crate::session::Session;
use crate::{api, cursor, page, problem};

/// Which part of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListParameters {
    /// The first so many, 1 to 100; 50 unless said.
    first: Option<i64>,
    /// Only those behind this cursor.
    after: Option<String>,
    /// Wait until everything up to this position can be seen, at most 5 seconds.
    at_least: Option<String>,
}

/// What to wait for.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ShowParameters {
    /// Wait until everything up to this position can be seen, at most 5 seconds.
    pub(super) at_least: Option<String>,
}

/// The conversations that the caller is or was in, or all with the scope `conversations:read:all`; latest activity first.
#[utoipa::path(
    get,
    path = "/v1/conversations",
    tag = "conversations",
    params(ListParameters),
    responses(
        (status = 200, description = "A part of the list", body = Conversations),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The scope `conversations:read` is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is not right", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Reads are away, or have not come to `at_least`", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = []))
)]
pub async fn list(
    State(state): State<api::State>,
    caller: Caller,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<Conversations>, Problem> {
    let (session, driver) = Session::new(state.models, caller);
    let read = async {
        session.open(at_least(parameters.at_least)?).await?;
        let range = page::parse::<ConversationCursor>(page::Arguments {
            first: parameters.first,
            after: parameters.after,
            ..page::Arguments::default()
        })?;
        let slice = session
            .conversation_page(false, cursor::of_conversations(range))
            .await?;
        let page_info = PageInfo::of(&slice, |found| ConversationCursor::from(found).to_string());
        let shown = slice.items.iter().map(async |found| {
            let everybody = session.everybody(found.id).await?;
            Ok::<_, Problem>(Conversation::new(found, &everybody))
        });
        Ok(Json(Conversations {
            conversations: try_join_all(shown).await?,
            page_info,
        }))
    };
    driver.drive(read).await
}

/// One conversation.
#[utoipa::path(
    get,
    path = "/v1/conversations/{conversation_id}",
    tag = "conversations",
    params(("conversation_id" = uuid::Uuid, Path, description = "Its id"), ShowParameters),
    responses(
        (status = 200, description = "The conversation", body = Conversation),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The scope `conversations:read` is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is none, or it is not the caller's to see", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is not right", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Reads are away, or have not come to `at_least`", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = []))
)]
pub async fn show(
    State(state): State<api::State>,
    caller: Caller,
    Path(id): Path<ConversationId>,
    Query(parameters): Query<ShowParameters>,
) -> Result<Json<Conversation>, Problem> {
    let (session, driver) = Session::new(state.models, caller);
    let read = async {
        session.open(at_least(parameters.at_least)?).await?;
        let found = session.conversation(id).await?;
        let found = found.ok_or_else(|| problem::not_found("conversation"))?;
        let everybody = session.everybody(id).await?;
        Ok(Json(Conversation::new(&found, &everybody)))
    };
    driver.drive(read).await
}

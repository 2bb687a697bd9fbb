//! `GET /v1/conversations/{conversation_id}/messages` and `…/messages/{message_id}`.

use axum::extract::State;
use chat4all_domain::{ConversationId, MessageId, Position};
use chat4all_service::Problem;
use chat4all_service::auth::Caller;
use chat4all_service::http::{Json, Path, Query};
use futures::future::{try_join, try_join_all};
use futures::try_join;
use serde::Deserialize;
use utoipa::IntoParams;

use super::body::{Message, MessageDetail, Messages, PageInfo, Problem as ProblemBody, at_least};
use super::conversations::ShowParameters;
use crate::session::Session;
use crate::{api, cursor, page, problem};

/// Which part of the list.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
#[serde(deny_unknown_fields)]
pub struct ListParameters {
    /// The first so many, 1 to 100; 50 when neither `first` nor `last` is there.
    first: Option<i64>,
    /// Only those behind this cursor.
    after: Option<String>,
    /// The last so many, 1 to 100.
    last: Option<i64>,
    /// Only those before this cursor.
    before: Option<String>,
    /// Wait until everything up to this position can be seen, at most 5 seconds.
    at_least: Option<String>,
}

/// The messages of a conversation in their order, those that are the caller's to see.
#[utoipa::path(
    get,
    path = "/v1/conversations/{conversation_id}/messages",
    tag = "messages",
    params(("conversation_id" = uuid::Uuid, Path, description = "The conversation"), ListParameters),
    responses(
        (status = 200, description = "A part of the list", body = Messages),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The scope `conversations:read` is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such conversation, or it is not the caller's to see", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is not right", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Reads are away, or have not come to `at_least`", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = []))
)]
pub async fn list(
    State(state): State<api::State>,
    caller: Caller,
    Path(id): Path<ConversationId>,
    Query(parameters): Query<ListParameters>,
) -> Result<Json<Messages>, Problem> {
    let (session, driver) = Session::new(state.models, caller);
    let read = async {
        session.open(at_least(parameters.at_least)?).await?;
        let range = page::parse::<Position>(page::Arguments {
            first: parameters.first,
            after: parameters.after,
            last: parameters.last,
            before: parameters.before,
        })?;
        let conversation = session.conversation(id).await?;
        let conversation = conversation.ok_or_else(|| problem::not_found("conversation"))?;
        let range = cursor::of_messages(range, conversation.started)?;
        let slice = session.message_page(id, range).await?;
        let shown = slice.items.iter().map(async |found| {
            let tally = session.tally((found.conversation, found.id));
            let (tally, read_by) = try_join(tally, session.read_by(found)).await?;
            Ok::<_, Problem>(Message::new(found, tally, &read_by))
        });
        Ok(Json(Messages {
            messages: try_join_all(shown).await?,
            page_info: PageInfo::of(&slice, |found| found.position.to_string()),
        }))
    };
    driver.drive(read).await
}

/// One message with its deliveries and what happened to them.
#[utoipa::path(
    get,
    path = "/v1/conversations/{conversation_id}/messages/{message_id}",
    tag = "messages",
    params(
        ("conversation_id" = uuid::Uuid, Path, description = "The conversation"),
        ("message_id" = uuid::Uuid, Path, description = "The message"),
        ShowParameters
    ),
    responses(
        (status = 200, description = "The message", body = MessageDetail),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The scope `conversations:read` is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "There is no such message, or it is not the caller's to see", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter is not right", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Reads are away, or have not come to `at_least`", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = []))
)]
pub async fn show(
    State(state): State<api::State>,
    caller: Caller,
    Path(key): Path<(ConversationId, MessageId)>,
    Query(parameters): Query<ShowParameters>,
) -> Result<Json<MessageDetail>, Problem> {
    let (session, driver) = Session::new(state.models, caller);
    let read = async {
        session.open(at_least(parameters.at_least)?).await?;
        let found = session.message(key).await?;
        let found = found.ok_or_else(|| problem::not_found("message"))?;
        let (tally, read_by, deliveries, history) = try_join!(
            session.tally(key),
            session.read_by(&found),
            session.deliveries(key),
            session.history(key),
        )?;
        let message = Message::new(&found, tally, &read_by);
        Ok(Json(MessageDetail::new(message, &deliveries, &history)))
    };
    driver.drive(read).await
}

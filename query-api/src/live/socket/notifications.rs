//! `GET /v1/notifications?token=…`: a plain WebSocket for thin clients, which show what is new and load the rest.
//!
//! Frames are JSON objects with a `type`. From here: `connected` first, `new_message` and `status` as they happen in the caller's
//! conversations, `ping` now and then, `resync` before the end when the client did not take what there was. From the client:
//! `pong`, and `ping`, which is answered. There is no resuming: who comes back loads what is new through REST. Who needs more
//! takes server-sent events or subscriptions.

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, Utf8Bytes, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::response::Response;
use chat4all_domain::UserId;
use chat4all_service::Problem;
use chat4all_service::auth::{Caller, Error};
use futures::StreamExt;
use serde::Deserialize;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::{BAD_MESSAGE, Farewell, GOING_AWAY, Heard, Wire, expiry, limited, who};
use crate::api;
use crate::live::{Connection, End, Live, Subscription, Topic};
use crate::rest::ProblemBody;

/// The route with its document.
pub fn routes() -> OpenApiRouter<api::State> {
    OpenApiRouter::new().routes(routes!(notifications))
}

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said {
    Ping,
    Pong,
}

/// What is new, as a plain WebSocket for thin clients, which load the rest.
///
/// Frames are JSON objects with a `type`. From the server: `connected` with the caller's `user_id`, once; `new_message` and
/// `status` as they happen in the caller's conversations, with the fields of the schemas `NewMessage` and `DeliveryStatus`
/// (attempts and waits are left out); `ping` every 25 seconds; `resync` before the end when the client did not take
/// what there was. From the client: `pong`, and `ping`, which is answered with `pong`. There is no resuming: load what is new,
/// and come back. Codes of the closing frame: 1001 come back (after `resync`, after 60 seconds in which nothing was heard, and
/// when the process stops), 4400 another frame than those, 4403 the token has expired.
#[utoipa::path(
    get,
    path = "/v1/notifications",
    tag = "live",
    params(("token" = Option<String>, Query, description = "The token, for clients that cannot send the header `Authorization`")),
    responses(
        (status = 101, description = "A WebSocket"),
        (status = 400, description = "Not the request of a WebSocket", body = ProblemBody, content_type = "application/problem+json"),
        (status = 401, description = "No valid token", body = ProblemBody, content_type = "application/problem+json"),
        (status = 403, description = "The scope `conversations:read` is missing", body = ProblemBody, content_type = "application/problem+json"),
        (status = 429, description = "The caller has too many connections", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "The log is away, or there are too many connections", body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(("bearer" = []))
)]
pub async fn notifications(
    State(state): State<api::State>,
    parts: Parts,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, Problem> {
    let caller = who(&parts, &state.verifier)?.ok_or(Error::Missing)?;
    let upgrade = upgrade.map_err(|_| {
        let detail = "This is a WebSocket; ask for an upgrade.";
        Problem::new(chat4all_service::problem::Code::Malformed, detail)
    })?;
    let connection = state.live.connect("notifications", Some(&caller))?;
    let subscription = state.live.subscribe(&caller, Topic::Mine, None).await?;
    let live = state.live;
    Ok(limited(upgrade).on_upgrade(move |socket| {
        let mut wire = Wire::new(socket, live.stop());
        async move {
            wire.expires = Some(expiry(&caller));
            let farewell = talk(&mut wire, &caller, subscription).await;
            wire.end(farewell).await;
            drop::<(Live, Connection)>((live, connection));
        }
    }))
}

async fn talk(wire: &mut Wire, caller: &Caller, subscription: Subscription) -> Farewell {
    match converse(wire, caller, subscription).await {
        Ok(farewell) | Err(farewell) => farewell,
    }
}

async fn converse(
    wire: &mut Wire,
    caller: &Caller,
    subscription: Subscription,
) -> Result<Farewell, Farewell> {
    let user = UserId::derive(caller.issuer(), caller.sub());
    let connected = format!(r#"{{"type":"connected","user_id":"{user}"}}"#);
    wire.say(Message::Text(connected.into())).await?;
    let mut updates = Box::pin(subscription.updates());
    loop {
        tokio::select! {
            heard = wire.hear() => match heard? {
                Heard::Quiet => {
                    wire.ping().await?;
                    wire.say(text(r#"{"type":"ping"}"#)).await?;
                }
                Heard::Text(said) => match serde_json::from_str(&said) {
                    Ok(Said::Ping) => wire.say(text(r#"{"type":"pong"}"#)).await?,
                    Ok(Said::Pong) => {}
                    Err(_) => {
                        let reason = "Only the types `ping` and `pong` are understood.";
                        return Ok(Farewell::close(BAD_MESSAGE, reason));
                    }
                },
            },
            update = updates.next() => match update {
                Some(Ok(update)) => {
                    let frames = update.entry.as_ref().map(|entry| entry.frames());
                    for frame in frames.unwrap_or_default() {
                        wire.say(Message::Text(frame.clone())).await?;
                    }
                }
                ended => {
                    let reason = match ended {
                        Some(Err((End::LogChanged, _))) => {
                            "The log is not the same any more; load anew and come back."
                        }
                        _ => "More has happened than was taken; load what is new and come back.",
                    };
                    wire.say(text(r#"{"type":"resync"}"#)).await?;
                    return Ok(Farewell::close(GOING_AWAY, reason));
                }
            },
        }
    }
}

fn text(frame: &'static str) -> Message {
    Message::Text(Utf8Bytes::from_static(frame))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_way_to_follow_but_graphql_is_in_the_document() {
        let routes = crate::live::routes().merge(super::routes());
        let (_, document) = routes.split_for_parts();
        let document = serde_json::to_value(document).unwrap();
        let paths = document["paths"].as_object().unwrap();
        let mut paths: Vec<_> = paths.keys().map(String::as_str).collect();
        paths.sort_unstable();
        let expected = [
            "/v1/conversations/{conversation_id}/events",
            "/v1/events",
            "/v1/notifications",
        ];
        assert_eq!(paths, expected);

        let notifications = &document["paths"]["/v1/notifications"]["get"];
        for status in ["101", "400", "401", "403", "429", "503"] {
            let answer = &notifications["responses"][status];
            assert!(answer.is_object(), "no {status} in {notifications}");
        }
        assert_eq!(notifications["parameters"][0]["name"], "token");
        let said = notifications["description"].as_str().unwrap();
        for frame in [
            "connected",
            "new_message",
            "status",
            "ping",
            "pong",
            "resync",
        ] {
            assert!(said.contains(&format!("`{frame}`")), "no {frame}: {said}");
        }
        // What the description points to.
        for schema in ["NewMessage", "DeliveryStatus"] {
            let schemas = &document["components"]["schemas"];
            assert!(schemas[schema].is_object(), "no {schema}");
        }
    }
}

//! `GET /v1/notifications?token=…`: a plain WebSocket for thin clients, which show what is new and load the rest.
//!
//! Frames are JSON objects with a `type`. From here: `connected` first, `new_message` and `status` as they happen in the caller's
//! conversations, `ping` now and then, `resync` before the end when the client did not take what there was. From the client:
//! `pong`, and `ping`, which is answered. There is no resuming: who comes back loads what is new through REST. Who needs more
//! takes server-sent events or subscriptions.

use axum::extract::State;
use axum::extract::ws::{Message, Utf8Bytes, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::response::Response;
use chat4all_domain::UserId;
use chat4all_service::Problem;
use chat4all_service::auth::{Caller, Error};
use futures::StreamExt;
use serde::Deserialize;

use super::{BAD_MESSAGE, Farewell, GOING_AWAY, Heard, Wire, expiry, limited, who};
use crate::api;
use crate::live::{Connection, End, Live, Subscription, Topic};

#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
enum Said {
    Ping,
    Pong,
}

/// Takes a thin client in.
///
/// # Errors
/// 400 for what is no WebSocket; 401, 403; 503 while the log is away or there are too many connections.
pub async fn notifications(
    State(state): State<api::State>,
    parts: Parts,
    upgrade: Result<WebSocketUpgrade, axum::extract::ws::rejection::WebSocketUpgradeRejection>,
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

//! The customers' phones, for the page and for tests that play a customer.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::Deserialize;
use serde_json::json;

use super::{Refusal, answer, number, ok, parse};
use crate::clock::UnixMs;
use crate::sync::lock;
use crate::world::World;

/// Phones in the list, and messages of one phone.
const LISTED: usize = 500;
/// Longest text a customer can write, in characters.
const MAX_TEXT_CHARS: usize = 65_536;

pub(super) async fn list(State(world): State<Arc<World>>) -> Response {
    let phones = lock(&world.phones).list(LISTED);
    ok(&json!({"phones": phones}))
}

pub(super) async fn view(
    State(world): State<Arc<World>>,
    Path(phone): Path<String>,
) -> Result<Response, Refusal> {
    let view = lock(&world.phones).view(&number(&phone)?, LISTED, UnixMs::now());
    Ok(ok(&view))
}

/// Changes the name on the customer's profile.
pub(super) async fn rename(
    State(world): State<Arc<World>>,
    Path(phone): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Profile {
        name: String,
    }
    let number = number(&phone)?;
    let Profile { name } = parse(&body)?;
    lock(&world.phones).rename(&number, &name);
    view(State(world), Path(number)).await
}

/// The customer writes: to the business named, else to the one of the last message, else to the only one there is.
pub(super) async fn write_in(
    State(world): State<Arc<World>>,
    Path(phone): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Written {
        text: String,
        #[serde(default)]
        phone_number_id: Option<String>,
        #[serde(default)]
        reply_to: Option<String>,
    }
    let number = number(&phone)?;
    let written: Written = parse(&body)?;
    if written.text.is_empty() || written.text.chars().count() > MAX_TEXT_CHARS {
        return Err(Refusal::invalid(format!(
            "text: must have 1 to {MAX_TEXT_CHARS} characters"
        )));
    }
    let id = match written.phone_number_id {
        Some(id) => id,
        None => {
            let last = lock(&world.phones).last_business(&number);
            match (last, world.accounts.all().as_slice()) {
                (Some(id), _) => (*id).to_owned(),
                (None, [only]) => (*only.id).to_owned(),
                (None, _) => {
                    return Err(Refusal::invalid("phone_number_id: must say which business"));
                }
            }
        }
    };
    let account = world
        .accounts
        .get(&id)
        .ok_or_else(|| Refusal::not_found(format!("there is no phone number id {id:?}")))?;
    let message = world.write_in(&account, &number, written.text, written.reply_to);
    Ok(answer(StatusCode::CREATED, &*message))
}

/// Somebody looks at the phone: what waits for that is read now.
pub(super) async fn shown(
    State(world): State<Arc<World>>,
    Path(phone): Path<String>,
) -> Result<Response, Refusal> {
    Ok(ok(&json!({"read": world.show(&number(&phone)?)})))
}

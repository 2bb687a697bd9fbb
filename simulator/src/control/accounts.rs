//! Business numbers: listed without their secrets, added, changed, subscribed.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::{Refusal, answer, ok, parse};
use crate::account::{self, Account};
use crate::config::AccountConfig;
use crate::webhook;
use crate::world::World;

pub(super) async fn list(State(world): State<Arc<World>>) -> Response {
    #[derive(Serialize)]
    struct Accounts {
        accounts: Vec<Arc<Account>>,
    }
    ok(&Accounts {
        accounts: world.accounts.all(),
    })
}

/// The whole account; the id stands in the path. 201 if it is new.
pub(super) async fn put(
    State(world): State<Arc<World>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    store(&world, &id, parse(&body)?)
}

/// Some of its fields.
pub(super) async fn patch(
    State(world): State<Arc<World>>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let account = found(&world, &id)?;
    let config = account.config();
    let mut fields = json!({
        "display_phone_number": config.display_phone_number,
        "waba_id": config.waba_id,
        "token": config.token,
        "app_secret": config.app_secret,
        "verify_token": config.verify_token,
        "webhook_url": config.webhook_url,
        "auto_subscribe": config.auto_subscribe,
    });
    for (key, value) in parse::<Map<String, Value>>(&body)? {
        fields[key] = value;
    }
    let Value::Object(fields) = fields else {
        return Err(Refusal::invalid("must be an object"));
    };
    store(&world, &id, fields)
}

fn store(
    world: &Arc<World>,
    id: &str,
    mut fields: Map<String, Value>,
) -> Result<Response, Refusal> {
    if fields
        .insert("phone_number_id".to_owned(), id.into())
        .is_some_and(|other| other != id)
    {
        return Err(Refusal::invalid(
            "phone_number_id: the path has another one",
        ));
    }
    let config = AccountConfig::deserialize(Value::Object(fields))
        .map_err(|error| Refusal::invalid(error.to_string()))?;
    account::validate(&config).map_err(Refusal::invalid)?;
    let new = world.put_account(config);
    let status = if new {
        StatusCode::CREATED
    } else {
        StatusCode::OK
    };
    Ok(answer(status, &*found(world, id)?))
}

/// Performs the verify handshake; 409 says why it did not succeed.
pub(super) async fn subscribe(
    State(world): State<Arc<World>>,
    Path(id): Path<String>,
) -> Result<Response, Refusal> {
    let account = found(&world, &id)?;
    match webhook::subscribe(&world, &account).await {
        Ok(()) => Ok(ok(&*account)),
        Err(error) => Err(Refusal {
            status: StatusCode::CONFLICT,
            sentence: error.to_string(),
        }),
    }
}

fn found(world: &World, id: &str) -> Result<Arc<Account>, Refusal> {
    world
        .accounts
        .get(id)
        .ok_or_else(|| Refusal::not_found(format!("there is no phone number id {id:?}")))
}

//! The fault knobs, the settings and the seed.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::{Refusal, answer, ok, parse, patched};
use crate::fault::Draft;
use crate::sync::lock;
use crate::world::World;

pub(super) async fn list(State(world): State<Arc<World>>) -> Response {
    let rules = lock(&world.faults).list();
    ok(&json!({"faults": rules}))
}

pub(super) async fn add(State(world): State<Arc<World>>, body: Bytes) -> Result<Response, Refusal> {
    let draft: Draft = parse(&body)?;
    let rule = lock(&world.faults).add(draft).map_err(Refusal::invalid)?;
    Ok(answer(StatusCode::CREATED, &rule))
}

pub(super) async fn clear(State(world): State<Arc<World>>) -> Response {
    lock(&world.faults).clear();
    StatusCode::NO_CONTENT.into_response()
}

pub(super) async fn remove(
    State(world): State<Arc<World>>,
    Path(id): Path<u64>,
) -> Result<Response, Refusal> {
    if lock(&world.faults).remove(id) {
        Ok(StatusCode::NO_CONTENT.into_response())
    } else {
        Err(Refusal::not_found(format!("there is no fault {id}")))
    }
}

pub(super) async fn settings(State(world): State<Arc<World>>) -> Response {
    ok(&world.settings())
}

/// Changes the settings named, and leaves the others.
pub(super) async fn set_settings(
    State(world): State<Arc<World>>,
    body: Bytes,
) -> Result<Response, Refusal> {
    let settings = patched(&world.settings(), &body)?;
    crate::config::Settings::validate(&settings).map_err(Refusal::invalid)?;
    world.set_settings(settings);
    Ok(ok(&settings))
}

pub(super) async fn seed(State(world): State<Arc<World>>) -> Response {
    let seed = lock(&world.faults).seed();
    ok(&json!({"seed": seed}))
}

/// Draws from here on as a fresh simulator with this seed would.
pub(super) async fn set_seed(
    State(world): State<Arc<World>>,
    body: Bytes,
) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Seed {
        seed: u64,
    }
    let Seed { seed } = parse(&body)?;
    lock(&world.faults).reseed(seed);
    Ok(ok(&json!({"seed": seed})))
}

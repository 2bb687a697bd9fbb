//! What was received and what was sent, page by page, and the counts.

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;

use super::{Refusal, ok, parse};
use crate::sync::lock;
use crate::world::World;

/// Items on one page if nothing is said, and at most.
const PAGE: usize = 100;
const PAGE_MAX: usize = 1_000;

/// Which part of a record is wanted.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Wanted {
    /// Only this customer's number.
    to: Option<String>,
    /// Only this business number.
    phone_number_id: Option<String>,
    /// Only what comes after this number.
    #[serde(default)]
    since: u64,
    limit: Option<usize>,
}

impl Wanted {
    fn read(query: Result<Query<Self>, QueryRejection>) -> Result<Self, Refusal> {
        let Query(mut wanted) = query.map_err(|error| Refusal::invalid(error.body_text()))?;
        if let Some(to) = &wanted.to {
            // A `+` in a query is a space; both are fine.
            wanted.to = Some(super::number(to)?);
        }
        match wanted.limit {
            Some(limit) if !(1..=PAGE_MAX).contains(&limit) => {
                Err(Refusal::invalid(format!("limit: must be 1 to {PAGE_MAX}")))
            }
            _ => Ok(wanted),
        }
    }
    fn matches(&self, to: Option<&str>, phone_number_id: &str) -> bool {
        self.to.as_deref().is_none_or(|wanted| to == Some(wanted))
            && self
                .phone_number_id
                .as_deref()
                .is_none_or(|wanted| phone_number_id == wanted)
    }
}

pub(super) async fn calls(
    State(world): State<Arc<World>>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refusal> {
    let wanted = Wanted::read(query)?;
    let page = lock(&world.calls).page(wanted.since, wanted.limit.unwrap_or(PAGE), |call| {
        wanted.matches(call.to.as_deref(), &call.phone_number_id)
    });
    Ok(ok(&page))
}

pub(super) async fn webhooks(
    State(world): State<Arc<World>>,
    query: Result<Query<Wanted>, QueryRejection>,
) -> Result<Response, Refusal> {
    let wanted = Wanted::read(query)?;
    let page = world
        .webhooks
        .page(wanted.since, wanted.limit.unwrap_or(PAGE), |item| {
            wanted.matches(Some(&item.message.number), &item.message.phone_number_id)
        });
    Ok(ok(&page))
}

pub(super) async fn stats(State(world): State<Arc<World>>) -> Response {
    let calls = lock(&world.calls).counts();
    let dropped = lock(&world.phones).dropped();
    let seed = lock(&world.faults).seed();
    ok(&json!({
        "calls": calls,
        "webhooks": world.webhooks.counts(),
        "phones": {"dropped_messages": dropped},
        "seed": seed,
    }))
}

/// Forgets records and what waits, removes the faults; accounts and settings stay. The body may leave one of them out.
pub(super) async fn reset(
    State(world): State<Arc<World>>,
    body: Bytes,
) -> Result<Response, Refusal> {
    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Reset {
        #[serde(default = "yes")]
        records: bool,
        #[serde(default = "yes")]
        faults: bool,
    }
    fn yes() -> bool {
        true
    }
    let Reset { records, faults } = parse(if body.is_empty() { b"{}" } else { &body })?;
    if faults {
        lock(&world.faults).clear();
    }
    if records {
        world.forget();
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

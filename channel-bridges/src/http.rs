//! The webhooks: verified over the raw bytes, stored as they are, answered. Nothing is parsed on this path.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_nats::HeaderMap;
use axum::Router;
use axum::extract::{DefaultBodyLimit, State};
use axum::http;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use chat4all_domain::AccountId;
use chat4all_nats::{Log, codec};
use chat4all_service::Chain;
use chat4all_service::http::{Body, Path, Query};
use chat4all_service::problem::{Code, Problem};
use chat4all_service::telemetry::trace::current_traceparent;
use secrecy::ExposeSecret;
use serde::Deserialize;
use subtle::ConstantTimeEq;
use tracing::{debug, warn};

use crate::channel;
use crate::config::{Account, Config};
use crate::metrics::Metrics;
use crate::receipts::ACCOUNT;

/// What the routes need.
#[derive(Debug)]
struct Hooks {
    log: Log,
    accounts: BTreeMap<AccountId, Account>,
    metrics: Metrics,
}

/// `GET` and `POST /webhooks/{kind}/{account}`.
pub(crate) fn routes(log: Log, config: &Config, metrics: &Metrics) -> Router {
    let hooks = Hooks {
        log,
        accounts: config.accounts.clone(),
        metrics: metrics.clone(),
    };
    Router::new()
        .route("/webhooks/{kind}/{account}", get(verify).post(receive))
        .layer(DefaultBodyLimit::max(config.webhook_body_limit_bytes))
        .with_state(Arc::new(hooks))
}

impl Hooks {
    fn account(&self, kind: &str, account: &str) -> Result<(AccountId, &Account), Problem> {
        let found = account.parse().ok().and_then(|id: AccountId| {
            let settings = self.accounts.get(&id)?;
            (settings.kind().as_str() == kind).then_some((id, settings))
        });
        found.ok_or_else(|| Problem::new(Code::NotFound, "There is no such channel account."))
    }
}

/// What the provider asks when it registers a webhook.
///
/// Source: <https://developers.facebook.com/docs/graph-api/webhooks/getting-started>, verification requests.
#[derive(Deserialize)]
struct Handshake {
    #[serde(default, rename = "hub.mode")]
    mode: String,
    #[serde(default, rename = "hub.verify_token")]
    verify_token: String,
    #[serde(default, rename = "hub.challenge")]
    challenge: String,
}

async fn verify(
    State(hooks): State<Arc<Hooks>>,
    Path((kind, account)): Path<(String, String)>,
    Query(asked): Query<Handshake>,
) -> Result<Response, Problem> {
    let (_, Account::WhatsApp(settings)) = hooks.account(&kind, &account)?;
    let right = settings.verify_token.expose_secret().as_bytes();
    let same = bool::from(asked.verify_token.as_bytes().ct_eq(right));
    if asked.mode != "subscribe" || !same {
        let detail = "The mode is `subscribe`, and the verify token that of the configuration.";
        return Err(Problem::new(Code::Forbidden, detail));
    }
    Ok(asked.challenge.into_response())
}

async fn receive(
    State(hooks): State<Arc<Hooks>>,
    Path((kind, account)): Path<(String, String)>,
    headers: http::HeaderMap,
    Body(body): Body,
) -> Result<Response, Problem> {
    let (id, settings) = hooks.account(&kind, &account)?;
    let signature = headers.get(channel::signature_header(settings));
    let signature = signature.and_then(|value| value.to_str().ok());
    if !channel::signed(settings, signature, &body) {
        warn!(account = %id, "a webhook call for `{id}` was not signed with its secret");
        let detail = "The signature is not that of these bytes under the account's secret.";
        return Err(Problem::new(Code::Unauthorized, detail));
    }
    let mut stored = HeaderMap::new();
    stored.insert(ACCOUNT, id.as_str());
    if let Some(traceparent) = current_traceparent() {
        stored.insert(codec::TRACEPARENT, traceparent.as_str());
    }
    let subject = crate::inbound::subject(settings.kind());
    store(&hooks.log, subject, stored, body)
        .await
        .map_err(|error| {
            debug!(account = %id, error = %Chain(&*error), "a webhook call could not be stored");
            Problem::new(
                Code::Unavailable,
                "It could not be stored now; nothing was taken, send it again.",
            )
        })?;
    hooks.metrics.webhook(settings.kind(), &id);
    Ok(http::StatusCode::OK.into_response())
}

/// A publish into a connection that is down would be kept and sent later; the provider's own repetition is better.
async fn store(
    log: &Log,
    subject: String,
    headers: HeaderMap,
    body: bytes::Bytes,
) -> Result<(), async_nats::Error> {
    if !log.is_connected() {
        return Err("not connected".into());
    }
    let sent = log.jetstream().publish_with_headers(subject, headers, body);
    sent.await?.await?;
    Ok(())
}

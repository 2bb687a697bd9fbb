//! One call: when it began, until when it may take, which trace it belongs to, and what it must have been decided on.

use std::time::Duration;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use chat4all_domain::{Position, Timestamp};
use chat4all_nats::Retry;
use chat4all_nats::execute::{Assume, Context, Purpose};
use chat4all_service::clock;
use chat4all_service::http::Query;
use chat4all_service::problem::{Code, Problem};
use chat4all_service::telemetry::trace;
use serde::Deserialize;
use tokio::time::Instant;

use crate::CommandApi;

/// How long a command waits for the position it asks for.
const AT_LEAST_WAIT: Duration = Duration::from_secs(5);

/// Made when the head of a request has been read.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    /// When it began.
    pub now: Timestamp,
    /// Until when it may take, waiting for `at_least` included.
    pub deadline: Instant,
    traceparent: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Parameters {
    at_least: Option<Position>,
}

impl FromRequestParts<CommandApi> for Call {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &CommandApi) -> Result<Self, Problem> {
        let call = Self {
            now: Timestamp::from(clock::now()),
            deadline: Instant::now() + api.settings().command_deadline,
            traceparent: trace::current_traceparent(),
        };
        let Query(parameters) = Query::<Parameters>::from_request_parts(parts, api).await?;
        if let Some(position) = parameters.at_least {
            call.wait_for(api, position).await?;
        }
        Ok(call)
    }
}

impl Call {
    /// What a command needs to know besides itself.
    pub fn context(&self, purpose: Purpose, assume: Assume) -> Context {
        Context {
            now: self.now,
            deadline: self.deadline,
            retry: Retry::Api,
            traceparent: self.traceparent.clone(),
            purpose,
            assume,
        }
    }

    /// Decisions from here on know everything up to `position`.
    async fn wait_for(&self, api: &CommandApi, position: Position) -> Result<(), Problem> {
        let partitions = api.log().partitions().get();
        if position.partition.number() >= partitions {
            let detail = "query parameter: is not a position of this installation";
            return Err(Problem::field("/at_least", detail));
        }
        let until = self.deadline.min(Instant::now() + AT_LEAST_WAIT);
        if api.follower().reach(position, until).await {
            return Ok(());
        }
        let reached = api.follower().seen(position.partition);
        let detail = format!("This instance has come as far as {reached}; try again.");
        Err(Problem::new(Code::NotYetProjected, detail)
            .with("position", reached.to_string())
            .retry_after(Duration::from_secs(1)))
    }
}

//! `GET /graphql` as a WebSocket: graphql-transport-ws.
//!
//! The token comes with the upgrade (`Authorization`, `?token=`) or in `connection_init`. Queries may be asked here, too. Codes of
//! the closing frame, beside the protocol's own (4400, 4401, 4406, 4408, 4409, 4429, also for who has too many connections): 4403 when the token does not count or has
//! expired, 1001 when this process stops. The library's own loop knows neither timeouts nor expiry nor limits.

use std::pin::Pin;
use std::time::Duration;

use async_graphql::parser::types::OperationType;
use async_graphql::{Request, Response, ServerError};
use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{Message, WebSocketUpgrade};
use axum::http::request::Parts;
use axum::response::IntoResponse;
use chat4all_service::auth::Caller;
use chat4all_service::problem::Code;
use chat4all_service::{Problem, clock};
use futures::StreamExt;
use futures::stream::{self, AbortHandle, Abortable, SelectAll, Stream};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout};

use super::protocol::{NAME, Said, Told, token};
use super::{BAD_MESSAGE, FORBIDDEN, Farewell, Heard, UNAUTHORIZED, Wire, expiry, limited, who};
use crate::graphql::{self as schema, Watch};
use crate::live::Connection;
use crate::session::Session;
use crate::{api, explorer};

/// How long a client may take to introduce itself.
const INTRODUCED_WITHIN: Duration = Duration::from_secs(5);
/// How long a query may take, its waits for a position included.
const QUERY_WITHIN: Duration = Duration::from_secs(30);
/// Operations of one connection at a time.
const OPERATIONS: usize = 32;
/// The longest id of an operation.
const ID_BYTES: usize = 100;

const NOT_ACCEPTABLE: u16 = 4406;
const INIT_TIMEOUT: u16 = 4408;
const ID_TAKEN: u16 = 4409;
const TOO_MANY: u16 = 4429;

/// Takes a client in; who asks for no upgrade gets the explorer.
///
/// # Errors
/// 401 for a token that does not count; 429 when the caller has too many connections, 503 when there are too many.
pub async fn graphql(
    State(state): State<api::State>,
    parts: Parts,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<axum::response::Response, Problem> {
    let Ok(upgrade) = upgrade else {
        return Ok(explorer::page().await.into_response());
    };
    let caller = who(&parts, &state.verifier)?;
    let mut connection = state.live.connect("graphql", caller.as_ref())?;
    let upgrade = limited(upgrade).protocols([NAME]);
    let known = upgrade.selected_protocol().is_some();
    Ok(upgrade.on_upgrade(move |socket| async move {
        let mut wire = Wire::new(socket, state.live.stop());
        let farewell = if known {
            let talk = Box::pin(Talk::new(state, caller).with(&mut wire, &mut connection));
            match talk.await {
                Ok(farewell) | Err(farewell) => farewell,
            }
        } else {
            Farewell::close(NOT_ACCEPTABLE, "The subprotocol is graphql-transport-ws.")
        };
        wire.end(farewell).await;
        drop(connection);
    }))
}

/// What one operation gives: answers, and `None` as its end.
type Operation = Pin<Box<dyn Stream<Item = (String, Option<Response>)> + Send>>;

/// One client's operations.
struct Talk {
    state: api::State,
    caller: Option<Caller>,
    introduced: bool,
    /// Until when it may introduce itself.
    introduce_by: Instant,
    /// Those that have not ended, and how to end them.
    running: Vec<(String, AbortHandle)>,
    operations: SelectAll<Abortable<Operation>>,
}

impl Talk {
    fn new(state: api::State, caller: Option<Caller>) -> Self {
        Self {
            state,
            caller,
            introduced: false,
            introduce_by: Instant::now() + INTRODUCED_WITHIN,
            running: Vec::new(),
            operations: SelectAll::new(),
        }
    }

    async fn with(
        mut self,
        wire: &mut Wire,
        connection: &mut Connection,
    ) -> Result<Farewell, Farewell> {
        loop {
            tokio::select! {
                heard = wire.hear() => match heard? {
                    Heard::Quiet => wire.ping().await?,
                    Heard::Text(text) => self.heard(wire, connection, &text).await?,
                },
                Some((id, answer)) = self.operations.next() => self.tell(wire, &id, answer).await?,
                () = sleep_until(self.introduce_by), if !self.introduced => {
                    return Ok(Farewell::close(INIT_TIMEOUT, "Connection initialisation timeout"));
                }
            }
        }
    }

    async fn heard(
        &mut self,
        wire: &mut Wire,
        connection: &mut Connection,
        text: &str,
    ) -> Result<(), Farewell> {
        let Ok(said) = serde_json::from_str::<Said>(text) else {
            return Err(Farewell::close(
                BAD_MESSAGE,
                "This is no message of graphql-transport-ws.",
            ));
        };
        match said {
            Said::Ping { payload } => say(wire, &Told::Pong { payload }).await,
            Said::Pong { .. } => Ok(()),
            Said::ConnectionInit { .. } if self.introduced => Err(Farewell::close(
                TOO_MANY,
                "Too many initialisation requests",
            )),
            Said::ConnectionInit { payload } => {
                let payload = payload.unwrap_or_default();
                if let Some(token) = token(&payload) {
                    let verified = self.state.verifier.verify(token, clock::now());
                    let caller =
                        verified.map_err(|error| Farewell::close(FORBIDDEN, &error.to_string()))?;
                    self.caller = Some(caller);
                }
                let Some(caller) = &self.caller else {
                    return Err(Farewell::close(FORBIDDEN, "There is no token."));
                };
                connection
                    .is_of(caller)
                    .map_err(|problem| Farewell::close(TOO_MANY, problem.detail()))?;
                wire.expires = Some(expiry(caller));
                self.introduced = true;
                say(wire, &Told::ConnectionAck).await
            }
            Said::Subscribe { id, payload } => {
                let Some(caller) = self.caller.clone().filter(|_| self.introduced) else {
                    return Err(Farewell::close(UNAUTHORIZED, "Unauthorized"));
                };
                if self.runs(&id) {
                    let reason = format!("Subscriber for {id} already exists");
                    return Err(Farewell::close(ID_TAKEN, &reason));
                }
                self.subscribe(wire, caller, id, *payload).await
            }
            Said::Complete { id } => {
                self.forget(&id);
                Ok(())
            }
        }
    }

    async fn subscribe(
        &mut self,
        wire: &mut Wire,
        caller: Caller,
        id: String,
        request: Request,
    ) -> Result<(), Farewell> {
        if self.running.len() >= OPERATIONS || id.len() > ID_BYTES {
            let detail = format!(
                "A connection takes {OPERATIONS} operations at a time, with ids of up to {ID_BYTES} bytes; \
                 complete one, or open another connection."
            );
            let problem = Problem::new(Code::TooManyRequests, detail);
            let error = schema::refusal(&problem);
            return say(
                wire,
                &Told::Error {
                    id: &id,
                    payload: &[error],
                },
            )
            .await;
        }
        let answers = answers(&self.state, caller, request);
        let name = id.clone();
        let answers = answers.map(move |answer| (name.clone(), Some(answer)));
        let end = id.clone();
        let end = stream::once(async move { (end, None) });
        let (handle, registration) = AbortHandle::new_pair();
        self.running.push((id, handle));
        let operation: Operation = Box::pin(answers.chain(end));
        self.operations
            .push(Abortable::new(operation, registration));
        Ok(())
    }

    fn runs(&self, id: &str) -> bool {
        self.running.iter().any(|(known, _)| known == id)
    }

    /// Drops an operation: nothing more of it is told.
    fn forget(&mut self, id: &str) {
        self.running.retain(|(known, handle)| {
            let other = known != id;
            if !other {
                handle.abort();
            }
            other
        });
    }

    async fn tell(
        &mut self,
        wire: &mut Wire,
        id: &str,
        answer: Option<Response>,
    ) -> Result<(), Farewell> {
        if !self.runs(id) {
            return Ok(());
        }
        match answer {
            None => {
                self.forget(id);
                say(wire, &Told::Complete { id }).await
            }
            Some(mut answer) => {
                answer.errors.iter_mut().for_each(schema::name);
                // Nothing but errors: the operation was refused, or has ended for a reason.
                if answer.data == async_graphql::Value::Null && !answer.errors.is_empty() {
                    self.forget(id);
                    let payload: &[ServerError] = &answer.errors;
                    return say(wire, &Told::Error { id, payload }).await;
                }
                let payload = &answer;
                say(wire, &Told::Next { id, payload }).await
            }
        }
    }
}

async fn say(wire: &mut Wire, told: &Told<'_>) -> Result<(), Farewell> {
    wire.say(Message::Text(told.text().into())).await
}

/// What an operation gives: a query once, a subscription until it ends.
fn answers(
    state: &api::State,
    caller: Caller,
    mut request: Request,
) -> Pin<Box<dyn Stream<Item = Response> + Send>> {
    if is_subscription(&mut request) {
        let live = state.live.clone();
        let request = request.data(Watch { live, caller });
        return Box::pin(state.schema.execute_stream(request));
    }
    let (session, driver) = Session::new(state.models.clone(), caller);
    let (schema, request) = (state.schema.clone(), request.data(session));
    // A task of its own: while this client does not take what it is told, nobody would poll the query, and it would keep its
    // connection to Postgres from everybody else. It ends when the operation is dropped.
    let mut query = JoinSet::new();
    query.spawn(async move { timeout(QUERY_WITHIN, driver.drive(schema.execute(request))).await });
    Box::pin(stream::once(async move {
        match query.join_next().await {
            Some(Ok(Ok(response))) => response,
            Some(Ok(Err(_))) => unanswered("The query takes too long; ask for less."),
            Some(Err(_)) | None => {
                unanswered("The query broke off; the log of the process says why.")
            }
        }
    }))
}

fn unanswered(detail: &'static str) -> Response {
    let problem = Problem::new(Code::Unavailable, detail);
    Response::from_errors(vec![schema::refusal(&problem)])
}

fn is_subscription(request: &mut Request) -> bool {
    let name = request.operation_name.clone();
    let Ok(document) = request.parsed_query() else {
        return false;
    };
    let operations = document.operations.iter();
    let mut meant = operations.filter(|(known, _)| {
        name.as_deref()
            .is_none_or(|name| known.is_some_and(|known| known == name))
    });
    meant
        .next()
        .is_some_and(|(_, operation)| operation.node.ty == OperationType::Subscription)
}

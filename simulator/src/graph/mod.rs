//! `POST /{version}/{phone_number_id}/messages`: the provider's side of a send.
//!
//! A call goes through the stages of the Graph API (token, object, parameters), then through the rules of the fault
//! knobs. Whether a message is accepted is decided at arrival, in one go and without waiting: a caller that hangs up
//! during a latency has sent it nevertheless, as with the provider.

mod codes;
mod error;
mod reply;
mod request;

use std::sync::Arc;

use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::header::AUTHORIZATION;
use axum::http::{HeaderMap, Uri};
use axum::response::Response;
use serde_json::{Value, json};

pub(crate) use error::{GraphError, webhook_error};
use reply::{Outcome, Reply};
pub(crate) use request::digits;
use request::{Request, recipient_of};

use crate::account::Account;
use crate::calls::Call;
use crate::clock::UnixMs;
use crate::connection::Cut;
use crate::fault::{Answer, CallFacts, Gate, OutageMode};
use crate::phone::{Draft, Step};
use crate::receipts;
use crate::sync::lock;
use crate::wamid::Direction;
use crate::world::World;

/// How long the provider shows "typing". Source: WhatsApp Cloud API, typing indicators.
const TYPING_MS: u64 = 25_000;

/// The handler.
pub(crate) async fn messages(
    State(world): State<Arc<World>>,
    ConnectInfo(cut): ConnectInfo<Cut>,
    Path((version, phone_number_id)): Path<(String, String)>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let mut call = Call::received(UnixMs::now(), &phone_number_id, &headers, &body);
    call.to = recipient_of(&body);
    let outcome = decide(&world, &mut call, &version, &headers, &body);
    call.status = match &outcome.reply {
        Reply::Json { status, .. } | Reply::Raw { status, .. } => Some(*status),
        Reply::Cut { .. } | Reply::Never => None,
    };
    call.latency_ms = outcome.latency_ms;
    lock(&world.calls).push(call);
    reply::send(&world, &cut, &version, outcome).await
}

/// Any other path below the API.
pub(crate) async fn unknown_path(uri: Uri) -> Response {
    let path = uri.path();
    let error = GraphError::unknown_path(path);
    reply::json(error.status, &error.body(), None, "")
}

/// Everything that is decided at arrival.
fn decide(
    world: &Arc<World>,
    call: &mut Call,
    version: &str,
    headers: &HeaderMap,
    body: &[u8],
) -> Outcome {
    let facts = CallFacts {
        phone_number_id: &call.phone_number_id,
        to: call.to.as_deref(),
        message: true,
    };
    let (gate, fault) = lock(&world.faults).gate(facts);
    call.faults.extend(fault);
    let checked = match gate {
        Gate::Outage(OutageMode::Refused) => return Outcome::now(Reply::Cut { reset: true }),
        Gate::Outage(OutageMode::Hung) => return Outcome::now(Reply::Never),
        Gate::TokenExpired => Err(GraphError::token_expired()),
        Gate::Open => account(world, version, &call.phone_number_id, headers).and_then(|account| {
            let request = Request::parse(body, &account.digits())?;
            Ok((account, request))
        }),
    };
    match checked {
        Err(error) => Outcome::now(refuse(call, &error, None)),
        Ok((
            account,
            Request::Text {
                input,
                number,
                text,
                reply_to,
                callback_data,
            },
        )) => {
            let draft = Draft {
                wamid: world.ids.wamid(&number, Direction::ToCustomer),
                phone_number_id: account.id.clone(),
                number,
                direction: Direction::ToCustomer,
                text,
                at: call.at,
                reply_to,
                callback_data,
                read_when_shown: false,
                read_unreported: false,
            };
            text_message(world, call, &account, &input, draft)
        }
        Ok((account, Request::MarkRead { message_id, typing })) => {
            mark_read(world, call, &account, &message_id, typing)
        }
    }
}

/// The business number the call is for: the path, the token and both together have to be right.
fn account(
    world: &World,
    version: &str,
    phone_number_id: &str,
    headers: &HeaderMap,
) -> Result<Arc<Account>, GraphError> {
    let number = version
        .strip_prefix('v')
        .and_then(|number| number.split_once('.'));
    let known = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    if !number.is_some_and(|(major, minor)| known(major) && known(minor)) {
        return Err(GraphError::unknown_path(&format!("/{version}")));
    }
    let token = headers
        .get(AUTHORIZATION)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.strip_prefix("Bearer "))
        .ok_or_else(GraphError::no_token)?;
    if !world.accounts.knows_token(token) {
        return Err(GraphError::of_code(190));
    }
    world
        .accounts
        .get(phone_number_id)
        .filter(|account| account.config().token == token)
        .ok_or_else(|| GraphError::unknown_object(phone_number_id))
}

/// A message that is in order: the fault rules decide what becomes of it.
fn text_message(
    world: &Arc<World>,
    call: &mut Call,
    account: &Account,
    input: &str,
    mut draft: Draft,
) -> Outcome {
    let settings = world.settings();
    let facts = CallFacts {
        phone_number_id: &account.id,
        to: Some(&draft.number),
        message: true,
    };
    let (plan, receipts) = {
        let mut faults = lock(&world.faults);
        let plan = faults.plan(facts);
        let rng = &mut faults.rng;
        let receipts = receipts::schedule(rng, &settings, &plan.receipts, plan.latency_ms, call.at);
        (plan, receipts)
    };
    let mut early = Vec::new();
    if plan.answer.accepts() {
        draft.read_when_shown = plan.receipts.read_when_shown;
        draft.read_unreported = plan.receipts.missing.contains(&Step::Read);
        call.to = Some(draft.number.clone());
        call.message_id = Some(draft.wamid.clone());
        call.content = Some(lock(&world.calls).content(&account.id, &draft.number, &draft.text));
        let message = lock(&world.phones).add(draft);
        for receipt in receipts {
            let item = world.webhooks.enqueue(
                world,
                account,
                message.clone(),
                receipt.what,
                receipt.after_ms,
            );
            if receipt.early {
                early.push(item);
            }
        }
    }
    call.faults.extend(plan.applied);
    let reply = answer(call, plan.answer, |call| {
        json!({
            "messaging_product": "whatsapp",
            "contacts": [{"input": input, "wa_id": call.to}],
            "messages": [{"id": call.message_id}],
        })
    });
    Outcome {
        reply,
        latency_ms: plan.latency_ms,
        early,
    }
}

/// "I have read this", and perhaps "I am typing".
fn mark_read(
    world: &Arc<World>,
    call: &mut Call,
    account: &Account,
    message_id: &str,
    typing: bool,
) -> Outcome {
    let message = lock(&world.phones).message(message_id);
    let number = message.as_ref().map(|message| message.number.clone());
    let facts = CallFacts {
        phone_number_id: &account.id,
        to: number.as_deref(),
        message: false,
    };
    let plan = lock(&world.faults).plan(facts);
    if let (Some(message), true) = (message, plan.answer.accepts()) {
        if message.direction == Direction::FromCustomer {
            message.advance(Step::Read);
        }
        if typing {
            lock(&world.phones).typing(&message.number, call.at.plus_ms(TYPING_MS));
        }
    }
    call.to = number.map(|number| (*number).to_owned());
    call.faults.extend(plan.applied);
    let reply = answer(call, plan.answer, |_| json!({"success": true}));
    Outcome {
        reply,
        latency_ms: plan.latency_ms,
        early: Vec::new(),
    }
}

/// Turns the decided answer into a reply; `regular` is the body if nothing goes wrong.
fn answer(call: &mut Call, answer: Answer, regular: impl FnOnce(&Call) -> Value) -> Reply {
    match answer {
        Answer::Regular => Reply::Json {
            status: 200,
            body: regular(call),
            retry_after_s: None,
        },
        Answer::Error {
            error,
            retry_after_s,
        } => refuse(call, &error, retry_after_s),
        Answer::HttpStatus {
            status,
            body,
            retry_after_s,
        } => Reply::Raw {
            status,
            body,
            retry_after_s,
        },
        Answer::Close { reset, .. } => Reply::Cut { reset },
        Answer::Hang { .. } => Reply::Never,
        Answer::Malformed { .. } => Reply::Raw {
            status: 200,
            body: "{\"messaging_product\":\"whatsapp\",\"contacts\":[{".to_owned(),
            retry_after_s: None,
        },
        Answer::MissingId { .. } => {
            let mut body = regular(call);
            if let Some(fields) = body.as_object_mut() {
                fields.remove("messages");
            }
            Reply::Json {
                status: 200,
                body,
                retry_after_s: None,
            }
        }
    }
}

fn refuse(call: &mut Call, error: &GraphError, retry_after_s: Option<u32>) -> Reply {
    call.code = Some(error.code);
    Reply::Json {
        status: error.status,
        body: error.body(),
        retry_after_s,
    }
}

//! One attempt: gate, fence, call, outcome.
//!
//! `DeliveryAttempted` is on disk before the call, with the expected revision: of two owners only one gets to call. Every
//! outcome that is known is on disk before the lane goes on; an attempt whose outcome is unknown stays without one.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use chat4all_domain::delivery::{Command, Event, FailureClass, Reason, SentPersonal};
use chat4all_domain::message::Content;
use chat4all_domain::{AccountId, Delivery, Timestamp, delivery};
use chat4all_nats::execute;
use chat4all_nats::lease::{Lease, STOP_STARTING_AFTER};
use chat4all_service::Chain;
use chat4all_service::telemetry::trace::{current_traceparent, follow};
use tokio::time::Instant;
use tracing::{Instrument, error, info, info_span, warn};

use crate::channel::{Accepted, Outbound, Refusal, SendError, class_name};
use crate::clock;
use crate::config::Unsure;
use crate::gate::{Entered, Gate, Pass};
use crate::outbound::lanes::{Head, SEND};
use crate::outbound::outcome::{AGAIN, Answer, State, execute, insist, log_trouble, look, record};
use crate::outbound::verdict::{Verdict, judge};
use crate::outbound::{Line, Worker, text};
use crate::reference::Reference;
use crate::state::Went;

/// How the work on a head ended.
pub enum Ended {
    /// The log says how it stands now.
    Known(Box<State>),
    /// The call was made, and nobody knows what came of it.
    Unsure(Box<State>),
    /// Nothing was done: look again after that.
    NotStarted(Duration),
}

/// What every attempt in a partition needs.
pub struct Desk {
    pub worker: Arc<Worker>,
    pub lease: Lease,
    /// This tenure's name in `DeliveryAttempted`.
    pub owner: String,
    remembered: Mutex<HashSet<Attempt>>,
}

/// Names one attempt.
pub type Attempt = (delivery::Id, u16, u32);

impl Desk {
    /// A tenure begins.
    pub fn new(worker: Arc<Worker>, lease: Lease) -> Self {
        // One tenure's attempts are told from another's: only of its own can it know not to have called.
        let owner = format!(
            "{}/{}/{:08x}",
            worker.name,
            lease.partition(),
            fastrand::u32(..)
        );
        Self {
            worker,
            lease,
            owner,
            remembered: Mutex::default(),
        }
    }

    /// Attempts whose references were stored before their `DeliverySent`: when the fold meets that, there is nothing to do.
    pub fn remembered(&self) -> MutexGuard<'_, HashSet<Attempt>> {
        self.remembered
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

/// Works on a lane's head until its outcome is on disk.
pub async fn work(desk: Arc<Desk>, head: Head, account: AccountId) -> Ended {
    let Some(line) = desk.worker.lines.get(&account) else {
        return without_account(&desk, &head).await;
    };
    let stop = desk.lease.asked_back_token();
    let pass = match line.gate.enter(&stop, head.expires).await {
        Entered::Pass(pass) => pass,
        Entered::Stopped => return Ended::NotStarted(AGAIN),
        Entered::Expired => {
            let reason = Reason::MessageExpired;
            return give_up(&desk, &head, FailureClass::Permanent, reason).await;
        }
    };
    let mut pass = Some(pass);
    let ended = with_pass(&desk, &head, &account, (line, &mut pass)).await;
    if let Some(pass) = pass {
        pass.unused().await;
    }
    ended
}

/// Takes `pass` when a call was made.
async fn with_pass(
    desk: &Desk,
    head: &Head,
    account: &AccountId,
    (line, pass): (&Line, &mut Option<Pass>),
) -> Ended {
    if head.unsure && line.settings.unsure() == Unsure::Fail {
        return give_up(desk, head, FailureClass::Unsure, Reason::Unknown).await;
    }
    let (texts, log) = (&desk.worker.texts, &desk.worker.log);
    let message = match texts
        .at(log, desk.lease.partition(), head.accepted_at)
        .await
    {
        Ok(message) => message,
        Err(error) => {
            warn!(message.id = %head.id.message, error = %Chain(&error), "message `{}` cannot be read now", head.id.message);
            return Ended::NotStarted(AGAIN);
        }
    };
    let span = info_span!("deliver", message.id = %head.id.message, n = head.n, attempt = head.attempt, account = %account);
    let span = follow(span, message.traceparent.as_deref());
    attempt(desk, head, account, (line, pass), &message)
        .instrument(span)
        .await
}

async fn attempt(
    desk: &Desk,
    head: &Head,
    account: &AccountId,
    (line, pass): (&Line, &mut Option<Pass>),
    message: &text::Message,
) -> Ended {
    let traceparent = current_traceparent().or_else(|| message.traceparent.clone());
    let traceparent = traceparent.as_deref();
    let address = message.personal.addresses.get(usize::from(head.n));
    let (Content::Text { text }, Some(to)) = (&message.personal.content, address) else {
        return give_up(desk, head, FailureClass::Permanent, Reason::MessageInvalid).await;
    };
    if !desk.lease.may_start() {
        return Ended::NotStarted(AGAIN);
    }
    let customer = || desk.worker.ids.identity(head.id.kind, to);
    if let Some(until) = line.gate.pair_waits(customer) {
        // Another conversation with this customer was refused.
        return Ended::NotStarted(clock::until(until.min(head.expires)));
    }
    let asked = Instant::now();
    match fence(desk, head, traceparent).await {
        Ok(Answer::Done(_)) => {}
        Ok(Answer::Refused(state)) => return Ended::Known(state),
        Err(wait) => return Ended::NotStarted(wait),
    }
    if asked.elapsed() >= STOP_STARTING_AFTER || !desk.lease.renewed_lately() {
        return not_called(desk, head, traceparent).await;
    }
    line.metrics.attempt();
    let started = Instant::now();
    let outbound = Outbound {
        to,
        text,
        reference: reference(head),
        traceparent,
    };
    let sent = line.channel.send(&outbound).await;
    let took = started.elapsed();
    // The account's limit is about calls; writing down how this one went is no part of it.
    let not_before = match pass.take() {
        Some(pass) => pass.went(went(&sent, &line.gate)).await,
        None => clock::now(),
    };
    match sent {
        Ok(accepted) => {
            line.metrics.outcome("SENT", took);
            taken(desk, head, account, line, accepted.parts, traceparent).await
        }
        Err(SendError::Refused(refusal)) => {
            line.metrics.outcome(refusal.class_name(), took);
            let ended = refused(desk, head, account, (&refusal, not_before), traceparent).await;
            if refusal.class == FailureClass::Pair
                && let Ended::Known(state) = &ended
                && let Some(until) = state.delivery.entry(head.n, SEND).deferred_until
            {
                line.gate.pair_refused(customer(), until).await;
            }
            ended
        }
        Err(SendError::Unsure(why)) => {
            line.metrics.outcome("UNSURE", took);
            warn!(message.id = %head.id.message, n = head.n, attempt = head.attempt, why, "what came of sending message `{}` is not known: {why}", head.id.message);
            match look(desk, head).await {
                Some(state) => Ended::Unsure(state),
                None => Ended::NotStarted(AGAIN),
            }
        }
    }
}

/// What the end of a call says about its account.
fn went(sent: &Result<Accepted, SendError>, gate: &Gate) -> Went {
    match sent {
        Ok(_) => Went::Sent,
        Err(SendError::Unsure(_)) => Went::Failing,
        Err(SendError::Refused(refusal)) => match refusal.class {
            FailureClass::Transient | FailureClass::Unsure => Went::Failing,
            FailureClass::Rate => gate.throttled(refusal.retry_after),
            FailureClass::Operator => Went::Refused {
                reason: refusal.reason,
                code: refusal.code.clone(),
            },
            FailureClass::Pair
            | FailureClass::Later24h
            | FailureClass::Permanent
            | FailureClass::Stopped
            | FailureClass::Window
            | FailureClass::Degrade => Went::Answered,
        },
    }
}

fn reference(head: &Head) -> Reference {
    Reference {
        conversation: head.id.conversation,
        message: head.id.message,
        n: head.n,
        attempt: head.attempt,
    }
}

/// Puts `DeliveryAttempted` on the log. Only after `Done` may the provider be called.
async fn fence(desk: &Desk, head: &Head, traceparent: Option<&str>) -> Result<Answer, Duration> {
    let command = Command::Attempt {
        n: head.n,
        op: SEND,
        attempt: head.attempt,
        owner: desk.owner.clone(),
        at: clock::now(),
    };
    match execute(desk, head, command, traceparent).await {
        Ok(answer) => Ok(answer),
        // It may be on the log, or come to be. The call was not made, so nothing is lost: when it is there, it is ours and we
        // go on; when it is not, the next look begins anew.
        Err(execute::Error::Unknown) => match look(desk, head).await {
            Some(state) if is_ours(&state.delivery, desk, head) => Ok(Answer::Done(state)),
            Some(_) | None => Err(AGAIN),
        },
        Err(error) => {
            log_trouble(head, &error);
            Err(AGAIN)
        }
    }
}

fn is_ours(delivery: &Delivery, desk: &Desk, head: &Head) -> bool {
    let in_flight = delivery.entry(head.n, SEND).in_flight;
    in_flight.is_some_and(|(attempt, owner)| attempt == head.attempt && owner == desk.owner)
}

/// The provider took it: first the reference, then the event, then the receipts that were faster.
async fn taken(
    desk: &Desk,
    head: &Head,
    account: &AccountId,
    line: &Line,
    parts: Vec<String>,
    traceparent: Option<&str>,
) -> Ended {
    let at = clock::now();
    let receipts = &desk.worker.receipts;
    for part in &parts {
        insist(head, || {
            receipts.remember((head.id.kind, account), part, reference(head))
        })
        .await;
    }
    let command = Command::RecordSent {
        n: head.n,
        op: SEND,
        attempt: head.attempt,
        parts: SentPersonal {
            parts: parts.clone(),
        },
        at,
    };
    let this = (head.id, head.n, head.attempt);
    desk.remembered().insert(this);
    let state = record(desk, head, command, traceparent).await;
    let told = |event: &Event| matches!(event, Event::Sent { .. });
    if !state.events.iter().any(told) {
        // A receipt was faster and brought the id: the fold will not meet an event of ours.
        desk.remembered().remove(&this);
    }
    info!(message.id = %head.id.message, n = head.n, attempt = head.attempt, "the provider took message `{}`", head.id.message);
    for part in &parts {
        insist(head, || {
            receipts.collect((head.id.kind, account, &line.settings), part)
        })
        .await;
    }
    Ended::Known(state)
}

/// The provider's no: the class says what follows.
async fn refused(
    desk: &Desk,
    head: &Head,
    account: &AccountId,
    (refusal, not_before): (&Refusal, Timestamp),
    traceparent: Option<&str>,
) -> Ended {
    let now = clock::now();
    let transient = &desk.worker.pace.transient;
    let verdict = judge(
        refusal,
        head.streak,
        (now, head.expires),
        transient,
        fastrand::f64(),
    );
    info!(
        message.id = %head.id.message, n = head.n, attempt = head.attempt, account = %account,
        class = refusal.class_name(), code = refusal.code.as_deref(), ?verdict,
        "the provider did not take message `{}`", head.id.message
    );
    let until = match verdict {
        Verdict::Wait(until) => until,
        // The gate knows already; the lane stands before it, like all others of the account.
        Verdict::PauseAccount => not_before,
        Verdict::HoldAccount => now,
        Verdict::Fail => {
            let command = fail(head, refusal, now);
            return Ended::Known(record(desk, head, command, traceparent).await);
        }
    };
    // An attempt without an outcome on the log would be an unsure one after a restart, so also a short wait is told.
    let command = Command::Defer {
        n: head.n,
        op: SEND,
        generation: head.generation,
        attempt: head.attempt,
        until,
        class: refusal.class,
        reason: refusal.reason,
    };
    Ended::Known(record(desk, head, command, traceparent).await)
}

fn fail(head: &Head, refusal: &Refusal, at: Timestamp) -> Command {
    Command::Fail {
        n: head.n,
        op: SEND,
        generation: head.generation,
        attempt: head.attempt,
        class: refusal.class,
        reason: refusal.reason,
        provider_code: refusal.code.clone(),
        provider_text: refusal.text.clone(),
        at,
    }
}

/// The attempt is on the log, but so long ago that another owner may have called meanwhile: this process stood still, or the
/// broker did. No call is made, and the log says so: whoever owns the lane now need not wonder.
async fn not_called(desk: &Desk, head: &Head, traceparent: Option<&str>) -> Ended {
    warn!(message.id = %head.id.message, n = head.n, attempt = head.attempt, "attempt {} of message `{}` comes too late: no call is made", head.attempt, head.id.message);
    let command = Command::Defer {
        n: head.n,
        op: SEND,
        generation: head.generation,
        attempt: head.attempt,
        until: clock::now(),
        class: FailureClass::Transient,
        reason: Reason::InternalError,
    };
    Ended::Known(record(desk, head, command, traceparent).await)
}

/// It is not even tried.
async fn give_up(desk: &Desk, head: &Head, class: FailureClass, reason: Reason) -> Ended {
    warn!(message.id = %head.id.message, n = head.n, class = class_name(class), ?reason, "message `{}` is given up", head.id.message);
    let command = Command::Fail {
        n: head.n,
        op: SEND,
        generation: head.generation,
        // The last attempt made, not the next one.
        attempt: head.attempt.saturating_sub(1),
        class,
        reason,
        provider_code: None,
        provider_text: None,
        at: clock::now(),
    };
    Ended::Known(record(desk, head, command, None).await)
}

/// The account is not in this configuration (any more). Its operator may bring it back until the message expires.
async fn without_account(desk: &Desk, head: &Head) -> Ended {
    if head.expires <= clock::now() {
        let reason = Reason::ChannelConfigurationMissing;
        return give_up(desk, head, FailureClass::Operator, reason).await;
    }
    error!(message.id = %head.id.message, "message `{}` goes out through an account that is not configured: it waits", head.id.message);
    Ended::NotStarted(Duration::from_secs(60))
}

mod lattice;
mod log;
mod rules;

use crate::delivery::{
    Attempted, Command, Deferred, DeliveredOrRead, Delivery, Event, Failed, FailedPersonal,
    FailureClass, Operation, Reason, Receipt, Redriven, Sent, SentPersonal, Status, Step, Words,
};
use crate::spec::{self, Given, at, user};

const SEND: Operation = Operation::Send;

fn given(history: impl IntoIterator<Item = Event>) -> Given<Delivery> {
    spec::given(history)
}

/// Delivery 0's status.
fn status(given: &Given<Delivery>) -> Status {
    given.state().entry(0, SEND).status()
}

// What one asks of delivery 0. The time of everything is `at(seconds)`.

fn attempt(attempt: u32, seconds: i64) -> Command {
    Command::Attempt {
        n: 0,
        op: SEND,
        attempt,
        owner: "worker-1".to_owned(),
        at: at(seconds),
    }
}
fn record_sent(attempt: u32, seconds: i64) -> Command {
    Command::RecordSent {
        n: 0,
        op: SEND,
        attempt,
        parts: SentPersonal {
            parts: vec![format!("wamid.{attempt}")],
        },
        at: at(seconds),
    }
}
fn receipt(attempt: u32, step: Step, seconds: i64) -> Command {
    Command::RecordReceipt(Receipt {
        n: 0,
        op: SEND,
        attempt,
        step,
        at: at(seconds),
    })
}
fn will_not_arrive() -> Step {
    Step::Failed {
        class: FailureClass::Permanent,
        reason: Reason::RecipientNotReachable,
        provider_code: Some("131026".to_owned()),
        provider_text: Some(Words("cannot reach 4915112345678".to_owned())),
    }
}
fn fail(generation: u32, attempt: u32, seconds: i64) -> Command {
    Command::Fail {
        n: 0,
        op: SEND,
        generation,
        attempt,
        class: FailureClass::Permanent,
        reason: Reason::RecipientNotReachable,
        provider_code: Some("131026".to_owned()),
        provider_text: Some(Words("cannot reach 4915112345678".to_owned())),
        at: at(seconds),
    }
}
fn defer(generation: u32, attempt: u32, until: i64) -> Command {
    Command::Defer {
        n: 0,
        op: SEND,
        generation,
        attempt,
        until: at(until),
        class: FailureClass::Transient,
        reason: Reason::ChannelFailure,
    }
}
fn redrive(only: &[u16], seconds: i64) -> Command {
    Command::Redrive {
        only: only.to_vec(),
        by: user(1),
        at: at(seconds),
    }
}

// What happened to delivery `n`.

fn attempted_of(n: u16, attempt: u32, seconds: i64) -> Event {
    Event::Attempted {
        facts: Attempted {
            n,
            op: SEND,
            attempt,
            owner: "worker-1".to_owned(),
            occurred_at: at(seconds),
        },
    }
}
fn failed_of(n: u16, attempt: u32, seconds: i64) -> Event {
    Event::Failed {
        facts: Failed {
            n,
            op: SEND,
            attempt,
            class: FailureClass::Permanent,
            reason: Reason::RecipientNotReachable,
            provider_code: Some("131026".to_owned()),
            occurred_at: at(seconds),
        },
        personal: FailedPersonal {
            provider_text: Some("cannot reach 4915112345678".to_owned()),
        },
    }
}
fn redriven_of(n: u16, generation: u32, seconds: i64) -> Event {
    Event::Redriven {
        facts: Redriven {
            n,
            op: SEND,
            generation,
            by: user(1),
            occurred_at: at(seconds),
        },
    }
}

// What happened to delivery 0.

fn attempted(attempt: u32, seconds: i64) -> Event {
    attempted_of(0, attempt, seconds)
}
fn sent(attempt: u32, seconds: i64) -> Event {
    sent_as(attempt, vec![format!("wamid.{attempt}")], seconds)
}
fn sent_by_receipt(attempt: u32, seconds: i64) -> Event {
    sent_as(attempt, vec![], seconds)
}
fn sent_as(attempt: u32, parts: Vec<String>, seconds: i64) -> Event {
    Event::Sent {
        facts: Sent {
            n: 0,
            op: SEND,
            attempt,
            occurred_at: at(seconds),
        },
        personal: SentPersonal { parts },
    }
}
fn delivered(attempt: u32, seconds: i64) -> Event {
    Event::Delivered {
        facts: arrival(attempt, seconds),
    }
}
fn read(attempt: u32, seconds: i64) -> Event {
    Event::Read {
        facts: arrival(attempt, seconds),
    }
}
fn arrival(attempt: u32, seconds: i64) -> DeliveredOrRead {
    DeliveredOrRead {
        n: 0,
        op: SEND,
        attempt,
        occurred_at: at(seconds),
    }
}
fn failed(attempt: u32, seconds: i64) -> Event {
    failed_of(0, attempt, seconds)
}
fn deferred(attempt: u32, until: i64) -> Event {
    Event::Deferred {
        facts: Deferred {
            n: 0,
            op: SEND,
            attempt,
            until: at(until),
            class: FailureClass::Transient,
            reason: Reason::ChannelFailure,
        },
    }
}
fn redriven(generation: u32, seconds: i64) -> Event {
    redriven_of(0, generation, seconds)
}

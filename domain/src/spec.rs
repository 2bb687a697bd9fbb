//! Given / when / then for every aggregate, through the same `handle` and `apply` that the log uses.
//!
//! Each `when` also proves, whatever the test is about: deciding does not wait for anything, a refusal leaves the state
//! alone, the events applied from the beginning give the state that `handle` left behind, and events and state come
//! back from JSON as they were.

use std::fmt::Debug;
use std::future::Future;
use std::pin::pin;
use std::task::{Context, Poll, Waker};

use cqrs_es::event_sink::EventSink;
use serde::Serialize;
use serde::de::DeserializeOwned;
use uuid::Uuid;

use crate::{
    AccountId, Address, Aggregate, ChannelKind, ConversationId, Event, Fingerprint, IdSecret,
    IdentityId, MessageId, ParticipantId, Parts, Text, Timestamp, UserId,
};

/// What has happened so far.
pub struct Given<A: Aggregate> {
    history: Vec<A::Event>,
    state: A,
}

/// What came of one command.
#[must_use]
pub struct Then<A: Aggregate> {
    history: Vec<A::Event>,
    state: A,
    outcome: Result<Vec<A::Event>, A::Error>,
}

/// An aggregate with this history.
pub fn given<A: Aggregate>(history: impl IntoIterator<Item = A::Event>) -> Given<A> {
    let history: Vec<A::Event> = history.into_iter().collect();
    let state = fold(&history);
    Given { history, state }
}

/// What `events` add up to, from the beginning.
pub fn fold<A: Aggregate>(events: &[A::Event]) -> A {
    let mut state = A::default();
    for event in events {
        state.apply(event.clone());
    }
    state
}

impl<A: Aggregate + PartialEq> Given<A> {
    #[track_caller]
    pub fn when(self, command: A::Command) -> Then<A> {
        let Self { mut history, state } = self;
        let before = state.clone();
        let mut after = state;
        let sink = EventSink::default();
        let outcome = at_once(after.handle(command, &(), &sink));
        let written = at_once(sink.collect());
        let outcome = match outcome {
            Err(rejection) => {
                assert_eq!(written, [], "a refusal writes nothing");
                assert_eq!(after, before, "a refusal leaves the state alone");
                Err(rejection)
            }
            Ok(()) => Ok(written),
        };
        history.extend(outcome.iter().flatten().cloned());
        assert_eq!(fold::<A>(&history), after, "the events add up to the state");
        assert_same_in_json(&after);
        history.iter().for_each(assert_same_in_json);
        let state = after;
        Then {
            history,
            state,
            outcome,
        }
    }
    /// The state itself, for what is asked of it rather than commanded.
    pub fn state(&self) -> &A {
        &self.state
    }
}

impl<A: Aggregate + PartialEq> Then<A> {
    /// Exactly these events, in this order.
    #[track_caller]
    pub fn then(self, expected: impl IntoIterator<Item = A::Event>) -> Given<A> {
        let expected: Vec<A::Event> = expected.into_iter().collect();
        assert_eq!(self.outcome, Ok(expected));
        self.go_on()
    }
    /// It is fine, and there is nothing to append.
    #[track_caller]
    pub fn then_nothing(self) -> Given<A> {
        self.then([])
    }
    #[track_caller]
    pub fn then_rejected(self, expected: A::Error) -> Given<A> {
        assert_eq!(self.outcome, Err(expected));
        self.go_on()
    }
    pub fn is_accepted(&self) -> bool {
        self.outcome.is_ok()
    }
    /// The events, whatever they are.
    #[track_caller]
    pub fn events(&self) -> &[A::Event] {
        self.outcome.as_ref().expect("not rejected")
    }
    /// Later commands meet the state this one left behind.
    pub fn go_on(self) -> Given<A> {
        let Self { history, state, .. } = self;
        Given { history, state }
    }
}

/// Deciding is pure, so its future is ready when first asked.
#[track_caller]
fn at_once<F: Future>(future: F) -> F::Output {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(output) => output,
        Poll::Pending => panic!("deciding waits for something"),
    }
}

#[track_caller]
pub fn assert_same_in_json<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) {
    let text = serde_json::to_string(value).unwrap();
    let read: T = serde_json::from_str(&text).unwrap();
    assert!(read == *value, "{value:?} changed in JSON");
}

/// Pins what stands on the log: `value` is written as `json`, and `json` is read as `value`.
#[track_caller]
pub fn assert_on_the_log<T: Serialize + DeserializeOwned + PartialEq + Debug>(
    value: &T,
    json: &str,
) {
    let golden: serde_json::Value = serde_json::from_str(json).unwrap();
    let written = serde_json::to_string(value).unwrap();
    let written: serde_json::Value = serde_json::from_str(&written).unwrap();
    assert_eq!(written, golden, "written differently");
    let read: T = serde_json::from_str(json).unwrap();
    assert!(read == *value, "read differently: {read:?}");
}

/// The same of an event, which is also read by its name and parts.
#[track_caller]
pub fn assert_event_on_the_log<E: Event + Debug>(event: &E, json: &str) {
    assert_on_the_log(event, json);
    let golden: serde_json::Value = serde_json::from_str(json).unwrap();
    let part = |name| golden.get(name).cloned();
    let parts = Parts {
        facts: part("facts"),
        personal: part("personal"),
    };
    let read = E::read(event.name(), parts).unwrap();
    assert!(read == *event, "read differently by its name: {read:?}");
    let without = Parts {
        facts: None,
        personal: part("personal"),
    };
    let error = E::read(event.name(), without).unwrap_err();
    assert_eq!(error.to_string(), "missing field `facts`");
    let error = E::read(
        "Unheard",
        Parts {
            facts: part("facts"),
            personal: None,
        },
    )
    .unwrap_err();
    assert_eq!(error.to_string(), "there is no event Unheard");
}

/// What `Debug` shows of `value`.
pub fn debug(value: &impl Debug) -> String {
    format!("{value:?}\n{value:#?}")
}

pub fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_ms(1_795_320_000_000 + seconds * 1_000)
}
pub fn conversation(number: u128) -> ConversationId {
    ConversationId::new(Uuid::from_u128(0xc0 << 96 | number))
}
pub fn message(number: u128) -> MessageId {
    MessageId::new(Uuid::from_u128(0xe5 << 96 | number))
}
pub fn participant(number: u128) -> ParticipantId {
    ParticipantId::new(Uuid::from_u128(0xba << 96 | number))
}
pub fn user(number: u128) -> UserId {
    UserId::new(Uuid::from_u128(0xa5 << 96 | number))
}
pub fn identity(number: u128) -> IdentityId {
    IdentityId::new(Uuid::from_u128(0x1d << 96 | number))
}
pub fn account(id: &str) -> AccountId {
    id.parse().unwrap()
}
pub fn address(digits: &str) -> Address {
    Address::parse(ChannelKind::WhatsApp, digits).unwrap()
}
pub fn text(text: &str) -> Text {
    Text::parse(text.to_owned(), Text::MAX_CHARS).unwrap()
}
pub fn secret() -> IdSecret {
    IdSecret::new(std::array::from_fn(|i| i as u8))
}
pub fn fingerprint(request: &str) -> Fingerprint {
    secret().fingerprint(user(1), request)
}

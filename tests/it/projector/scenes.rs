//! Random histories: steps in small numbers, played as commands. What the domain refuses did not happen.

use std::collections::BTreeMap;

use chat4all_domain::delivery::{FailureClass, Operation, Reason, Step};
use chat4all_domain::{Delivery, MessageId, ParticipantId, Timestamp, message};
use uuid::Uuid;

use super::story::{Accepted, BEGIN_MS, Story, contact_in, conversation, user, user_in};

/// One step of a random history, in small numbers that are taken modulo what there is.
#[derive(Clone, Debug)]
pub enum Scene {
    Start {
        conversation: u8,
    },
    Join {
        conversation: u8,
        who: u8,
    },
    Leave {
        conversation: u8,
        who: u8,
    },
    Say {
        conversation: u8,
        words: String,
        to: u8,
    },
    Attempt {
        message: u8,
        n: u8,
    },
    Sent {
        message: u8,
        n: u8,
    },
    Receipt {
        message: u8,
        n: u8,
        step: u8,
        at_s: u8,
    },
    Fail {
        message: u8,
        n: u8,
    },
    Defer {
        message: u8,
        n: u8,
    },
    Redrive {
        message: u8,
    },
    Read {
        who: u8,
        message: u8,
    },
    Meet {
        who: u8,
        name: Option<String>,
    },
}

impl Story {
    /// Plays a history; what the domain refuses did not happen. `base` keeps histories apart.
    pub async fn play(&self, base: u64, steps: &[Scene]) {
        let mut messages: Vec<Accepted> = Vec::new();
        let mut states: BTreeMap<Uuid, Delivery> = BTreeMap::new();
        for (place, step) in (0_u64..).zip(steps) {
            let at = |number: u8| conversation(base + u64::from(number % 3));
            let of = |number: u8, messages: &[Accepted]| {
                let count = messages.len();
                (count > 0).then(|| messages[usize::from(number) % count])
            };
            let entry = |message: Accepted, n: u8, states: &BTreeMap<Uuid, Delivery>| {
                let state = states.get(&message.id.message.uuid());
                let n = u16::from(n % 2);
                (
                    n,
                    state.cloned().unwrap_or_default().entry(n, Operation::Send),
                )
            };
            let mut touched = None;
            match step {
                Scene::Start { conversation } => {
                    self.start(at(*conversation), 2, 2).await;
                }
                Scene::Join { conversation, who } => {
                    let id = at(*conversation);
                    let who = u64::from(who % 4);
                    let member = if who < 2 {
                        user_in(id, who)
                    } else {
                        contact_in(id, who)
                    };
                    self.join(id, member).await;
                }
                Scene::Leave { conversation, who } => {
                    let id = at(*conversation);
                    let who = contact_in(id, u64::from(who % 4)).participant();
                    self.leave(id, who).await;
                }
                Scene::Say {
                    conversation,
                    words,
                    to,
                } => {
                    let conversation = at(*conversation);
                    let key = format!("{base}/{place}");
                    let message = MessageId::derive(conversation, user(0), &key);
                    let to: &[u64] = [&[][..], &[0], &[0, 1]][usize::from(to % 3)];
                    let id = message::Id {
                        conversation,
                        message,
                    };
                    messages.extend(self.accept(id, words, to).await);
                }
                Scene::Attempt { message, n } => {
                    if let Some(message) = of(*message, &messages) {
                        let (n, entry) = entry(message, *n, &states);
                        let state = self.attempt(message.id, n, entry.attempts + 1).await;
                        touched = Some((message, state));
                    }
                }
                Scene::Sent { message, n } => {
                    if let Some(message) = of(*message, &messages) {
                        let (n, entry) = entry(message, *n, &states);
                        let state = self.sent(message.id, n, entry.attempts).await;
                        touched = Some((message, state));
                    }
                }
                Scene::Receipt {
                    message,
                    n,
                    step,
                    at_s,
                } => {
                    if let Some(message) = of(*message, &messages) {
                        let (n, entry) = entry(message, *n, &states);
                        let step = match step % 4 {
                            0 => Step::Sent,
                            1 => Step::Delivered,
                            2 => Step::Read,
                            _ => Step::Failed {
                                class: FailureClass::Transient,
                                reason: Reason::ChannelFailure,
                                provider_code: None,
                                provider_text: None,
                            },
                        };
                        let when = Timestamp::from_unix_ms(BEGIN_MS + i64::from(*at_s) * 1_000);
                        let attempt = entry.attempts.saturating_sub(u32::from(at_s % 2));
                        let state = self.receipt(message.id, (n, attempt), step, when).await;
                        touched = Some((message, state));
                    }
                }
                Scene::Fail { message, n } => {
                    if let Some(message) = of(*message, &messages) {
                        let (n, entry) = entry(message, *n, &states);
                        let which = (n, entry.generation, entry.attempts);
                        touched = Some((message, self.fail(message.id, which).await));
                    }
                }
                Scene::Defer { message, n } => {
                    if let Some(message) = of(*message, &messages) {
                        let (n, entry) = entry(message, *n, &states);
                        let which = (n, entry.generation, entry.attempts);
                        touched = Some((message, self.defer(message.id, which).await));
                    }
                }
                Scene::Redrive { message } => {
                    if let Some(message) = of(*message, &messages) {
                        touched = Some((message, self.redrive(message.id).await));
                    }
                }
                Scene::Read { who, message } => {
                    if let Some(message) = of(*message, &messages) {
                        let who = user(u64::from(who % 2));
                        let reader = ParticipantId::of_user(message.id.conversation, who);
                        self.read_up_to(reader, message).await;
                    }
                }
                Scene::Meet { who, name } => {
                    let number = base + u64::from(who % 3);
                    self.meet(number, name.as_deref()).await;
                }
            }
            if let Some((message, Some(state))) = touched {
                states.insert(message.id.message.uuid(), state);
            }
        }
    }
}

//! Commands through the one write path, and what they leave on the log.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use chat4all_domain::conversation::{Kind, Member};
use chat4all_domain::delivery::{
    Command as Deliver, FailureClass, Operation, Reason, Receipt, SentPersonal, Step,
};
use chat4all_domain::message::{Accept, Command as Send, Content, Origin, Recipient, Standing};
use chat4all_domain::{
    AccountId, Address, Aggregate, ChannelKind, Conversation, ConversationId, Delivery, IdSecret,
    Identity, IdentityId, Message, MessageId, ParticipantId, Position, Reader, Text, Timestamp,
    UserId, conversation, delivery, identity, message, reader,
};
use chat4all_nats::execute::{Context, Error, Executed};
use chat4all_nats::{Log, Store};
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use crate::support::log::context;

/// When every story begins.
const BEGIN_MS: i64 = 1_764_000_000_000;

/// A writer. Everything is named by small numbers; each step is a second later than the one before.
pub struct Story {
    conversations: Store<Conversation>,
    messages: Store<Message>,
    deliveries: Store<Delivery>,
    readers: Store<Reader>,
    identities: Store<Identity>,
    clock_s: AtomicI64,
    /// The trace that every command belongs to.
    pub traceparent: Option<String>,
}

/// An accepted message.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    pub id: message::Id,
    pub position: Position,
}

pub fn conversation(number: u64) -> ConversationId {
    ConversationId::new(Uuid::new_v5(&Uuid::NAMESPACE_OID, &number.to_be_bytes()))
}

pub fn user(number: u64) -> UserId {
    UserId::derive("stories", &number.to_string())
}

pub fn account() -> AccountId {
    "whatsapp-main".parse().expect("an account id")
}

pub fn address(number: u64) -> Address {
    let digits = format!("49151{number:08}");
    Address::parse(ChannelKind::WhatsApp, &digits).expect("a phone number")
}

pub fn identity_of(number: u64) -> IdentityId {
    IdSecret::new([7; 32]).identity(ChannelKind::WhatsApp, &address(number))
}

pub fn user_in(conversation: ConversationId, number: u64) -> Member {
    Member::User {
        participant: ParticipantId::of_user(conversation, user(number)),
        user: user(number),
    }
}

pub fn contact_in(conversation: ConversationId, number: u64) -> Member {
    let (identity, account) = (identity_of(number), account());
    Member::Contact {
        participant: ParticipantId::of_contact(conversation, account.as_str(), identity),
        identity,
        kind: ChannelKind::WhatsApp,
        account,
        address: address(number),
    }
}

pub fn delivery_of(message: message::Id) -> delivery::Id {
    delivery::Id {
        kind: ChannelKind::WhatsApp,
        conversation: message.conversation,
        message: message.message,
    }
}

pub fn text(words: &str) -> Text {
    Text::parse(words.to_owned(), Text::MAX_CHARS).expect("a text")
}

impl Story {
    pub fn new(log: &Log) -> Self {
        let tasks = TaskTracker::new();
        Self {
            conversations: Store::new(log.clone(), tasks.clone()),
            messages: Store::new(log.clone(), tasks.clone()),
            deliveries: Store::new(log.clone(), tasks.clone()),
            readers: Store::new(log.clone(), tasks.clone()),
            identities: Store::new(log.clone(), tasks),
            clock_s: AtomicI64::new(0),
            traceparent: None,
        }
    }

    /// The next second.
    pub fn later(&self) -> Timestamp {
        let seconds = self.clock_s.fetch_add(1, Ordering::Relaxed);
        Timestamp::from_unix_ms(BEGIN_MS + seconds * 1_000)
    }

    fn context(&self) -> Context {
        Context {
            now: self.later(),
            traceparent: self.traceparent.clone(),
            ..context(60)
        }
    }

    /// Carries a command out; `None` when the domain refuses it.
    async fn told<A: Aggregate>(
        &self,
        store: &Store<A>,
        id: &A::Id,
        command: A::Command,
    ) -> Option<Executed<A>> {
        match store.execute(id, command, self.context()).await {
            Ok(executed) => Some(executed),
            Err(Error::Rejected(_)) => None,
            Err(error) => panic!("the log takes it: {error}"),
        }
    }

    /// A user and somebody outside, and more users if wanted.
    pub async fn start(&self, id: ConversationId, users: u64, contacts: u64) -> Option<Position> {
        let users = (0..users).map(|n| user_in(id, n));
        let contacts = (0..contacts).map(|n| contact_in(id, n));
        let start = conversation::Command::Start {
            kind: Kind::Group,
            members: users.chain(contacts).collect(),
            title: Some(text("Order 4711 – \u{1f4e6}")),
            fingerprint: None,
            by: Some(user(0)),
            at: self.later(),
        };
        let started = self.told(&self.conversations, &id, start).await?;
        Some(started.position)
    }

    pub async fn join(&self, id: ConversationId, member: Member) -> Option<Position> {
        let (by, at) = (Some(user(0)), self.later());
        let add = conversation::Command::Add { member, by, at };
        Some(self.told(&self.conversations, &id, add).await?.position)
    }

    pub async fn leave(&self, id: ConversationId, who: ParticipantId) -> Option<Position> {
        let remove = conversation::Command::Remove {
            participant: who,
            by: user(0),
            at: self.later(),
        };
        Some(self.told(&self.conversations, &id, remove).await?.position)
    }

    /// User 0 says something to the contacts with those numbers.
    pub async fn accept(&self, id: message::Id, words: &str, to: &[u64]) -> Option<Accepted> {
        let recipient = |number: &u64| {
            let member = contact_in(id.conversation, *number);
            Recipient {
                participant: member.participant(),
                kind: ChannelKind::WhatsApp,
                account: account(),
                address: address(*number),
            }
        };
        let accept = Accept {
            origin: Origin::Api,
            author: ParticipantId::of_user(id.conversation, user(0)),
            standing: Standing::Participant,
            content: Content::Text { text: text(words) },
            provider_id: None,
            fingerprint: IdSecret::new([7; 32]).fingerprint(user(0), words),
            recipients: to.iter().map(recipient).collect(),
            at: self.later(),
            valid_for: Duration::from_secs(86_400),
        };
        let accepted = self.told(&self.messages, &id, Send::Accept(accept)).await?;
        let position = accepted.position;
        Some(Accepted { id, position })
    }

    /// What the deliveries of a message came to after a command.
    pub async fn deliver(&self, message: message::Id, command: Deliver) -> Option<Delivery> {
        let id = delivery_of(message);
        let executed = self.told(&self.deliveries, &id, command).await?;
        Some(executed.state)
    }

    pub async fn attempt(&self, message: message::Id, n: u16, attempt: u32) -> Option<Delivery> {
        let attempt = Deliver::Attempt {
            n,
            op: Operation::Send,
            attempt,
            owner: "bridge/1".to_owned(),
            at: self.later(),
        };
        self.deliver(message, attempt).await
    }

    pub async fn sent(&self, message: message::Id, n: u16, attempt: u32) -> Option<Delivery> {
        let parts = vec![format!("wamid.{}.{n}.{attempt}", message.message)];
        let sent = Deliver::RecordSent {
            n,
            op: Operation::Send,
            attempt,
            parts: SentPersonal { parts },
            at: self.later(),
        };
        self.deliver(message, sent).await
    }

    pub async fn receipt(
        &self,
        message: message::Id,
        (n, attempt): (u16, u32),
        step: Step,
        at: Timestamp,
    ) -> Option<Delivery> {
        let receipt = Receipt {
            n,
            op: Operation::Send,
            attempt,
            step,
            at,
        };
        self.deliver(message, Deliver::RecordReceipt(receipt)).await
    }

    pub async fn fail(
        &self,
        message: message::Id,
        (n, generation, attempt): (u16, u32, u32),
    ) -> Option<Delivery> {
        let fail = Deliver::Fail {
            n,
            op: Operation::Send,
            generation,
            attempt,
            class: FailureClass::Permanent,
            reason: Reason::RecipientNotReachable,
            provider_code: Some("131026".to_owned()),
            provider_text: None,
            at: self.later(),
        };
        self.deliver(message, fail).await
    }

    pub async fn defer(
        &self,
        message: message::Id,
        (n, generation, attempt): (u16, u32, u32),
    ) -> Option<Delivery> {
        let defer = Deliver::Defer {
            n,
            op: Operation::Send,
            generation,
            attempt,
            until: self.later().plus(Duration::from_secs(600)),
            class: FailureClass::Later24h,
            reason: Reason::RateLimited,
        };
        self.deliver(message, defer).await
    }

    pub async fn redrive(&self, message: message::Id) -> Option<Delivery> {
        let (by, at) = (user(0), self.later());
        let redrive = Deliver::Redrive {
            only: vec![],
            by,
            at,
        };
        self.deliver(message, redrive).await
    }

    pub async fn read_up_to(&self, reader: ParticipantId, message: Accepted) -> Option<Position> {
        let id = reader::Id {
            conversation: message.id.conversation,
            participant: reader,
        };
        let read = reader::Command::ReadUpTo {
            message: message.id.message,
            sequence: message.position.sequence,
            at: self.later(),
        };
        Some(self.told(&self.readers, &id, read).await?.position)
    }

    pub async fn meet(&self, number: u64, name: Option<&str>) -> Option<Position> {
        let meet = identity::Command::Meet {
            kind: ChannelKind::WhatsApp,
            address: address(number),
            name: name.map(text),
            at: self.later(),
        };
        let id = identity_of(number);
        Some(self.told(&self.identities, &id, meet).await?.position)
    }

    /// A conversation with one contact, and messages that each go all the way to READ: 1 + 5 per message.
    pub async fn whole_journeys(&self, number: u64, messages: u64) {
        let id = conversation(number);
        self.start(id, 1, 1).await.expect("it starts");
        for n in 0..messages {
            let message = MessageId::derive(id, user(0), &n.to_string());
            let message = message::Id {
                conversation: id,
                message,
            };
            self.accept(message, &format!("message {n}"), &[0])
                .await
                .expect("it is accepted");
            self.attempt(message, 0, 1).await.expect("an attempt");
            self.sent(message, 0, 1).await.expect("it is sent");
            for step in [Step::Delivered, Step::Read] {
                let at = self.later();
                let receipt = self.receipt(message, (0, 1), step, at);
                receipt.await.expect("it arrives");
            }
        }
    }
}

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

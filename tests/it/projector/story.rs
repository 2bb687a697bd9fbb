//! Commands through the one write path, and what they leave on the log.

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
pub const BEGIN_MS: i64 = 1_764_000_000_000;

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

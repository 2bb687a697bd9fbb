//! The customers' phones: what arrived on them, what was written there, and how far each message has come.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use serde::{Deserialize, Serialize, Serializer, ser::SerializeStruct};

use crate::clock::UnixMs;
use crate::wamid::Direction;

/// A step a status webhook reports. Ordered: read comes last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Step {
    Sent = 1,
    Delivered = 2,
    Read = 3,
    /// It will not arrive. Final.
    Failed = 4,
}

impl Step {
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Sent => "sent",
            Self::Delivered => "delivered",
            Self::Read => "read",
            Self::Failed => "failed",
        }
    }
}

/// One message, in either direction.
pub(crate) struct Message {
    pub(crate) wamid: String,
    pub(crate) phone_number_id: Arc<str>,
    /// The customer's number, digits.
    pub(crate) number: Arc<str>,
    /// The name on the customer's profile.
    pub(crate) name: Arc<str>,
    pub(crate) direction: Direction,
    pub(crate) text: String,
    pub(crate) at: UnixMs,
    pub(crate) reply_to: Option<String>,
    pub(crate) callback_data: Option<String>,
    /// Read when the page shows it, not by itself.
    pub(crate) read_when_shown: bool,
    /// The webhook for `read` is left out by a fault.
    pub(crate) read_unreported: bool,
    step: AtomicU8,
    shown: AtomicBool,
}

/// What a message is made of.
pub(crate) struct Draft {
    pub(crate) wamid: String,
    pub(crate) phone_number_id: Arc<str>,
    pub(crate) number: String,
    pub(crate) direction: Direction,
    pub(crate) text: String,
    pub(crate) at: UnixMs,
    pub(crate) reply_to: Option<String>,
    pub(crate) callback_data: Option<String>,
    pub(crate) read_when_shown: bool,
    pub(crate) read_unreported: bool,
}

impl Message {
    /// How far it has come; None: accepted, not more.
    pub(crate) fn step(&self) -> Option<Step> {
        match self.step.load(Ordering::Relaxed) {
            1 => Some(Step::Sent),
            2 => Some(Step::Delivered),
            3 => Some(Step::Read),
            4 => Some(Step::Failed),
            _ => None,
        }
    }
    /// Comes at least as far as `step`. Webhooks may go out in any order; a phone never forgets.
    pub(crate) fn advance(&self, step: Step) {
        self.step.fetch_max(step as u8, Ordering::Relaxed);
    }
    /// True for the first one who shows it.
    fn show_once(&self) -> bool {
        !self.shown.swap(true, Ordering::Relaxed)
    }
}

impl Serialize for Message {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut out = serializer.serialize_struct("Message", 8)?;
        out.serialize_field("id", &self.wamid)?;
        out.serialize_field("phone_number_id", &*self.phone_number_id)?;
        out.serialize_field("direction", &self.direction)?;
        out.serialize_field("text", &self.text)?;
        out.serialize_field("at", &self.at)?;
        out.serialize_field("reply_to", &self.reply_to)?;
        out.serialize_field("status", self.step().map_or("accepted", Step::as_str))?;
        out.serialize_field("read_when_shown", &self.read_when_shown)?;
        out.end()
    }
}

/// One customer's phone.
struct Phone {
    number: Arc<str>,
    name: Arc<str>,
    messages: VecDeque<Arc<Message>>,
    typing_until: Option<UnixMs>,
}

/// All phones. Keeps at most `limit` messages; the oldest are dropped and counted.
pub(crate) struct Phones {
    phones: BTreeMap<Arc<str>, Phone>,
    order: VecDeque<Arc<str>>,
    by_id: BTreeMap<String, Arc<Message>>,
    limit: usize,
    dropped: u64,
}

/// A phone as the list of phones shows it.
#[derive(Serialize)]
pub(crate) struct Summary {
    number: Arc<str>,
    name: Arc<str>,
    messages: usize,
    last_text: Option<String>,
    last_at: Option<UnixMs>,
}

/// A phone as its page shows it.
#[derive(Serialize)]
pub(crate) struct View {
    number: Arc<str>,
    name: Arc<str>,
    typing: bool,
    messages: Vec<Arc<Message>>,
}

impl Phones {
    pub(crate) fn new(limit: usize) -> Self {
        Self {
            phones: BTreeMap::new(),
            order: VecDeque::new(),
            by_id: BTreeMap::new(),
            limit: limit.max(1),
            dropped: 0,
        }
    }

    /// Puts a message on its phone; a phone comes into being with its first one.
    pub(crate) fn add(&mut self, draft: Draft) -> Arc<Message> {
        if self.order.len() >= self.limit {
            self.drop_oldest();
        }
        let phone = self.phone(&draft.number);
        let message = Arc::new(Message {
            number: phone.number.clone(),
            name: phone.name.clone(),
            wamid: draft.wamid,
            phone_number_id: draft.phone_number_id,
            direction: draft.direction,
            text: draft.text,
            at: draft.at,
            reply_to: draft.reply_to,
            callback_data: draft.callback_data,
            read_when_shown: draft.read_when_shown,
            read_unreported: draft.read_unreported,
            step: AtomicU8::new(0),
            shown: AtomicBool::new(false),
        });
        phone.messages.push_back(message.clone());
        phone.typing_until = None;
        self.order.push_back(message.number.clone());
        self.by_id.insert(message.wamid.clone(), message.clone());
        message
    }

    /// The oldest message of all is the oldest one of its phone.
    fn drop_oldest(&mut self) {
        let Some(number) = self.order.pop_front() else {
            return;
        };
        if let Some(phone) = self.phones.get_mut(&number) {
            if let Some(message) = phone.messages.pop_front() {
                self.by_id.remove(&message.wamid);
                self.dropped += 1;
            }
            if phone.messages.is_empty() {
                self.phones.remove(&number);
            }
        }
    }

    fn phone(&mut self, number: &str) -> &mut Phone {
        if !self.phones.contains_key(number) {
            let number: Arc<str> = number.into();
            let tail = &number[number.len().saturating_sub(4)..];
            let phone = Phone {
                number: number.clone(),
                name: format!("Customer {tail}").into(),
                messages: VecDeque::new(),
                typing_until: None,
            };
            self.phones.insert(number.clone(), phone);
        }
        self.phones
            .get_mut(number)
            .expect("inserted above if it was missing")
    }

    /// The name its messages carry from now on.
    pub(crate) fn rename(&mut self, number: &str, name: &str) {
        self.phone(number).name = name.into();
    }

    pub(crate) fn message(&self, wamid: &str) -> Option<Arc<Message>> {
        self.by_id.get(wamid).cloned()
    }

    /// The business is typing to `number`, for as long as the provider shows it.
    pub(crate) fn typing(&mut self, number: &str, until: UnixMs) {
        if let Some(phone) = self.phones.get_mut(number) {
            phone.typing_until = Some(until);
        }
    }

    /// The business that wrote to or heard from this number last.
    pub(crate) fn last_business(&self, number: &str) -> Option<Arc<str>> {
        let last = self.phones.get(number)?.messages.back()?;
        Some(last.phone_number_id.clone())
    }

    /// Messages to this number that nobody has looked at yet and that wait for it. Each is handed out once.
    pub(crate) fn show(&self, number: &str) -> Vec<Arc<Message>> {
        let waiting = |message: &&Arc<Message>| {
            message.direction == Direction::ToCustomer
                && message.read_when_shown
                && message.step() == Some(Step::Delivered)
                && message.show_once()
        };
        self.phones
            .get(number)
            .map(|phone| phone.messages.iter().filter(waiting).cloned().collect())
            .unwrap_or_default()
    }

    /// The phones with the most recent message first, at most `limit`.
    pub(crate) fn list(&self, limit: usize) -> Vec<Summary> {
        let mut all: Vec<_> = self.phones.values().collect();
        all.sort_by_key(|phone| std::cmp::Reverse(phone.messages.back().map(|last| last.at)));
        all.into_iter()
            .take(limit)
            .map(|phone| Summary {
                number: phone.number.clone(),
                name: phone.name.clone(),
                messages: phone.messages.len(),
                last_text: phone
                    .messages
                    .back()
                    .map(|last| last.text.chars().take(80).collect()),
                last_at: phone.messages.back().map(|last| last.at),
            })
            .collect()
    }

    /// One phone with its last `limit` messages, oldest first. A number without messages has an empty one.
    pub(crate) fn view(&self, number: &str, limit: usize, now: UnixMs) -> View {
        match self.phones.get(number) {
            None => View {
                number: number.into(),
                name: "".into(),
                typing: false,
                messages: Vec::new(),
            },
            Some(phone) => {
                let skip = phone.messages.len().saturating_sub(limit);
                View {
                    number: phone.number.clone(),
                    name: phone.name.clone(),
                    typing: phone.typing_until.is_some_and(|until| until > now),
                    messages: phone.messages.iter().skip(skip).cloned().collect(),
                }
            }
        }
    }

    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    pub(crate) fn clear(&mut self) {
        *self = Self::new(self.limit);
    }
}

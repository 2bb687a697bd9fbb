//! Who listens to a lane, found by what they listen for: an event costs what those cost whom it is for.

use std::collections::HashMap;
use std::sync::Arc;

use chat4all_domain::{ConversationId, UserId, message};
use chat4all_nats::Change;
use chat4all_postgres::read::Reader;

use super::entry::{Entry, What};
use super::members::{Members, Sight};
use super::queue::{End, Queue};

/// What a subscription is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Topic {
    /// One conversation.
    Conversation(ConversationId),
    /// Every conversation of whoever watches; every one there is, for who sees all.
    Mine,
    /// What somebody must look at.
    DeadLetters,
}

impl Topic {
    /// Its name for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Conversation(_) => "conversation",
            Self::Mine => "mine",
            Self::DeadLetters => "dead_letters",
        }
    }
}

/// One subscription, as lanes know it.
pub struct Listener {
    /// Through whose eyes.
    pub reader: Reader,
    /// What it is about.
    pub topic: Topic,
    /// What waits for it.
    pub queue: Queue,
}

/// What must be known about an entry before it can be shown.
#[derive(Default)]
pub struct Known {
    /// Who was in its conversation when.
    pub members: Option<Arc<Members>>,
    /// Where the message stands that it is about; 0 when there is none.
    pub message: Option<u64>,
}

/// What is not known yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Missing {
    /// [`Known::members`], of this conversation.
    Members(ConversationId),
    /// [`Known::message`], of this one.
    Message(message::Id),
}

/// Those who listen to one lane.
#[derive(Default)]
pub struct Registry {
    by_conversation: HashMap<ConversationId, Vec<Arc<Listener>>>,
    by_user: HashMap<UserId, Vec<Arc<Listener>>>,
    to_all: Vec<Arc<Listener>>,
    to_dead_letters: Vec<Arc<Listener>>,
    /// How often a conversation has changed: what was read before may not be kept.
    pub changes: u64,
    /// Subscriptions that need the lane to be followed, also those that do not listen yet.
    pub interested: usize,
}

impl Registry {
    /// Adds a listener.
    pub fn add(&mut self, listener: &Arc<Listener>) {
        self.place(listener).push(Arc::clone(listener));
    }

    /// Takes a listener away.
    pub fn remove(&mut self, listener: &Arc<Listener>) {
        let others = self.place(listener);
        others.retain(|other| !Arc::ptr_eq(other, listener));
        if others.is_empty() {
            match listener.topic {
                Topic::Conversation(id) => drop(self.by_conversation.remove(&id)),
                Topic::Mine => drop(self.by_user.remove(&listener.reader.user)),
                Topic::DeadLetters => {}
            }
        }
    }

    fn place(&mut self, listener: &Listener) -> &mut Vec<Arc<Listener>> {
        match listener.topic {
            Topic::Conversation(id) => self.by_conversation.entry(id).or_default(),
            Topic::Mine if listener.reader.sees_all => &mut self.to_all,
            Topic::Mine => self.by_user.entry(listener.reader.user).or_default(),
            Topic::DeadLetters => &mut self.to_dead_letters,
        }
    }

    /// Whether nobody listens.
    pub fn is_empty(&self) -> bool {
        self.by_conversation.is_empty()
            && self.by_user.is_empty()
            && self.to_all.is_empty()
            && self.to_dead_letters.is_empty()
    }

    /// Nothing more comes for anybody.
    pub fn end_all(&mut self, end: End) {
        let mine = self.by_user.values().chain(self.by_conversation.values());
        let all = mine
            .flatten()
            .chain(&self.to_all)
            .chain(&self.to_dead_letters);
        all.for_each(|listener| listener.queue.end(end));
    }

    /// Puts `entry` into the queues of those it is for, all or none; the number of those who are overtaken by it.
    ///
    /// # Errors
    /// What must be known first.
    pub fn show(&self, entry: &Arc<Entry>, known: &Known) -> Result<usize, Missing> {
        let mut shown_to: Vec<&Arc<Listener>> = Vec::new();
        if entry.is_dead_letter() {
            shown_to.extend(&self.to_dead_letters);
        }
        let (mut gone, members) = (Vec::new(), known.members.as_deref());
        if let Some(conversation) = entry.conversation() {
            shown_to.extend(&self.to_all);
            let watching = self.by_conversation.get(&conversation);
            for listener in watching.into_iter().flatten() {
                let user = listener.reader.user;
                if listener.reader.sees_all {
                    shown_to.push(listener);
                    continue;
                }
                let members = members.ok_or(Missing::Members(conversation))?;
                if sees(members, user, entry, known)? {
                    shown_to.push(listener);
                    if is_last(members, user, entry) {
                        gone.push(listener);
                    }
                }
            }
            if !self.by_user.is_empty() {
                let members = members.ok_or(Missing::Members(conversation))?;
                let mut users: Vec<_> = members.users().collect();
                users.sort_unstable();
                users.dedup();
                for user in users {
                    if let Some(listeners) = self.by_user.get(&user)
                        && sees(members, user, entry, known)?
                    {
                        shown_to.extend(listeners);
                    }
                }
            }
        }
        let overtaken = shown_to
            .iter()
            .filter(|listener| !listener.queue.push(entry));
        let overtaken = overtaken.count();
        gone.iter()
            .for_each(|listener| listener.queue.end(End::Left));
        Ok(overtaken)
    }
}

/// Whether `entry`, which `user` sees, is their leaving.
pub fn is_last(members: &Members, user: UserId, entry: &Entry) -> bool {
    matches!(entry.what, What::Changed(Change::Conversation(..)))
        && !members.is_in(user, entry.sequence)
}

/// Whether `user` sees `entry`, as far as that is `known`.
///
/// # Errors
/// What must be known first.
pub fn sees(
    members: &Members,
    user: UserId,
    entry: &Entry,
    known: &Known,
) -> Result<bool, Missing> {
    match members.sight(user, entry) {
        Sight::Shown => Ok(true),
        Sight::Hidden => Ok(false),
        Sight::AsTheMessage(id) => {
            let message = known.message.ok_or(Missing::Message(id))?;
            Ok(members.covers(user, message))
        }
    }
}

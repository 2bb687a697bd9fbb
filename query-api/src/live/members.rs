//! Who was in a conversation when: all that visibility rests on, folded from the conversation's own events.
//!
//! The rule is that of queries, at the moment of the event: a participant sees messages between joining and leaving. A
//! delivery's news is seen by who is there when it comes, if they see the message; who joins or leaves sees that, too.

use chat4all_domain::conversation::{Event, Participant, Who};
use chat4all_domain::{ParticipantId, Recorded, UserId, message};
use chat4all_nats::Change;

use super::entry::{Entry, What};

/// The users of one conversation. Those outside do not watch.
#[derive(Debug, Default)]
pub struct Members {
    /// The sequence at which it was started; 0 when it does not exist.
    started: u64,
    stays: Vec<Stay>,
}

#[derive(Debug)]
struct Stay {
    user: UserId,
    participant: ParticipantId,
    joined: u64,
    /// `u64::MAX` while they are in it.
    left: u64,
}

impl Stay {
    /// What was said at `sequence` was said while they were in it.
    const fn covers(&self, sequence: u64) -> bool {
        self.joined < sequence && sequence < self.left
    }
    /// As [`Stay::covers`], and their own coming and going.
    const fn touches(&self, sequence: u64) -> bool {
        self.joined <= sequence && sequence <= self.left
    }
}

/// Whether an entry is for somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// It is.
    Shown,
    /// It is not.
    Hidden,
    /// That depends on where this message stands, which it is about.
    AsTheMessage(message::Id),
}

impl Members {
    /// Takes in what happened to the conversation; in order.
    pub fn fold(&mut self, events: &[Recorded<Event>]) {
        for recorded in events {
            let sequence = recorded.position.sequence;
            match &recorded.event {
                Event::Started { facts, .. } => {
                    self.started = sequence;
                    for participant in &facts.participants {
                        self.join(participant, sequence);
                    }
                }
                Event::Joined { facts, .. } => self.join(&facts.participant, sequence),
                Event::Left { facts } => {
                    let there = |stay: &&mut Stay| {
                        stay.participant == facts.participant && stay.left == u64::MAX
                    };
                    if let Some(stay) = self.stays.iter_mut().find(there) {
                        stay.left = sequence;
                    }
                }
            }
        }
    }

    fn join(&mut self, joined: &Participant, sequence: u64) {
        if let Who::User { user } = joined.who {
            self.stays.push(Stay {
                user,
                participant: joined.participant,
                joined: sequence,
                left: u64::MAX,
            });
        }
    }

    /// Whether the conversation exists.
    pub const fn exists(&self) -> bool {
        self.started > 0
    }

    /// Every user who is or was in it; those with several stays several times.
    pub fn users(&self) -> impl Iterator<Item = UserId> {
        self.stays.iter().map(|stay| stay.user)
    }

    fn stays_of(&self, user: UserId) -> impl Iterator<Item = &Stay> {
        self.stays.iter().filter(move |stay| stay.user == user)
    }

    /// Whether `user` is in it behind `sequence`: right after whatever happened there.
    pub fn is_in(&self, user: UserId, sequence: u64) -> bool {
        self.stays_of(user)
            .any(|stay| stay.joined <= sequence && sequence < stay.left)
    }

    /// Whether `user` is in it now, or has left behind `after`.
    pub fn may_follow(&self, user: UserId, after: Option<u64>) -> bool {
        let after = after.unwrap_or(u64::MAX - 1);
        self.stays_of(user).any(|stay| stay.left > after)
    }

    /// Whether `entry` is for `user`.
    pub fn sight(&self, user: UserId, entry: &Entry) -> Sight {
        let sequence = entry.sequence;
        let shown = |shown| if shown { Sight::Shown } else { Sight::Hidden };
        match &entry.what {
            What::Changed(Change::Conversation(..)) => {
                shown(self.stays_of(user).any(|stay| stay.touches(sequence)))
            }
            What::Changed(Change::Message(..) | Change::Reader(..)) => {
                shown(self.covers(user, sequence))
            }
            What::Changed(Change::Delivery(id, _)) => {
                let mut there = self.stays_of(user).filter(|stay| stay.covers(sequence));
                match there.next() {
                    None => Sight::Hidden,
                    // No message is older than the conversation.
                    Some(stay) if stay.joined == self.started => Sight::Shown,
                    Some(_) => Sight::AsTheMessage(message::Id {
                        conversation: id.conversation,
                        message: id.message,
                    }),
                }
            }
            What::Changed(Change::Identity(..)) | What::Unreadable { .. } | What::Parked(_) => {
                Sight::Hidden
            }
        }
    }

    /// Whether `user` sees the message at `sequence`.
    pub fn covers(&self, user: UserId, sequence: u64) -> bool {
        self.stays_of(user).any(|stay| stay.covers(sequence))
    }
}

use std::collections::{BTreeMap, BTreeSet};

use crate::conversation::{
    Command, Conversation, Event, Joined, JoinedPersonal, Kind, Left, MAX_PARTICIPANTS, Member,
    Participant, Present, Rejection, Started, StartedPersonal, Who,
};
use crate::{ConversationId, ParticipantId, Timestamp, UserId};

impl Conversation {
    /// What `command` means for this conversation now. Same inputs, same answer; what changes nothing gives no event.
    ///
    /// # Errors
    /// A [`Rejection`].
    pub fn decide(&self, command: &Command) -> Result<Vec<Event>, Rejection> {
        match (self, command) {
            (
                Self::Absent,
                Command::Start {
                    kind,
                    members,
                    title,
                    fingerprint,
                    by,
                    at,
                },
            ) => {
                let started = start(*kind, members, *by)?;
                Ok(vec![Event::Started {
                    facts: Started {
                        kind: *kind,
                        participants: started.iter().map(|m| participant(m)).collect(),
                        fingerprint: *fingerprint,
                        by: *by,
                        occurred_at: *at,
                    },
                    personal: StartedPersonal {
                        title: title.clone(),
                        addresses: started
                            .iter()
                            .filter_map(|m| Some((m.participant(), m.address()?.clone())))
                            .collect(),
                    },
                }])
            }
            (
                Self::Started {
                    fingerprint: first, ..
                },
                Command::Start { fingerprint, .. },
            ) => {
                if first == fingerprint {
                    Ok(vec![])
                } else {
                    Err(Rejection::DifferentContent)
                }
            }
            (Self::Absent, Command::Add { .. } | Command::Remove { .. }) => {
                Err(Rejection::NotFound)
            }
            (Self::Started { kind, present, .. }, Command::Add { member, by, at }) => {
                self.may(*by)?;
                add(*kind, present, member, *by, *at)
            }
            (
                Self::Started { kind, present, .. },
                Command::Remove {
                    participant,
                    by,
                    at,
                },
            ) => {
                self.may(Some(*by))?;
                remove(*kind, present, *participant, *by, *at)
            }
        }
    }

    /// Only who is in it may change who is in it.
    fn may(&self, by: Option<UserId>) -> Result<(), Rejection> {
        match by {
            Some(user) if self.participant_of(user).is_none() => Err(Rejection::NotAParticipant),
            Some(_) | None => Ok(()),
        }
    }
}

type Everybody = BTreeMap<ParticipantId, Present>;

fn participant(member: &Member) -> Participant {
    Participant {
        participant: member.participant(),
        who: member.who(),
    }
}

/// Who is in a conversation that starts with `members`: each of them once.
fn start(kind: Kind, members: &[Member], by: Option<UserId>) -> Result<Vec<&Member>, Rejection> {
    let mut seen = BTreeSet::new();
    let members: Vec<&Member> = members
        .iter()
        .filter(|member| seen.insert(member.participant()))
        .collect();
    // Somebody outside who writes first is alone in it until a user comes.
    let fewest = if by.is_some() { 2 } else { 1 };
    if members.len() < fewest {
        return Err(Rejection::Empty);
    }
    if members.len() > MAX_PARTICIPANTS {
        return Err(Rejection::Full {
            max: MAX_PARTICIPANTS,
        });
    }
    let is = |user: UserId| members.iter().any(|m| m.who() == Who::User { user });
    if by.is_some_and(|user| !is(user)) {
        return Err(Rejection::NotAParticipant);
    }
    let contacts = members.iter().filter(|m| m.address().is_some()).count();
    let direct = contacts == 1 || (contacts == 0 && members.len() == 2);
    if kind == Kind::Direct && !direct {
        return Err(Rejection::NotDirect);
    }
    Ok(members)
}

fn add(
    kind: Kind,
    present: &Everybody,
    member: &Member,
    by: Option<UserId>,
    at: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    if present.contains_key(&member.participant()) {
        return Ok(vec![]);
    }
    // Users may come together to write to one address; a second address would make it a group.
    let users_only = !present
        .values()
        .any(|present| matches!(present.who, Who::Contact { .. }));
    if kind == Kind::Direct && (users_only || member.address().is_some()) {
        return Err(Rejection::DirectIsFixed);
    }
    if present.len() >= MAX_PARTICIPANTS {
        return Err(Rejection::Full {
            max: MAX_PARTICIPANTS,
        });
    }
    Ok(vec![Event::Joined {
        facts: Joined {
            participant: participant(member),
            by,
            occurred_at: at,
        },
        personal: JoinedPersonal {
            address: member.address().cloned(),
        },
    }])
}

fn remove(
    kind: Kind,
    present: &Everybody,
    participant: ParticipantId,
    by: UserId,
    at: Timestamp,
) -> Result<Vec<Event>, Rejection> {
    let Some(leaving) = present.get(&participant) else {
        return Ok(vec![]);
    };
    let contact = matches!(leaving.who, Who::Contact { .. });
    let users_only = !present
        .values()
        .any(|present| matches!(present.who, Who::Contact { .. }));
    if kind == Kind::Direct && (users_only || contact) {
        return Err(Rejection::DirectIsFixed);
    }
    Ok(vec![Event::Left {
        facts: Left {
            participant,
            by,
            occurred_at: at,
        },
    }])
}

crate::event::aggregate!(
    Conversation,
    ConversationId,
    Command,
    Event,
    Rejection,
    "conversation"
);

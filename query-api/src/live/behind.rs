//! A subscription that is behind: what came since its cursor, read from the log round by round until it is near enough to join.

use std::sync::Arc;

use super::Live;
use super::catch_up::CatchUp;
use super::cursor::Cursor;
use super::entry::Entry;
use super::hub::Hub;
use super::lane::Lane;
use super::registry::{Known, Listener, Missing, Topic, is_last, sees};

/// Closer to the end than so many events, all lanes together, the subscription joins.
const NEAR: u64 = 500;
/// It joins also when it did not come closer in so many rounds.
const ROUNDS: u32 = 20;

/// What is still to be read from the log.
pub struct Behind {
    /// How often the logs of its lanes had been replaced when it began.
    replaced: u64,
    round: u32,
    /// Up to where, by lane.
    ends: Vec<u64>,
    /// The lane that is being read.
    lane: usize,
    reading: Option<CatchUp>,
}

/// What comes next of what is behind.
pub enum Step {
    /// An entry that is for the listener.
    Entry(Arc<Entry>),
    /// Who watches has left.
    Last(Arc<Entry>),
    /// Nothing more is to be read, or so little that the subscription should join now.
    Near,
    /// The log is not the one that the cursor is of.
    Replaced,
}

impl Behind {
    /// Nothing is read yet; `lane` is the first one, and `replaced` what [`Hub::replaced`] said of all of them before the
    /// cursor was looked at.
    pub const fn new(lane: usize, replaced: u64) -> Self {
        Self {
            replaced,
            round: 0,
            ends: Vec::new(),
            lane,
            reading: None,
        }
    }

    /// Reads up to `ends`, lane by lane.
    pub fn begin(&mut self, cursor: &Cursor, ends: Vec<u64>) {
        self.lane = cursor.lanes().start;
        self.ends = ends;
        self.round += 1;
    }

    /// What comes next. Not safe to cancel.
    pub async fn next(
        &mut self,
        live: &Live,
        hub: &Hub,
        listener: &Listener,
        cursor: &mut Cursor,
        joined: bool,
    ) -> Step {
        loop {
            let lanes = cursor.lanes();
            if hub.replaced(lanes.clone()) != self.replaced {
                return Step::Replaced;
            }
            if let Some(end) = self.ends.get(self.lane - lanes.start).copied() {
                let lane = &hub.lanes[self.lane];
                if let Some(step) = self.read(live, hub, listener, cursor, end).await {
                    return step;
                }
                cursor.advance(lane.number, end);
                self.lane += 1;
                continue;
            }
            if joined {
                return Step::Near;
            }
            let shown = lanes.map(|lane| hub.lanes[lane].shown().unwrap_or(0));
            let ends: Vec<_> = shown.collect();
            let gap = cursor.lanes().zip(&ends);
            let gap: u64 = gap
                .map(|(lane, end)| end.saturating_sub(cursor.get(lane)))
                .sum();
            if gap <= NEAR || self.round >= ROUNDS {
                return Step::Near;
            }
            self.begin(cursor, ends);
        }
    }

    /// The next entry of the lane up to `end` that is for the listener.
    async fn read(
        &mut self,
        live: &Live,
        hub: &Hub,
        listener: &Listener,
        cursor: &mut Cursor,
        end: u64,
    ) -> Option<Step> {
        let lane = &hub.lanes[self.lane];
        let begin = cursor.get(lane.number);
        if self.reading.is_none() {
            if begin >= end {
                return None;
            }
            let subjects = match listener.topic {
                Topic::Conversation(conversation) => lane.about(conversation),
                Topic::Mine | Topic::DeadLetters => vec![lane.everything()],
            };
            self.reading = Some(CatchUp::new(subjects, begin + 1, end));
        }
        while let Some(reading) = &mut self.reading {
            let Some(stored) = reading.next(hub, lane, live.turns()).await else {
                self.reading = None;
                break;
            };
            if hub.replaced(cursor.lanes()) != self.replaced {
                return Some(Step::Replaced);
            }
            cursor.advance(lane.number, stored.sequence);
            let Some(entry) = Entry::decode(lane, stored) else {
                continue;
            };
            match what_it_is(hub, lane, listener, &entry).await {
                Is::Hidden => {}
                Is::Shown => return Some(Step::Entry(Arc::new(entry))),
                Is::Last => return Some(Step::Last(Arc::new(entry))),
            }
        }
        None
    }
}

/// What an entry that was read from the log is to a listener.
async fn what_it_is(hub: &Hub, lane: &Lane, listener: &Listener, entry: &Entry) -> Is {
    if listener.topic == Topic::DeadLetters {
        return if entry.is_dead_letter() {
            Is::Shown
        } else {
            Is::Hidden
        };
    }
    let Some(conversation) = entry.conversation() else {
        return Is::Hidden;
    };
    if listener.reader.sees_all {
        return Is::Shown;
    }
    let (user, mut known) = (listener.reader.user, Known::default());
    hub.learn(lane, Missing::Members(conversation), &mut known)
        .await;
    loop {
        let members = known.members.clone().unwrap_or_default();
        match sees(&members, user, entry, &known) {
            Ok(false) => return Is::Hidden,
            Ok(true) if listener.topic == Topic::Mine => return Is::Shown,
            Ok(true) if is_last(&members, user, entry) => return Is::Last,
            Ok(true) => return Is::Shown,
            Err(missing) => hub.learn(lane, missing, &mut known).await,
        }
    }
}

enum Is {
    Shown,
    /// Shown, and the end of what there is to see.
    Last,
    Hidden,
}

//! Whatever arrives in whatever order: the status is the least upper bound of what is known in the current generation,
//! `PENDING < SENT < FAILED < DELIVERED < READ`.

use std::cmp::max;

use proptest::prelude::*;

use super::*;
use crate::delivery::Entry;

/// One thing that happens, told apart from how it is asked for. Attempts are counted back from the last one made.
#[derive(Clone, Copy, Debug)]
enum Happens {
    Attempt,
    SendAnswered { back: u32 },
    Receipt { back: u32, step: Reported },
    Verdict { generations_ago: u32, back: u32 },
    Defer,
    Redrive,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Reported {
    Sent,
    Delivered,
    Read,
    Failed,
}

impl Reported {
    fn step(self) -> Step {
        match self {
            Self::Sent => Step::Sent,
            Self::Delivered => Step::Delivered,
            Self::Read => Step::Read,
            Self::Failed => will_not_arrive(),
        }
    }
    fn status(self) -> Status {
        match self {
            Self::Sent => Status::Sent,
            Self::Delivered => Status::Delivered,
            Self::Read => Status::Read,
            Self::Failed => Status::Failed,
        }
    }
}

fn reported() -> impl Strategy<Value = Reported> {
    // Failures are many, so that redrives have something to redrive.
    prop_oneof![
        2 => Just(Reported::Sent),
        1 => Just(Reported::Delivered),
        1 => Just(Reported::Read),
        4 => Just(Reported::Failed),
    ]
}

fn happens() -> impl Strategy<Value = Happens> {
    prop_oneof![
        4 => Just(Happens::Attempt),
        2 => (0..3_u32).prop_map(|back| Happens::SendAnswered { back }),
        4 => (0..3_u32, reported()).prop_map(|(back, step)| Happens::Receipt { back, step }),
        2 => (0..2_u32, 0..2_u32)
            .prop_map(|(generations_ago, back)| Happens::Verdict { generations_ago, back }),
        1 => Just(Happens::Defer),
        3 => Just(Happens::Redrive),
    ]
}

/// What the rules say, without events: numbers and a maximum.
#[derive(Debug)]
struct Model {
    generation: u32,
    first_attempt: u32,
    attempts: u32,
    status: Status,
    sent_at: Option<i64>,
    sent_by: Option<u32>,
    delivered_at: Option<i64>,
    read_at: Option<i64>,
}

impl Model {
    fn new() -> Self {
        Self {
            generation: 0,
            first_attempt: 1,
            attempts: 0,
            status: Status::Pending,
            sent_at: None,
            sent_by: None,
            delivered_at: None,
            read_at: None,
        }
    }

    /// Follows what happens at `now` and says which command asks for it; `None` for what cannot happen, a report about
    /// an attempt that was never made.
    fn follow(&mut self, happens: Happens, now: i64) -> Option<Command> {
        let made = |back: u32| self.attempts.checked_sub(back).filter(|made| *made > 0);
        match happens {
            Happens::Attempt => {
                let next = self.attempts + 1;
                if self.status == Status::Pending {
                    self.attempts = next;
                }
                Some(attempt(next, now))
            }
            Happens::SendAnswered { back } => {
                let made = made(back)?;
                self.learn(made, Reported::Sent, now);
                Some(record_sent(made, now))
            }
            Happens::Receipt { back, step } => {
                let made = made(back)?;
                self.learn(made, step, now);
                Some(receipt(made, step.step(), now))
            }
            Happens::Verdict {
                generations_ago,
                back,
            } => {
                let last = self.attempts.checked_sub(back)?;
                let generation = self.generation.checked_sub(generations_ago)?;
                if generations_ago == 0 && last == self.counts() {
                    self.status = max(self.status, Status::Failed);
                }
                Some(fail(generation, last, now))
            }
            Happens::Defer => Some(defer(self.generation, self.attempts, now + 60)),
            Happens::Redrive => {
                if self.status == Status::Failed {
                    *self = Self {
                        generation: self.generation + 1,
                        first_attempt: self.attempts + 1,
                        attempts: self.attempts,
                        ..Self::new()
                    };
                }
                Some(redrive(&[], now))
            }
        }
    }

    /// The attempt whose failure counts.
    fn counts(&self) -> u32 {
        self.sent_by.unwrap_or(self.attempts)
    }

    fn learn(&mut self, attempt: u32, step: Reported, now: i64) {
        let current = attempt >= self.first_attempt;
        let counts = match step {
            Reported::Sent => current,
            Reported::Failed => current && attempt == self.counts(),
            Reported::Delivered | Reported::Read => true,
        };
        if !counts {
            return;
        }
        self.status = max(self.status, step.status());
        match step {
            Reported::Sent => {
                self.sent_at.get_or_insert(now);
                self.sent_by.get_or_insert(attempt);
            }
            Reported::Delivered => _ = self.delivered_at.get_or_insert(now),
            Reported::Read => _ = self.read_at.get_or_insert(now),
            Reported::Failed => {}
        }
    }
}

fn times(entry: &Entry) -> [Option<crate::Timestamp>; 3] {
    [entry.sent_at, entry.delivered_at, entry.read_at]
}

proptest! {
    /// The rules, the first time of each step, no way down but a redrive, and no event for what changes nothing.
    #[test]
    fn the_status_is_the_least_upper_bound_of_what_is_known(
        story in prop::collection::vec(happens(), 0..40),
    ) {
        let mut model = Model::new();
        let mut delivery = given([]);
        for (happens, now) in story.into_iter().zip(1..) {
            let before = delivery.state().entry(0, SEND);
            let Some(command) = model.follow(happens, now) else { continue };
            let repeated = command.clone();
            let then = delivery.when(command);
            let redriven = then.is_accepted() && matches!(repeated, Command::Redrive { .. });
            delivery = then.go_on();
            let entry = delivery.state().entry(0, SEND);

            prop_assert_eq!(entry.status(), model.status, "after {:?}", happens);
            prop_assert_eq!(entry.generation, model.generation);
            prop_assert_eq!(entry.attempts, model.attempts);
            let expected = [model.sent_at, model.delivered_at, model.read_at];
            prop_assert_eq!(times(&entry), expected.map(|seconds| seconds.map(at)));
            prop_assert!(redriven || entry.status() >= before.status(), "after {:?}", happens);

            // The same once more: refused or no news, and never a change.
            let again = delivery.when(repeated);
            prop_assert!(!again.is_accepted() || again.events().is_empty(), "{:?} twice", happens);
            delivery = again.go_on();
            prop_assert_eq!(delivery.state().entry(0, SEND), entry);
        }
    }

    /// Receipts about attempts that were all made before, each step with one time: order and repetition do not matter. With
    /// several attempts that holds for what got through; whether a failure counts depends on what was known by then.
    #[test]
    fn the_order_and_the_number_of_receipts_do_not_matter(
        attempts in 1..4_u32,
        redriven_before in any::<bool>(),
        (one, other) in prop::collection::vec((0..5_u32, reported()), 0..8).prop_flat_map(|set| {
            let doubled: Vec<_> = set.iter().chain(&set).copied().collect();
            (Just(set).prop_shuffle(), Just(doubled).prop_shuffle())
        }),
    ) {
        let play = |receipts: &[(u32, Reported)]| {
            let mut history = vec![];
            let mut first = 1;
            if redriven_before {
                history.extend([attempted(1, 1), failed(1, 2), redriven(1, 3)]);
                first = 2;
            }
            let last = first + attempts - 1;
            history.extend((first..=last).map(|number| attempted(number, 4)));
            let mut delivery = given(history);
            let told = receipts
                .iter()
                .filter(|(_, step)| attempts == 1 || *step != Reported::Failed);
            for (back, step) in told {
                let number = last.saturating_sub(*back).max(1);
                let seconds = 10 + step.status() as i64;
                delivery = delivery.when(receipt(number, step.step(), seconds)).go_on();
            }
            delivery.state().entry(0, SEND)
        };
        let (one, other) = (play(&one), play(&other));
        prop_assert_eq!(one.status(), other.status());
        prop_assert_eq!(times(&one), times(&other));
        if attempts == 1 {
            prop_assert_eq!(one, other);
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(8))]

    #[test]
    fn a_thousand_shuffled_and_doubled_receipts_end_in_read_with_three_times(
        receipts in Just(a_thousand_receipts()).prop_shuffle(),
    ) {
        let mut delivery = given([attempted(1, 1)]);
        let mut appended = 0;
        for step in receipts {
            let then = delivery.when(receipt(1, step.step(), 10 + step.status() as i64));
            appended += then.events().len();
            delivery = then.go_on();
        }
        let entry = delivery.state().entry(0, SEND);
        prop_assert_eq!(entry.status(), Status::Read);
        let expected = [Status::Sent, Status::Delivered, Status::Read];
        prop_assert_eq!(times(&entry), expected.map(|status| Some(at(10 + status as i64))));
        prop_assert!((3..=4).contains(&appended), "one event each at most, not {}", appended);
    }
}

fn a_thousand_receipts() -> Vec<Reported> {
    let steps = [
        Reported::Sent,
        Reported::Delivered,
        Reported::Read,
        Reported::Failed,
    ];
    steps.into_iter().cycle().take(1_000).collect()
}

//! What follows from a refusal: the class decides, nothing else. Pure.

use std::time::Duration;

use chat4all_domain::Timestamp;
use chat4all_domain::delivery::FailureClass;

use crate::channel::Refusal;
use crate::outbound::lanes::Streak;

const DAY: Duration = Duration::from_secs(24 * 3600);
/// The longest pause of one recipient's lane.
const LONGEST_PAIR_PAUSE: Duration = Duration::from_secs(3600);

/// What follows from a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Not before that moment.
    Wait(Timestamp),
    /// The whole account pauses, and this one with it.
    PauseAccount,
    /// The whole account waits for its operator, and this one with it.
    HoldAccount,
    /// It will not arrive.
    Fail,
}

/// Judges a refusal. `streak` is what came before it; `jitter` is between 0 and 1.
pub fn judge(
    refusal: &Refusal,
    streak: Streak,
    (now, expires): (Timestamp, Timestamp),
    transient: &[Duration],
    jitter: f64,
) -> Verdict {
    let before = streak.of(refusal.class);
    if refusal.tries.is_some_and(|tries| before + 1 >= tries) {
        return Verdict::Fail;
    }
    let wait = |least: Duration| {
        let wait = least.max(refusal.retry_after.unwrap_or_default());
        Verdict::Wait(now.plus(wait))
    };
    match refusal.class {
        FailureClass::Transient | FailureClass::Unsure => {
            wait(scheduled(transient, before).mul_f64(jitter))
        }
        FailureClass::Rate => Verdict::PauseAccount,
        // Source: WhatsApp Cloud API, error 131056: retry after 4^X seconds, X growing from 0.
        FailureClass::Pair => {
            wait(Duration::from_secs(4_u64.saturating_pow(before)).min(LONGEST_PAIR_PAUSE))
        }
        FailureClass::Operator => Verdict::HoldAccount,
        FailureClass::Later24h if before == 0 && now.plus(DAY) < expires => wait(DAY),
        FailureClass::Later24h
        | FailureClass::Permanent
        | FailureClass::Stopped
        | FailureClass::Window
        | FailureClass::Degrade => Verdict::Fail,
    }
}

/// The wait after `before` failures; the last one repeats.
pub fn scheduled(schedule: &[Duration], before: u32) -> Duration {
    let at = usize::try_from(before).unwrap_or(usize::MAX);
    schedule
        .get(at)
        .or(schedule.last())
        .copied()
        .unwrap_or(Duration::from_secs(1))
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat4all_domain::delivery::Reason;

    const SCHEDULE: [Duration; 3] = [
        Duration::from_secs(1),
        Duration::from_secs(5),
        Duration::from_secs(30),
    ];

    fn refusal(class: FailureClass) -> Refusal {
        Refusal {
            class,
            reason: Reason::ChannelFailure,
            code: None,
            text: None,
            retry_after: None,
            tries: None,
        }
    }
    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_ms(0).plus(Duration::from_secs(seconds))
    }
    fn streak(class: FailureClass, count: u32) -> Streak {
        (0..count).fold(Streak::default(), |streak, _| streak.and(class))
    }
    /// Judged at second 100, worth sending for two days, with the longest jitter.
    fn judged(refusal: &Refusal, before: u32) -> Verdict {
        let streak = streak(refusal.class, before);
        judge(
            refusal,
            streak,
            (at(100), at(100 + 2 * 86_400)),
            &SCHEDULE,
            1.0,
        )
    }

    #[test]
    fn passing_failures_wait_longer_each_time_and_the_last_wait_repeats() {
        let waits =
            [0, 1, 2, 3, 99].map(|before| judged(&refusal(FailureClass::Transient), before));
        assert_eq!(
            waits,
            [101, 105, 130, 130, 130].map(|s| Verdict::Wait(at(s)))
        );
    }

    #[test]
    fn jitter_takes_any_part_of_a_wait_but_none_of_what_the_provider_asks() {
        let now = (at(100), at(9_999));
        let mut passing = refusal(FailureClass::Transient);
        let none = Streak::default();
        assert_eq!(
            judge(&passing, none, now, &SCHEDULE, 0.0),
            Verdict::Wait(at(100))
        );
        passing.retry_after = Some(Duration::from_secs(7));
        assert_eq!(
            judge(&passing, none, now, &SCHEDULE, 0.5),
            Verdict::Wait(at(107))
        );
    }

    #[test]
    fn a_pair_pauses_by_powers_of_four_up_to_an_hour() {
        let waits =
            [0, 1, 2, 3, 5, 6, 60].map(|before| judged(&refusal(FailureClass::Pair), before));
        assert_eq!(
            waits,
            [101, 104, 116, 164, 1_124, 3_700, 3_700].map(|s| Verdict::Wait(at(s)))
        );
    }

    #[test]
    fn some_refusals_are_the_accounts_and_not_the_messages() {
        assert_eq!(
            judged(&refusal(FailureClass::Rate), 5),
            Verdict::PauseAccount
        );
        assert_eq!(
            judged(&refusal(FailureClass::Operator), 5),
            Verdict::HoldAccount
        );
    }

    #[test]
    fn tomorrow_is_tried_once_if_that_is_not_too_late() {
        let later = Refusal {
            tries: Some(2),
            ..refusal(FailureClass::Later24h)
        };
        assert_eq!(judged(&later, 0), Verdict::Wait(at(100 + 86_400)));
        assert_eq!(judged(&later, 1), Verdict::Fail);
        let soon = (at(100), at(86_400));
        assert_eq!(
            judge(&later, Streak::default(), soon, &SCHEDULE, 1.0),
            Verdict::Fail
        );
    }

    #[test]
    fn the_others_are_final() {
        use FailureClass::{Degrade, Permanent, Stopped, Window};
        for class in [Permanent, Stopped, Window, Degrade] {
            assert_eq!(judged(&refusal(class), 0), Verdict::Fail, "{class:?}");
        }
        let twice = Refusal {
            tries: Some(2),
            ..refusal(FailureClass::Transient)
        };
        assert_eq!(judged(&twice, 0), Verdict::Wait(at(101)));
        assert_eq!(judged(&twice, 1), Verdict::Fail);
    }
}

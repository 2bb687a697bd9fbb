use std::time::Duration;

use super::*;
use chat4all_domain::delivery::{
    Attempted, Deferred, DeliveredOrRead, Failed, FailedPersonal, Reason, Redriven, Sent,
    SentPersonal,
};
use chat4all_domain::message::{Accepted, Origin, PlannedDelivery};
use chat4all_domain::{IdSecret, MessageId, UserId};
use uuid::Uuid;

const WAIT: Duration = Duration::from_secs(15);

fn at(seconds: i64) -> Timestamp {
    Timestamp::from_unix_ms(1_764_000_000_000 + seconds * 1_000)
}
fn conversation() -> ConversationId {
    ConversationId::new(Uuid::from_u128(1))
}
fn message(number: u128) -> message::Id {
    message::Id {
        conversation: conversation(),
        message: MessageId::new(Uuid::from_u128(number)),
    }
}
fn delivery_of(number: u128) -> delivery::Id {
    delivery::Id {
        kind: ChannelKind::WhatsApp,
        conversation: conversation(),
        message: message(number).message,
    }
}
fn recipient(number: u128) -> ParticipantId {
    ParticipantId::new(Uuid::from_u128(number))
}
fn lane(number: u128) -> LaneKey {
    LaneKey {
        account: "whatsapp-main".parse().unwrap(),
        conversation: conversation(),
        recipient: recipient(number),
    }
}
/// A message to these recipients, worth sending for an hour.
fn to(recipients: &[u128]) -> Accepted {
    let planned = recipients.iter().map(|number| PlannedDelivery {
        participant: recipient(*number),
        kind: ChannelKind::WhatsApp,
        account: "whatsapp-main".parse().unwrap(),
    });
    Accepted {
        origin: Origin::Api,
        author: recipient(99),
        fingerprint: IdSecret::new([0; 32]).fingerprint(UserId::derive("i", "s"), "x"),
        deliveries: planned.collect(),
        occurred_at: at(0),
        valid_until: at(3_600),
    }
}
fn attempted(n: u16, attempt: u32) -> Event {
    Event::Attempted {
        facts: Attempted {
            n,
            op: SEND,
            attempt,
            owner: "w".into(),
            occurred_at: at(1),
        },
    }
}
fn sent(n: u16, attempt: u32) -> Event {
    Event::Sent {
        facts: Sent {
            n,
            op: SEND,
            attempt,
            occurred_at: at(2),
        },
        personal: SentPersonal::default(),
    }
}
fn deferred(n: u16, attempt: u32, until: i64, class: FailureClass) -> Event {
    Event::Deferred {
        facts: Deferred {
            n,
            op: SEND,
            attempt,
            until: at(until),
            class,
            reason: Reason::ChannelFailure,
        },
    }
}
fn failed(n: u16, attempt: u32) -> Event {
    let facts = Failed {
        n,
        op: SEND,
        attempt,
        class: FailureClass::Permanent,
        reason: Reason::Unknown,
        provider_code: None,
        occurred_at: at(3),
    };
    Event::Failed {
        facts,
        personal: FailedPersonal::default(),
    }
}
fn redriven(n: u16, generation: u32, seconds: i64) -> Event {
    Event::Redriven {
        facts: Redriven {
            n,
            op: SEND,
            generation,
            by: UserId::derive("i", "s"),
            occurred_at: at(seconds),
        },
    }
}
fn lanes() -> Lanes {
    Lanes::new(ChannelKind::WhatsApp)
}
fn next(lanes: &mut Lanes, of: u128, seconds: i64) -> Next {
    lanes.next(&lane(of), at(seconds), |_| WAIT)
}
#[track_caller]
fn goes(lanes: &mut Lanes, of: u128, seconds: i64) -> Head {
    match next(lanes, of, seconds) {
        Next::Go(head) => head,
        other @ (Next::Empty | Next::Busy | Next::At(_)) => panic!("{other:?}"),
    }
}

#[test]
fn only_the_head_of_a_lane_goes_and_other_lanes_do_not_wait_for_it() {
    let mut lanes = lanes();
    assert_eq!(
        lanes.accepted(message(1), 10, &to(&[1, 2])),
        [lane(1), lane(2)]
    );
    lanes.accepted(message(2), 11, &to(&[1]));
    let first = goes(&mut lanes, 1, 0);
    assert_eq!(
        (first.id, first.n, first.place, first.attempt),
        (delivery_of(1), 0, 10, 1)
    );
    assert_eq!(next(&mut lanes, 1, 0), Next::Busy);
    assert_eq!(goes(&mut lanes, 2, 0).n, 1);
    lanes.folded(delivery_of(1), 12, &[attempted(0, 1), sent(0, 1)]);
    assert_eq!(
        next(&mut lanes, 1, 0),
        Next::Busy,
        "until the work on it has ended"
    );
    lanes.rest(&lane(1));
    assert_eq!(goes(&mut lanes, 1, 0).id, delivery_of(2));
}

#[test]
fn what_waits_waits_at_the_head_of_its_lane() {
    let mut lanes = lanes();
    lanes.accepted(message(1), 10, &to(&[1]));
    lanes.accepted(message(2), 11, &to(&[1]));
    lanes.folded(
        delivery_of(1),
        12,
        &[attempted(0, 1), deferred(0, 1, 30, FailureClass::Transient)],
    );
    assert_eq!(next(&mut lanes, 1, 5), Next::At(at(30)));
    let head = goes(&mut lanes, 1, 30);
    assert_eq!(
        (
            head.id,
            head.attempt,
            head.streak.of(FailureClass::Transient)
        ),
        (delivery_of(1), 2, 1)
    );
    assert_eq!(head.streak.of(FailureClass::Rate), 0);
}

#[test]
fn nothing_waits_longer_than_it_is_worth_sending() {
    let mut lanes = lanes();
    lanes.accepted(message(1), 10, &to(&[1]));
    lanes.folded(
        delivery_of(1),
        12,
        &[
            attempted(0, 1),
            deferred(0, 1, 9_000, FailureClass::Transient),
        ],
    );
    assert_eq!(next(&mut lanes, 1, 5), Next::At(at(3_600)));
    assert_eq!(goes(&mut lanes, 1, 3_600).expires, at(3_600));
}

#[test]
fn an_attempt_without_an_outcome_waits_for_one_and_is_then_unsure() {
    let mut lanes = lanes();
    lanes.accepted(message(1), 10, &to(&[1]));
    lanes.folded(delivery_of(1), 11, &[attempted(0, 1)]);
    assert_eq!(next(&mut lanes, 1, 100), Next::At(at(115)));
    assert_eq!(
        next(&mut lanes, 1, 110),
        Next::At(at(115)),
        "counted from when it was seen"
    );
    let head = goes(&mut lanes, 1, 115);
    assert!(head.unsure);
    assert_eq!(head.attempt, 2);
}

#[test]
fn a_receipt_resolves_an_unsure_attempt() {
    let mut lanes = lanes();
    lanes.accepted(message(1), 10, &to(&[1]));
    lanes.folded(delivery_of(1), 11, &[attempted(0, 1)]);
    assert_eq!(next(&mut lanes, 1, 0), Next::At(at(15)));
    let delivered = Event::Delivered {
        facts: DeliveredOrRead {
            n: 0,
            op: SEND,
            attempt: 1,
            occurred_at: at(3),
        },
    };
    assert_eq!(
        lanes.folded(delivery_of(1), 12, &[delivered]).lanes,
        [lane(1)]
    );
    assert_eq!(next(&mut lanes, 1, 1), Next::Empty);
    assert_eq!((lanes.open(), lanes.lowest_open()), (0, None));
}

#[test]
fn what_is_read_again_changes_nothing() {
    let mut lanes = lanes();
    let history = [
        (11, attempted(0, 1)),
        (12, deferred(0, 1, 30, FailureClass::Pair)),
    ];
    for _ in 0..2 {
        lanes.accepted(message(1), 10, &to(&[1]));
        for (sequence, event) in &history {
            lanes.folded(delivery_of(1), *sequence, std::slice::from_ref(event));
        }
    }
    assert_eq!(lanes.open(), 1);
    assert_eq!(goes(&mut lanes, 1, 30).streak.of(FailureClass::Pair), 1);
}

#[test]
fn an_older_event_does_not_undo_what_an_execution_has_told() {
    let mut lanes = lanes();
    lanes.accepted(message(1), 10, &to(&[1]));
    goes(&mut lanes, 1, 0);
    let events = [attempted(0, 1), sent(0, 1)];
    let state = events.iter().fold(Delivery::default(), Delivery::evolve);
    lanes.adopt(&delivery_of(1), state, 12, &events[1..]);
    lanes.rest(&lane(1));
    lanes.folded(delivery_of(1), 11, &events[..1]);
    assert_eq!(next(&mut lanes, 1, 0), Next::Empty);
}

#[test]
fn what_stands_in_one_envelope_counts_once_for_each_lane_whoever_tells_of_it_first() {
    let mut lanes = lanes();
    lanes.accepted(message(1), 10, &to(&[1, 2]));
    let attempts = [attempted(0, 1), attempted(1, 1)];
    lanes.folded(delivery_of(1), 11, &attempts);
    let outcomes = [
        deferred(0, 1, 30, FailureClass::Pair),
        deferred(1, 1, 30, FailureClass::Pair),
    ];
    let events = attempts.iter().chain(&outcomes);
    let state = events.fold(Delivery::default(), Delivery::evolve);
    for own in &outcomes {
        let own = std::slice::from_ref(own);
        lanes.adopt(&delivery_of(1), state.clone(), 12, own);
    }
    lanes.folded(delivery_of(1), 12, &outcomes);
    for number in [1, 2] {
        assert_eq!(next(&mut lanes, number, 29), Next::At(at(30)));
        let head = goes(&mut lanes, number, 30);
        assert_eq!((head.attempt, head.streak.of(FailureClass::Pair)), (2, 1));
    }
}

#[test]
fn who_waits_for_another_try_is_counted_with_the_first_of_them_and_why() {
    let mut lanes = lanes();
    lanes.accepted(message(1), 10, &to(&[1, 2, 3, 4]));
    let attempts = [attempted(0, 1), attempted(1, 1), attempted(2, 1)];
    lanes.folded(delivery_of(1), 11, &attempts);
    let outcomes = [
        deferred(0, 1, 30, FailureClass::Transient),
        deferred(1, 1, 20, FailureClass::Pair),
    ];
    lanes.folded(delivery_of(1), 12, &outcomes);
    let none = BTreeMap::new();
    assert_eq!(lanes.retrying(), none, "nobody has asked yet");
    // The first two wait, the third's outcome is missing, the fourth is under way.
    assert_eq!(next(&mut lanes, 1, 5), Next::At(at(30)));
    assert_eq!(next(&mut lanes, 2, 5), Next::At(at(20)));
    assert!(matches!(next(&mut lanes, 3, 10), Next::At(_)));
    goes(&mut lanes, 4, 5);
    let waits = |lanes: &Lanes| {
        let all = lanes.retrying();
        let one = *all.get(&lane(1).account)?;
        assert_eq!(all.len(), 1);
        Some((one.recipients, one.next, one.class))
    };
    assert_eq!(waits(&lanes), Some((3, at(20), FailureClass::Pair)));
    goes(&mut lanes, 2, 20);
    assert_eq!(waits(&lanes), Some((2, at(25), FailureClass::Unsure)));
    goes(&mut lanes, 3, 25);
    assert_eq!(waits(&lanes), Some((1, at(30), FailureClass::Transient)));
    goes(&mut lanes, 1, 30);
    assert_eq!(lanes.retrying(), none);
}

#[test]
fn the_logs_own_word_replaces_a_state_that_is_as_new() {
    let mut lanes = lanes();
    lanes.accepted(message(1), 10, &to(&[1]));
    // Told with a revision at which more stands.
    lanes.adopt(&delivery_of(1), Delivery::default(), 12, &[]);
    let events = [attempted(0, 1), sent(0, 1)];
    let state = events.iter().fold(Delivery::default(), Delivery::evolve);
    assert_eq!(goes(&mut lanes, 1, 0).attempt, 1);
    lanes.adopt(&delivery_of(1), state, 12, &[]);
    lanes.rest(&lane(1));
    assert_eq!(next(&mut lanes, 1, 0), Next::Empty);
}

#[test]
fn what_is_redriven_joins_its_lane_behind_what_came_before_the_redrive() {
    let mut lanes = lanes();
    lanes.accepted(message(1), 10, &to(&[1, 2]));
    lanes.folded(delivery_of(1), 11, &[attempted(0, 1), failed(0, 1)]);
    lanes.accepted(message(2), 12, &to(&[1]));
    assert_eq!(goes(&mut lanes, 1, 4).id, delivery_of(2));
    let touched = lanes.folded(delivery_of(1), 13, &[redriven(0, 1, 5_000)]);
    assert_eq!((touched.lanes, touched.unknown), (vec![lane(1)], vec![]));
    lanes.folded(delivery_of(2), 14, &[attempted(0, 1), sent(0, 1)]);
    lanes.rest(&lane(1));
    let head = goes(&mut lanes, 1, 5_001);
    assert_eq!(
        (head.id, head.place, head.generation, head.attempt),
        (delivery_of(1), 13, 1, 2)
    );
    assert_eq!(head.accepted_at, 10);
    assert_eq!(head.expires, at(8_600), "counted from the redrive");
}

#[test]
fn a_redrive_of_a_message_that_is_not_known_here_is_looked_up() {
    let mut lanes = lanes();
    let touched = lanes.folded(delivery_of(1), 20, &[redriven(1, 1, 50)]);
    assert_eq!(touched.unknown, [(1, 20, at(50))]);
    let events = [attempted(1, 1), failed(1, 1), redriven(1, 1, 50)];
    let state = events.iter().fold(Delivery::default(), Delivery::evolve);
    let joined = lanes.rejoin(
        delivery_of(1),
        (10, &to(&[1, 2])),
        (state, 20),
        (1, 20, at(50)),
    );
    assert_eq!(joined, Some(lane(2)));
    assert_eq!(lanes.lowest_open(), Some(20));
    let head = goes(&mut lanes, 2, 51);
    assert_eq!((head.accepted_at, head.place, head.attempt), (10, 20, 2));
}

#[test]
fn the_lowest_open_place_moves_on_when_all_of_a_message_is_done() {
    let mut lanes = lanes();
    lanes.accepted(message(1), 10, &to(&[1, 2]));
    lanes.accepted(message(2), 11, &to(&[1]));
    lanes.folded(delivery_of(1), 12, &[attempted(0, 1), sent(0, 1)]);
    next(&mut lanes, 1, 5);
    assert_eq!(lanes.lowest_open(), Some(10));
    lanes.folded(delivery_of(1), 13, &[attempted(1, 1), failed(1, 1)]);
    assert_eq!(next(&mut lanes, 2, 5), Next::Empty);
    assert_eq!((lanes.lowest_open(), lanes.open()), (Some(11), 1));
}

#[test]
fn a_streak_is_of_one_class() {
    let streak = Streak::default()
        .and(FailureClass::Pair)
        .and(FailureClass::Pair);
    assert_eq!(streak.of(FailureClass::Pair), 2);
    let streak = streak.and(FailureClass::Rate);
    assert_eq!(
        (streak.of(FailureClass::Rate), streak.of(FailureClass::Pair)),
        (1, 0)
    );
}

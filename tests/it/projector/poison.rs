//! Events that cannot be folded: parked with their bytes, or their partition halts. They stop nothing else.

use bytes::Bytes;
use chat4all_domain::message::{Accepted, AcceptedPersonal, Content, Event, Origin};
use chat4all_domain::{CommandId, IdSecret, Message, ParticipantId, Position, Timestamp, message};
use chat4all_nats::codec::{self, Meta};
use chat4all_nats::subject;
use chat4all_postgres::checkpoint;
use chat4all_service::config::Poison;
use sqlx::Row as _;
use uuid::Uuid;

use super::message_in;
use super::stack::{How, Stack, assert_same};
use super::story::{Story, conversation, user};
use crate::journeys::until;

/// Puts bytes on the log as they are, past every check.
async fn publish(stack: &Stack, subject: String, payload: impl Into<Bytes>) -> Position {
    let (partition, _) = subject::parse(&subject).unwrap();
    let acknowledged = stack
        .log()
        .jetstream()
        .publish(subject, payload.into())
        .await
        .unwrap()
        .await
        .unwrap();
    Position::new(partition, acknowledged.sequence)
}

/// A message event that no command made.
fn accepted(id: message::Id, content: Content) -> Bytes {
    let at = Timestamp::from_unix_ms(1_764_000_000_000);
    let event = Event::Accepted {
        facts: Accepted {
            origin: Origin::Api,
            author: ParticipantId::of_user(id.conversation, user(0)),
            fingerprint: IdSecret::new([7; 32]).fingerprint(user(0), "forged"),
            deliveries: vec![],
            occurred_at: at,
            valid_until: at,
        },
        personal: AcceptedPersonal {
            content,
            addresses: vec![],
            provider_id: None,
        },
    };
    let command = CommandId::new(Uuid::now_v7());
    codec::encode::<Message>(&id, command, 1, &[event], &Meta { recorded_at: at })
}

fn envelope(event: &str) -> String {
    format!(
        r#"{{"command_id":"{}","version":1,"events":[{event}],"meta":{{"recorded_at":"2026-01-01T00:00:00Z"}}}}"#,
        Uuid::now_v7()
    )
}

#[tokio::test]
async fn what_cannot_be_folded_is_parked_with_its_bytes_and_its_neighbours_are_folded() {
    let stack = Stack::start().await;
    let story = Story::new(stack.log());
    story.whole_journeys(1, 3).await;
    let count = stack.log().partitions();
    let there = message_in(1, "0");
    let new = |key: &str| message_in(1, key);
    let of = |id: &message::Id| subject::of(count, id);
    let nul = Content::Unsupported {
        what: "a\0b".to_owned(),
    };
    let sticker = Content::Unsupported {
        what: "sticker".to_owned(),
    };
    let partition = count.of(conversation(1).uuid());
    let poison: Vec<(String, Bytes, &str)> = vec![
        (
            of(&new("a")),
            "no envelope".into(),
            "the message is not an event envelope: wrong at line 1, column 2",
        ),
        (
            of(&new("b")),
            "".into(),
            "the message is not an event envelope: wrong at line 1, column 0",
        ),
        (
            of(&new("c")),
            envelope(r#"{"v":2,"type":"MessageAccepted"}"#).into(),
            "event MessageAccepted version 2 is newer than this release knows; upgrade before reading on",
        ),
        (
            of(&new("d")),
            envelope(r#"{"v":1,"type":"Message\u0000"}"#).into(),
            "event Message\u{fffd} version 1 is newer than this release knows; upgrade before reading on",
        ),
        (
            of(&new("e")),
            envelope(r#"{"v":1,"type":"MessageAccepted","facts":"+4915112345678"}"#).into(),
            "event MessageAccepted version 1 cannot be read",
        ),
        (
            format!("chat.evt.{partition}.planet.earth"),
            "{}".into(),
            "SUBJECT",
        ),
        (
            of(&new("f")),
            accepted(new("f"), nul),
            "the database refused a row (SQLSTATE 22021)",
        ),
        (
            of(&there),
            accepted(there, sticker),
            "the database refused a row (SQLSTATE 23505): it breaks messages_pk",
        ),
    ];
    let mut places = Vec::new();
    for (subject, payload, _) in &poison {
        places.push(publish(&stack, subject.clone(), payload.clone()).await);
        story.whole_journeys(100 + places.len() as u64, 1).await;
    }
    let metrics = How::into("chat4all").metrics;
    let how = How {
        metrics: metrics.clone(),
        ..How::into("chat4all")
    };
    let many = stack.fold(&how).await;
    let pool = stack.pool("chat4all");
    for ((subject, payload, error), place) in poison.iter().zip(&places) {
        let parked = sqlx::query(
            "select subject, error, payload from projector_dead_letter where partition = $1 and sequence = $2",
        )
        .bind(i16::from(place.partition.number()))
        .bind(place.sequence as i64)
        .fetch_one(&pool)
        .await
        .unwrap();
        assert_eq!(parked.get::<String, _>(0), *subject);
        let expected = error.replace(
            "SUBJECT",
            &format!("subject {subject} is not that of an aggregate this release knows"),
        );
        assert_eq!(parked.get::<String, _>(1), expected);
        assert_eq!(parked.get::<Vec<u8>, _>(2), payload.to_vec());
    }
    assert_eq!(metrics.dead_letters(partition), poison.len() as u64);
    assert_eq!(many["projector_dead_letter"].len(), poison.len());
    assert_eq!(many["messages"].len(), 3 + poison.len());
    // However the batches fall, the same is parked and the same is shown.
    for (schema, batch) in [("one_by_one", 1), ("in_sevens", 7)] {
        let how = How {
            batch,
            ..How::into(schema)
        };
        assert_same(&many, &stack.fold(&how).await);
    }
}

#[tokio::test]
async fn a_halted_partition_stands_before_the_event_and_the_others_go_on() {
    for refused_by_the_database in [false, true] {
        let stack = Stack::start().await;
        let story = Story::new(stack.log());
        let count = stack.log().partitions();
        let (here, elsewhere) = (
            1,
            (2..)
                .find(|n| count.of(conversation(*n).uuid()) != count.of(conversation(1).uuid()))
                .unwrap(),
        );
        story.whole_journeys(here, 3).await;
        let bad = message_in(here, "bad");
        let payload = if refused_by_the_database {
            accepted(
                bad,
                Content::Unsupported {
                    what: "\0".to_owned(),
                },
            )
        } else {
            "no envelope".into()
        };
        let place = publish(&stack, subject::of(count, &bad), payload).await;
        story
            .accept(message_in(here, "after"), "after", &[])
            .await
            .unwrap();
        story.whole_journeys(elsewhere, 3).await;
        let how = How {
            poison: Poison::Halt,
            ..How::into("chat4all")
        };
        let halting = stack.project(&how);
        let before = Position::new(place.partition, place.sequence - 1);
        stack.projected_up_to("chat4all", before).await;
        story.whole_journeys(elsewhere + 8_000, 1).await;
        for end in stack.ends().await {
            if end.partition != place.partition {
                stack.projected_up_to("chat4all", end).await;
            }
        }
        halting.stop().await;
        assert!(how.metrics.is_halted(place.partition));
        let pool = stack.pool("chat4all");
        let checkpoints = checkpoint::read(&pool).await.unwrap();
        assert_eq!(checkpoints[&place.partition].sequence, before.sequence);
        let halted = stack.dump("chat4all").await;
        assert_eq!(halted["projector_dead_letter"], Vec::<String>::new());
        // Somebody has looked, and lets it be parked.
        let on = stack.fold(&How::into("chat4all")).await;
        assert_eq!(on["projector_dead_letter"].len(), 1);
        assert_same(&on, &stack.fold(&How::into("anew")).await);
    }
}

#[tokio::test]
async fn a_halted_partition_that_is_given_up_is_tried_again_when_it_comes_back() {
    let stack = Stack::start().await;
    let story = Story::new(stack.log());
    story.whole_journeys(1, 1).await;
    let bad = message_in(1, "bad");
    let subject = subject::of(stack.log().partitions(), &bad);
    let partition = publish(&stack, subject, "no envelope").await.partition;
    let how = How {
        poison: Poison::Halt,
        ..How::into("chat4all")
    };
    let halting = stack.project(&how);
    let is_halted = async || how.metrics.is_halted(partition);
    until("it is halted", is_halted, |halted| *halted).await;

    // Its lease is lost: nothing is halted here, whoever has it.
    halting.owned.send_modify(|owned| {
        owned.remove(&partition);
    });
    until("it is not halted here", is_halted, |halted| !halted).await;
    // Whoever gets it lets the event be parked.
    let on = stack.fold(&How::into("chat4all")).await;
    assert_eq!(on["projector_dead_letter"].len(), 1);

    // It comes back, and goes on behind the event.
    halting.owned.send_modify(|owned| {
        owned.insert(partition);
    });
    let after = message_in(1, "after");
    story.accept(after, "after", &[]).await.unwrap();
    stack.level("chat4all").await;
    assert!(!how.metrics.is_halted(partition));
    halting.stop().await;
}

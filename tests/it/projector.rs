//! The projector on a real log and a real Postgres: rows are what the events say, whatever happens to either server, to
//! the projector itself, and to the events on the way.
#![expect(clippy::unwrap_used, reason = "helpers of tests fail the test")]

mod faults;
pub mod histories;
mod poison;
mod role;
mod scenes;
pub mod stack;
pub mod story;
mod traces;

use chat4all_domain::delivery::Step;
use chat4all_domain::{MessageId, ParticipantId, message};
use chat4all_postgres::{conversation, delivery, identity, reader};
use sqlx::Row as _;
use uuid::Uuid;

use stack::{How, Stack};
use story::{Story, contact_in, conversation as conversation_id, identity_of, user, user_in};

fn message_in(number: u64, key: &str) -> message::Id {
    let conversation = conversation_id(number);
    message::Id {
        conversation,
        message: MessageId::derive(conversation, user(0), key),
    }
}

#[tokio::test]
async fn a_journey_leaves_the_rows_that_queries_show() {
    let stack = Stack::start().await;
    let story = Story::new(stack.log());
    let running = stack.project(&How::into("chat4all"));
    let id = conversation_id(1);
    let started = story.start(id, 1, 1).await.unwrap();
    let joined = story.join(id, user_in(id, 1)).await.unwrap();
    let message = message_in(1, "first");
    let accepted = story
        .accept(message, "hello 'quoted' \"twice\" \\ \u{202e}🦀", &[0])
        .await
        .unwrap();
    story.attempt(message, 0, 1).await.unwrap();
    story.sent(message, 0, 1).await.unwrap();
    let (delivered_at, read_at) = (story.later(), story.later());
    for (step, at) in [(Step::Delivered, delivered_at), (Step::Read, read_at)] {
        story.receipt(message, (0, 1), step, at).await.unwrap();
    }
    let reader = ParticipantId::of_user(id, user(1));
    story.read_up_to(reader, accepted).await.unwrap();
    let left = story.leave(id, reader).await.unwrap();
    let again = story.join(id, user_in(id, 1)).await.unwrap();
    story.meet(0, None).await.unwrap();
    story.meet(0, Some("Anna")).await.unwrap();
    stack.level("chat4all").await;
    running.stop().await;

    let pool = stack.pool("chat4all");
    let mut connection = pool.acquire().await.unwrap();
    let row = &conversation::load(&mut connection, &[id.uuid()])
        .await
        .unwrap()[0];
    assert_eq!(row.message_count, 1);
    assert_eq!(row.last_message_id, Some(message.message.uuid()));
    assert_eq!(row.kind, "group");
    assert_eq!(row.title.as_deref(), Some("Order 4711 – \u{1f4e6}"));
    assert_eq!(row.started_by, Some(user(0).uuid()));
    assert_eq!(row.started_sequence, started.sequence as i64);
    assert_eq!(row.last_sequence, again.sequence as i64);
    assert_eq!(row.partition, i16::from(started.partition.number()));

    let stays = sqlx::query(
        "select joined_sequence, left_sequence from participants where participant_id = $1 order by 1",
    )
    .bind(reader.uuid())
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let stays: Vec<(i64, Option<i64>)> = stays.iter().map(|row| (row.get(0), row.get(1))).collect();
    let first = (joined.sequence as i64, Some(left.sequence as i64));
    assert_eq!(stays, [first, (again.sequence as i64, None)]);

    let contact = sqlx::query(
        "select identity_id, account, address, user_id from participants where participant_id = $1",
    )
    .bind(contact_in(id, 0).participant().uuid())
    .fetch_one(&mut *connection)
    .await
    .unwrap();
    assert_eq!(contact.get::<Uuid, _>(0), identity_of(0).uuid());
    assert_eq!(contact.get::<String, _>(1), "whatsapp-main");
    assert_eq!(contact.get::<String, _>(2), "4915100000000");
    assert_eq!(contact.get::<Option<Uuid>, _>(3), None);

    let said =
        sqlx::query("select content_text, sequence, origin from messages where message_id = $1")
            .bind(message.message.uuid())
            .fetch_one(&mut *connection)
            .await
            .unwrap();
    assert_eq!(
        said.get::<String, _>(0),
        "hello 'quoted' \"twice\" \\ \u{202e}🦀"
    );
    assert_eq!(said.get::<i64, _>(1), accepted.position.sequence as i64);
    assert_eq!(said.get::<String, _>(2), "api");

    let key = (id.uuid(), message.message.uuid());
    let row = &delivery::load(&mut connection, &[key]).await.unwrap()[0];
    assert_eq!((row.status.as_str(), row.attempts, row.n), ("READ", 1, 0));
    assert_eq!(row.address.as_deref(), Some("4915100000000"));
    assert!(row.attempted_at < row.sent_at && row.sent_at.is_some());
    assert_eq!(row.delivered_at, Some(delivered_at.to_datetime()));
    assert_eq!(row.read_at, Some(read_at.to_datetime()));
    assert_eq!((row.failed_at, row.deferred_until), (None, None));

    let history = sqlx::query_scalar::<_, String>(
        "select type from delivery_events where message_id = $1 order by sequence, event_index",
    )
    .bind(message.message.uuid())
    .fetch_all(&mut *connection)
    .await
    .unwrap();
    let steps = ["Attempted", "Sent", "Delivered", "Read"].map(|step| format!("Delivery{step}"));
    assert_eq!(history, steps);

    let mark = &reader::load(&mut connection, &[(id.uuid(), reader.uuid())])
        .await
        .unwrap()[0];
    assert_eq!(mark.up_to_sequence, accepted.position.sequence as i64);
    let known = &identity::load(&mut connection, &[identity_of(0).uuid()])
        .await
        .unwrap()[0];
    assert_eq!(known.name.as_deref(), Some("Anna"));
}

#[tokio::test]
async fn a_failure_shows_its_reason_and_a_redrive_begins_anew() {
    let stack = Stack::start().await;
    let story = Story::new(stack.log());
    let running = stack.project(&How::into("chat4all"));
    let message = message_in(1, "first");
    story.start(message.conversation, 1, 1).await.unwrap();
    story.accept(message, "hello", &[0]).await.unwrap();
    let key = [(message.conversation.uuid(), message.message.uuid())];
    let pool = stack.pool("chat4all");
    let now = async || {
        stack.level("chat4all").await;
        let mut connection = pool.acquire().await.unwrap();
        let mut rows = delivery::load(&mut connection, &key).await.unwrap();
        rows.remove(0)
    };
    assert_eq!(now().await.status, "PENDING");

    story.attempt(message, 0, 1).await.unwrap();
    story.defer(message, (0, 0, 1)).await.unwrap();
    let row = now().await;
    assert_eq!(row.deferred_class.as_deref(), Some("LATER_24H"));
    assert_eq!(row.deferred_reason.as_deref(), Some("RATE_LIMITED"));
    assert!(row.deferred_until.is_some());

    story.attempt(message, 0, 2).await.unwrap();
    story.fail(message, (0, 0, 2)).await.unwrap();
    let row = now().await;
    assert_eq!(row.status, "FAILED");
    assert_eq!(row.failure_class.as_deref(), Some("PERMANENT"));
    assert_eq!(
        row.failure_reason.as_deref(),
        Some("RECIPIENT_NOT_REACHABLE")
    );
    assert_eq!(row.provider_code.as_deref(), Some("131026"));
    assert_eq!((row.deferred_until, row.deferred_reason), (None, None));

    story.redrive(message).await.unwrap();
    let row = now().await;
    assert_eq!((row.status.as_str(), row.generation), ("PENDING", 1));
    assert_eq!((row.first_attempt, row.attempts), (3, 2));
    assert_eq!((row.failed_at, row.provider_code), (None, None));

    // A late receipt of the first generation completes it all the same.
    let at = story.later();
    let receipt = story.receipt(message, (0, 2), Step::Delivered, at);
    receipt.await.unwrap();
    assert_eq!(now().await.status, "DELIVERED");
    running.stop().await;
}

#[tokio::test]
async fn a_thousand_shuffled_and_doubled_receipts_end_in_read_with_three_times() {
    let stack = Stack::start().await;
    let story = Story::new(stack.log());
    let running = stack.project(&How::into("chat4all"));
    let to: Vec<u64> = (0..50).collect();
    let message = message_in(1, "to many");
    story.start(message.conversation, 1, 50).await.unwrap();
    story.accept(message, "hello", &to).await.unwrap();
    for n in 0..50 {
        story.attempt(message, n, 1).await.unwrap();
    }
    // Twenty for each: sent, delivered and read, several times each, at the same moments, in any order.
    let seed = fastrand::u64(..);
    println!("seed {seed}");
    let base = story.later();
    let mut receipts: Vec<(u16, u8)> = (0..50)
        .flat_map(|n| (0..20).map(move |step| (n, step % 3)))
        .collect();
    fastrand::Rng::with_seed(seed).shuffle(&mut receipts);
    for (n, step) in receipts {
        let at = base.plus(std::time::Duration::from_secs(u64::from(step)));
        let step = [Step::Sent, Step::Delivered, Step::Read][usize::from(step)].clone();
        story.receipt(message, (n, 1), step, at).await.unwrap();
    }
    stack.level("chat4all").await;
    running.stop().await;
    let pool = stack.pool("chat4all");
    let mut connection = pool.acquire().await.unwrap();
    let key = (message.conversation.uuid(), message.message.uuid());
    let rows = delivery::load(&mut connection, &[key]).await.unwrap();
    assert_eq!(rows.len(), 50);
    for row in rows {
        let at = |s: u64| Some(base.plus(std::time::Duration::from_secs(s)).to_datetime());
        assert_eq!(row.status, "READ", "delivery {}", row.n);
        assert_eq!(
            (row.sent_at, row.delivered_at, row.read_at),
            (at(0), at(1), at(2))
        );
    }
}

#[tokio::test]
async fn who_joins_and_leaves_in_one_breath_was_not_there() {
    let stack = Stack::start().await;
    let story = Story::new(stack.log());
    let id = conversation_id(1);
    story.start(id, 1, 1).await.unwrap();
    let guest = ParticipantId::of_user(id, user(1));
    // Commands that queue for one conversation are decided together and share an envelope, and so a sequence.
    tokio::join!(
        story.join(id, user_in(id, 1)),
        story.leave(id, guest),
        story.join(id, user_in(id, 1)),
        story.leave(id, guest),
        story.join(id, user_in(id, 1)),
    );
    let many = stack.fold(&How::into("chat4all")).await;
    let one_by_one = stack
        .fold(&How {
            batch: 1,
            ..How::into("one_by_one")
        })
        .await;
    stack::assert_same(&many, &one_by_one);
    let present = many["participants"]
        .iter()
        .filter(|row| row.contains(&guest.to_string()) && row.contains("\"left_sequence\": null"));
    assert_eq!(present.count(), 1);
}

//! Events that could not be folded, and rebuilds: what can be read now is folded and its dead letter leaves; where a partition is
//! halted, its new tables stand, too.

use chat4all_domain::{MessageId, Position, message};
use chat4all_nats::subject;
use chat4all_postgres::checkpoint;
use chat4all_projector::rebuild::{Config, Outcome};
use chat4all_service::config::Poison;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::process::{differing, ended, run, typed};
use super::scene::{
    LIVE, Meanwhile, Rebuilding, SWAP, ask, config, identity, is_what_the_log_says,
    only_live_is_left, tamper, with_history,
};
use crate::journeys::until;
use crate::projector::stack::{How, PATIENCE, Stack, assert_same};
use crate::projector::story::{Accepted, Story, conversation, user};

fn message_in(number: u64, key: &str) -> message::Id {
    let conversation = conversation(number);
    message::Id {
        conversation,
        message: MessageId::derive(conversation, user(0), key),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_parked_event_that_can_be_read_now_is_folded_and_its_dead_letter_leaves() {
    let (stack, running) = with_history(5, 2).await;
    tamper(
        &stack,
        "create table public.before as select * from conversations",
    )
    .await;
    let late = message_in(1, "late");
    let story = Story::new(stack.log());
    // Later than anything before it.
    for _ in 0..1_000 {
        story.later();
    }
    let accepted = story.accept(late, "late", &[0]).await.unwrap();
    stack.level(LIVE).await;
    running.stop().await;
    as_an_older_release_left_it(&stack, accepted).await;
    let letter = json!([format!("poison-event:{}", accepted.position)]);
    assert_eq!(dead_letters(&stack).await, letter);
    let (before, reading) = (identity(&stack).await, Meanwhile::reading(&stack));

    let refused = run(&stack, &["--json"]).await;
    assert_eq!(refused.code, Some(3), "{}", refused.errors);
    let last = refused.json().pop().unwrap();
    let (of, position) = (late.conversation, accepted.position);
    let key = format!("conversation_id={of}, message_id={}", late.message);
    let place = position.partition.number();
    let place = format!("partition={place}, sequence={}", position.sequence);
    let columns = [
        "last_activity_at",
        "last_message_id",
        "last_sequence",
        "message_count",
    ];
    let row = |kind: &str, key: String, columns: &[&str]| json!([{"key": key, "kind": kind, "columns": columns}]);
    let counted = row("other", format!("conversation_id={of}"), &columns);
    let delivery = row("missing", format!("{key}, n=0"), &[]);
    let said = row("missing", key, &[]);
    let parked = row("extra", place, &[]);
    let expected = [
        ("conversations", &counted),
        ("deliveries", &delivery),
        ("messages", &said),
        ("projector_dead_letter", &parked),
    ];
    assert_eq!(differing(&last), expected);
    assert_eq!(identity(&stack).await, before);
    assert_eq!(dead_letters(&stack).await, letter);

    let swapped = run(&stack, &["--accept-differences", "--json"]).await;
    assert_eq!(swapped.code, Some(0), "{}", swapped.errors);
    let last = swapped.json().pop().unwrap();
    assert_eq!(differing(&last), expected);
    assert_ne!(identity(&stack).await, before);
    let there = format!(
        "select content_text from messages where message_id = '{}'",
        late.message
    );
    assert_eq!(ask::<String>(&stack, &there).await, "late");
    assert_eq!(dead_letters(&stack).await, json!([]));
    for reader in reading {
        assert!(reader.end().await > 0);
    }
    is_what_the_log_says(&stack).await;
    only_live_is_left(&stack).await;
}

/// As if the release that met the event could not read it: no row of its message, its conversation as it was before, and
/// its dead letter.
async fn as_an_older_release_left_it(stack: &Stack, accepted: Accepted) {
    let (position, id) = (accepted.position, accepted.id);
    let deadline = Instant::now() + PATIENCE;
    let stored = stack
        .log()
        .event_at(position.partition, position.sequence, deadline);
    let stored = stored.await.unwrap().expect("it is on the log");
    let (of, pool) = (id.conversation, stack.pool(LIVE));
    let gone = format!(
        "delete from messages where message_id = '{0}';
         delete from deliveries where message_id = '{0}';
         delete from conversations where conversation_id = '{of}';
         insert into conversations select * from public.before where conversation_id = '{of}';
         drop table public.before",
        id.message
    );
    tamper(stack, &gone).await;
    let parked = sqlx::query(
        "insert into projector_dead_letter (
             partition, sequence, subject, error, payload, recorded_at, event_types, conversation_id)
         values ($1, $2, $3, $4, $5, now(), 'MessageAccepted', $6)",
    )
    .bind(i16::from(position.partition.number()))
    .bind(position.sequence as i64)
    .bind(stored.subject)
    .bind("event MessageAccepted version 1 is newer than this release knows")
    .bind(stored.payload.to_vec())
    .bind(of.uuid())
    .execute(&pool);
    assert_eq!(parked.await.unwrap().rows_affected(), 1);
}

/// The ids that `chat4all dlq ls` lists.
async fn dead_letters(stack: &Stack) -> Value {
    let listed = ended(typed(stack, &["dlq", "ls", "--json"])).await;
    let said = (&listed.output, &listed.errors);
    assert_eq!(listed.code, Some(0), "{said:?}");
    let page = listed.json().pop().unwrap();
    let letters = page["dead_letters"].as_array().unwrap().iter();
    letters.map(|letter| letter["id"].clone()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_halted_partition_is_rebuilt_to_where_it_stands() {
    let (stack, running) = with_history(20, 2).await;
    running.stop().await;
    let (story, count) = (Story::new(stack.log()), stack.log().partitions());
    let subject = subject::of(count, &message_in(1, "bad"));
    let (partition, _) = subject::parse(&subject).unwrap();
    let put = stack.log().jetstream();
    let put = put.publish(subject, "no envelope".into()).await.unwrap();
    let place = Position::new(partition, put.await.unwrap().sequence);
    // Behind it nobody looks.
    let after = story.accept(message_in(1, "after"), "after", &[]).await;
    assert!(after.unwrap().position.sequence > place.sequence);
    let how = How {
        poison: Poison::Halt,
        ..How::into(LIVE)
    };
    let halting = stack.project(&how);
    let halted = async || how.metrics.is_halted(partition);
    until("it is halted", halted, |halted| *halted).await;
    for end in stack.ends().await {
        if end.partition != partition {
            stack.projected_up_to(LIVE, end).await;
        }
    }
    let (before, rows) = (identity(&stack).await, stack.dump(LIVE).await);
    let stands = |of: &checkpoint::Checkpoint| of.sequence == place.sequence - 1;
    let at = checkpoint::read(&stack.pool(LIVE)).await.unwrap();
    assert!(stands(&at[&partition]), "{at:?}");

    let halting_too = Config {
        poison: Poison::Halt,
        ..config(&stack, SWAP)
    };
    let outcome = Rebuilding::with(halting_too).ended().await.unwrap();
    let Outcome::Swapped(swapped) = outcome else {
        panic!("{outcome:?}")
    };
    assert!(swapped.comparison.is_equal(), "{swapped:?}");
    assert_ne!(identity(&stack).await, before);
    let at = checkpoint::read(&stack.pool(LIVE)).await.unwrap();
    assert!(stands(&at[&partition]), "{at:?}");
    assert_same(&stack.dump(LIVE).await, &rows);
    assert!(rows["projector_dead_letter"].is_empty());
    halting.stop().await;

    // Somebody has looked, and lets it be parked: it goes on from there in the new tables.
    let on = stack.fold(&How::into(LIVE)).await;
    assert_eq!(on["projector_dead_letter"].len(), 1);
    assert_same(&on, &stack.fold(&How::into("anew")).await);
}

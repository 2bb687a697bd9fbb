//! Live rows that are not what the log says are named, and replaced only when somebody says so.

use chat4all_postgres::rebuild::compare::{Comparison, How as Differs};
use chat4all_projector::rebuild::{Outcome, Phase, Purpose};

use super::scene::{
    LIVE, Meanwhile, Rebuilding, SWAP, SWAP_ANYWAY, ask, identity, is_what_the_log_says,
    only_live_is_left, rebuild, tamper, with_history,
};

/// Table, key and what about it, of everything that differs.
fn named(comparison: &Comparison) -> Vec<(String, String, Differs)> {
    let each = comparison.tables.iter().flat_map(|table| {
        let of = |difference: &chat4all_postgres::rebuild::compare::Difference| {
            (
                table.name.clone(),
                difference.key.clone(),
                difference.how.clone(),
            )
        };
        table.differences.iter().map(of)
    });
    each.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_live_row_that_was_altered_is_named_with_table_and_key() {
    let (stack, running) = with_history(30, 3).await;
    let writing = Meanwhile::writing(&stack, 10_000);
    let id: uuid::Uuid = ask(&stack, "select message_id from messages order by 1 limit 1").await;
    let of: uuid::Uuid = ask(
        &stack,
        &format!("select conversation_id from messages where message_id = '{id}'"),
    )
    .await;
    let altered =
        format!("update messages set content_text = 'never said' where message_id = '{id}'");
    assert_eq!(tamper(&stack, &altered).await, 1);
    let before = identity(&stack).await;

    let Outcome::Refused(comparison) = rebuild(&stack, SWAP).await else {
        panic!("it was not refused")
    };
    let key = format!("conversation_id={of}, message_id={id}");
    let columns = Differs::Columns(vec!["content_text".to_owned()]);
    let expected = [("messages".to_owned(), key, columns)];
    assert_eq!(named(&comparison), expected);
    assert_eq!(comparison.differing(), 1);
    // Nothing personal is in what people see of it.
    assert!(!format!("{comparison:?}").contains("never said"));
    assert_eq!(identity(&stack).await, before, "the tables were swapped");
    only_live_is_left(&stack).await;

    // Only to know: the same answer, and nothing changes.
    let Outcome::Compared(comparison) = rebuild(&stack, Purpose::Compare).await else {
        panic!("it was not compared")
    };
    assert_eq!(named(&comparison), expected);

    let Outcome::Swapped(swapped) = rebuild(&stack, SWAP_ANYWAY).await else {
        panic!("it was not swapped")
    };
    assert_eq!(named(&swapped.comparison), expected);
    writing.end().await;
    stack.level(LIVE).await;
    running.stop().await;
    is_what_the_log_says(&stack).await;
}

#[tokio::test]
async fn rows_that_are_missing_and_rows_that_nobody_wrote_are_named_in_every_table() {
    let (stack, running) = with_history(3, 2).await;
    running.stop().await;
    let tables: Vec<String> = ask(
        &stack,
        "select array(select tablename::text from pg_tables where schemaname = 'chat4all'
                      and tablename not in ('_sqlx_migrations', 'projector_checkpoint', 'projector_dead_letter')
                      order by 1)",
    )
    .await;
    for table in &tables {
        let rows: i64 = ask(&stack, &format!("select count(*) from {table}")).await;
        if rows > 0 {
            let one = format!("delete from {table} where ctid = (select min(ctid) from {table})");
            assert_eq!(tamper(&stack, &one).await, 1);
        }
    }
    tamper(
        &stack,
        "insert into readers values (gen_random_uuid(), gen_random_uuid(), gen_random_uuid(), 7, now());
         insert into projector_dead_letter values (3, 9999, 'chat.evt.03.x', 'nothing', '', now())",
    )
    .await;
    let Outcome::Refused(comparison) = rebuild(&stack, SWAP).await else {
        panic!("it was not refused")
    };
    let named = named(&comparison);
    let of = |table: &str| -> Vec<&Differs> {
        let each = named.iter().filter(|(name, ..)| name == table);
        each.map(|(_, _, how)| how).collect()
    };
    for table in [
        "conversations",
        "participants",
        "messages",
        "deliveries",
        "delivery_events",
    ] {
        assert_eq!(of(table), [&Differs::Missing], "{table}");
    }
    assert_eq!(of("readers"), [&Differs::Extra]);
    assert_eq!(of("projector_dead_letter"), [&Differs::Extra]);
    assert_eq!(comparison.differing(), 7);
    assert!(
        named
            .iter()
            .any(|(_, key, _)| key == "partition=3, sequence=9999")
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_row_that_is_altered_after_the_snapshot_is_found_before_the_swap() {
    let (stack, running) = with_history(30, 3).await;
    let mut rebuilding = Rebuilding::start(&stack, SWAP);
    rebuilding.reaches(Phase::Comparing).await;
    // Held here until the row is altered: the comparison's last table cannot be read.
    let mut hand = stack.database(LIVE).connect().await.unwrap();
    let mut tx = sqlx::Connection::begin(&mut hand).await.unwrap();
    sqlx::raw_sql("lock table readers in access exclusive mode; update deliveries set attempts = 77 where n = 0")
        .execute(&mut *tx)
        .await
        .unwrap();
    // The snapshot is taken at the beginning of the comparison.
    waits_for_a_lock(&stack).await;
    tx.commit().await.unwrap();
    let Outcome::Refused(comparison) = rebuilding.ended().await.unwrap() else {
        panic!("it was not refused")
    };
    assert_eq!(comparison.differing(), 90, "{comparison:?}");
    // All are counted, and the first 20 by key are named.
    let first: Vec<String> = ask(
        &stack,
        "select array(select concat_ws(', ', 'conversation_id=' || conversation_id, 'message_id=' || message_id, 'n=' || n)
                      from deliveries
                      where n = 0
                      order by conversation_id, message_id
                      limit 20)",
    )
    .await;
    assert_eq!(first.len(), 20);
    let attempts = Differs::Columns(vec!["attempts".to_owned()]);
    let each = first.into_iter();
    let expected: Vec<_> = each
        .map(|key| ("deliveries".to_owned(), key, attempts.clone()))
        .collect();
    assert_eq!(named(&comparison), expected);
    running.stop().await;
}

async fn waits_for_a_lock(stack: &crate::projector::stack::Stack) {
    let deadline = tokio::time::Instant::now() + crate::projector::stack::PATIENCE;
    loop {
        let waiting: i64 = ask(
            stack,
            "select count(*) from pg_stat_activity where wait_event_type = 'Lock' and query like '%full join%'",
        )
        .await;
        if waiting > 0 {
            return;
        }
        assert!(tokio::time::Instant::now() < deadline, "nobody waits");
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_checkpoint_ahead_of_the_log_is_named_and_put_right_only_on_demand() {
    let (stack, running) = with_history(5, 2).await;
    running.stop().await;
    // As if the log had been restored from an older copy.
    tamper(
        &stack,
        "update projector_checkpoint set sequence = sequence + 1000 where partition = 3",
    )
    .await;
    let Outcome::Refused(comparison) = rebuild(&stack, SWAP).await else {
        panic!("it was not refused")
    };
    let expected = (
        "projector_checkpoint".to_owned(),
        "partition=3".to_owned(),
        Differs::Columns(vec!["sequence".to_owned()]),
    );
    assert_eq!(named(&comparison), [expected]);
    let outcome = rebuild(&stack, SWAP_ANYWAY).await;
    assert!(matches!(outcome, Outcome::Swapped(_)), "{outcome:?}");
    is_what_the_log_says(&stack).await;
}

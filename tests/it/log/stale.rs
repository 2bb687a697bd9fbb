//! A state that may be old leads to an append or to another look, never to a "no".

use chat4all_domain::Timestamp;
use chat4all_domain::delivery::{Command, FailureClass, Operation, Reason, Rejection};
use chat4all_nats::execute::Error;

use crate::support::deliveries::{at, attempt, id, owners, store};
use crate::support::log::{context, layout, one_node, opened};

fn wait_until(attempt: u32, until: Timestamp) -> Command {
    Command::Defer {
        n: 0,
        op: Operation::Send,
        generation: 0,
        attempt,
        until,
        class: FailureClass::Transient,
        reason: Reason::ChannelFailure,
    }
}

#[tokio::test]
async fn what_the_old_state_would_refuse_is_accepted() {
    let node = one_node().await;
    let other = opened(&node.nats.url(), "other", &layout(1)).await;
    let (ours, theirs, id) = (store(&node.log), store(&other), id(1));
    ours.execute(&id, attempt(0, 1, "ours"), context(10))
        .await
        .unwrap();
    theirs
        .execute(&id, attempt(0, 2, "theirs"), context(10))
        .await
        .unwrap();
    let old = ours.cached(&id).unwrap();
    assert_eq!(
        old.state.entry(0, Operation::Send).attempts,
        1,
        "the cache is old"
    );

    let third = ours
        .execute(&id, attempt(0, 3, "ours"), context(10))
        .await
        .unwrap();
    assert_eq!(third.events.len(), 1);
    let names: Vec<_> = owners(&node.log, &id)
        .await
        .into_iter()
        .map(|(_, owner)| owner)
        .collect();
    assert_eq!(names, ["ours", "theirs", "ours"]);
}

#[tokio::test]
async fn where_the_old_state_has_nothing_to_do_the_new_one_has() {
    let node = one_node().await;
    let other = opened(&node.nats.url(), "other", &layout(1)).await;
    let (ours, theirs, id) = (store(&node.log), store(&other), id(1));
    // As we know it, no attempt was made: that attempt 1 waits is not for us to say, and nothing happens.
    ours.execute(&id, wait_until(0, at()), context(10))
        .await
        .unwrap();
    let nothing = ours
        .execute(&id, wait_until(1, at()), context(10))
        .await
        .unwrap();
    assert!(nothing.events.is_empty());

    theirs
        .execute(&id, attempt(0, 1, "theirs"), context(10))
        .await
        .unwrap();
    let known = ours
        .cached(&id)
        .unwrap()
        .state
        .entry(0, Operation::Send)
        .attempts;
    assert_eq!(known, 0, "the cache is old");
    let waits = ours
        .execute(&id, wait_until(1, at()), context(10))
        .await
        .unwrap();
    assert_eq!(waits.events.len(), 1);
}

#[tokio::test]
async fn a_refusal_is_what_the_leader_would_say_and_says_what_the_others_did() {
    let node = one_node().await;
    let other = opened(&node.nats.url(), "other", &layout(1)).await;
    let (ours, theirs, id) = (store(&node.log), store(&other), id(1));
    ours.execute(&id, attempt(0, 1, "ours"), context(10))
        .await
        .unwrap();
    for number in 2..=4 {
        theirs
            .execute(&id, attempt(0, number, "theirs"), context(10))
            .await
            .unwrap();
    }
    // By the old state 9 cannot follow 1; the answer is about 4. And 2 could follow 1, but not 4.
    for asked in [9, 2] {
        let refused = ours
            .execute(&id, attempt(0, asked, "ours"), context(10))
            .await;
        let refused = refused.map(|executed| executed.events.len());
        assert_eq!(
            refused,
            Err(Error::Rejected(Rejection::NotNext {
                n: 0,
                last: 4,
                asked
            }))
        );
    }
    assert_eq!(owners(&node.log, &id).await.len(), 4);
}

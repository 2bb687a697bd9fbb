//! Which calls are counted how before a breaker opens: those that failed, against those that the provider answered.

use std::time::Duration;

use chat4all_channel_bridges::accounts::Accounts;
use chat4all_channel_bridges::state::State;
use chat4all_domain::delivery::Status;
use serde_json::{Value, json};

use super::shows;
use crate::bridges::stage::{KIND, Posted, Stage, account_id, conversation, number, until};

/// How often each is repeated while nothing opens: together the breaker's memory is filled three times.
const ROUNDS: usize = 20;

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_fails_one_call_of_three_is_called_on_and_one_that_fails_every_other_is_not()
 {
    let stage = Stage::with(|_, config| {
        // What a lane waits is not what is looked at here, nor how long twenty calls take, nor how an open one is tried.
        config.pace.transient = vec![Duration::from_millis(50)];
        config.pace.breaker.within = Duration::from_secs(3_600);
        config.pace.breaker.open_for = Duration::from_secs(3_600);
    })
    .await;
    let bridges = stage.bridges().await;
    let busy = json!({"kind": "http_status", "status": 503});
    let unreachable = json!({"kind": "error", "code": 131_026});
    // One after the other: a call that fails, one that is taken, one that is refused because of its recipient. Were either of
    // the latter not counted, every other call would have failed.
    for round in 0..ROUNDS {
        let taken = spoilt(&stage, 2 * round, &busy).await;
        stage.reaches(&taken, 0, Status::Sent).await;
        let refused = spoilt(&stage, 2 * round + 1, &unreachable).await;
        stage.is(&refused, 0, Status::Failed).await;
    }
    assert_eq!(stage.calls().await.len(), 3 * ROUNDS);
    let accounts = Accounts::new(&stage.node.log);
    let look = || async { accounts.state(KIND, &account_id()).await.unwrap() };
    assert_eq!(look().await, State::default());

    // Now only calls that fail and calls that are taken: the ninth to fail is the tenth of the last twenty calls, because of the
    // last three before these one had failed.
    for one in 0..8 {
        let taken = spoilt(&stage, 100 + one, &busy).await;
        stage.reaches(&taken, 0, Status::Sent).await;
    }
    spoilt(&stage, 108, &busy).await;
    shows(&stage.metrics, "account_broken", true).await;
    let state = until(look, |state| state.broken.is_some()).await;
    let broken = state.broken.unwrap();
    assert_eq!((broken.failed, broken.of), (10, 20));
    assert_eq!(stage.calls().await.len(), 3 * ROUNDS + 17);
    bridges.stop().await;
}

/// A message to a customer of its own, whose first call goes wrong like that.
async fn spoilt(stage: &Stage, customer: usize, fault: &Value) -> Posted {
    let to = number(customer);
    let rule = json!({"to": to, "count": 1, "fault": fault});
    stage.fault(rule).await;
    stage.post(conversation(), &[to], "hello").await
}

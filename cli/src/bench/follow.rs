//! How long it takes until a message has come over a WebSocket to who follows it live.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::Value;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::load::{Operation, Run, micros, open};
use super::plan::{Plan, WARM_UP};
use super::post::Post;
use super::see::RATE;
use super::socket::Socket;
use super::system::System;

/// How long the last messages may take after the load has ended.
const PATIENCE: Duration = Duration::from_secs(60);

/// Posts, and notes under the message's id when it was meant to.
struct PostAndNote {
    post: Post,
    meant: Mutex<HashMap<String, (u64, Instant)>>,
}

impl Operation for PostAndNote {
    async fn once(&self, n: u64, meant: Instant) -> anyhow::Result<()> {
        let answer: Value = serde_json::from_slice(&self.post.send(n).await?)?;
        let id = answer["message_id"].as_str();
        let id = id.context("no message_id in the answer")?.to_owned();
        lock(&self.meant).insert(id, (n, meant));
        Ok(())
    }
}

/// One run: messages into `groups` at the usual rate, followed by one client of the developer's.
///
/// # Errors
/// The load or the client failed; or not everything came.
pub(super) async fn run(plan: &Plan, system: &System, groups: &[String]) -> anyhow::Result<Run> {
    let queries = system.variable("CHAT4ALL_QUERY_URL")?;
    let mut socket = Socket::follow(queries, system.variable("CHAT4ALL_TOKEN")?).await?;
    let note = Arc::new(PostAndNote {
        post: Post::prepare(system, groups.to_vec())?,
        meant: Mutex::default(),
    });
    let loaded = CancellationToken::new();
    let following = async {
        let mut came: HashMap<String, Instant> = HashMap::new();
        // Of a running system others may write, too, so that ours must be found among what comes.
        while !loaded.is_cancelled() || !lock(&note.meant).keys().all(|id| came.contains_key(id)) {
            tokio::select! {
                ids = socket.messages() => {
                    let now = Instant::now();
                    came.extend(ids?.into_iter().map(|id| (id, now)));
                }
                () = loaded.cancelled(), if !loaded.is_cancelled() => {}
            }
        }
        anyhow::Ok(came)
    };
    let loading = async {
        open(Arc::clone(&note), RATE, plan.times()).await?;
        loaded.cancel();
        anyhow::Ok(())
    };
    let limit = WARM_UP + plan.time + PATIENCE;
    let (came, ()) = timeout(limit, async { tokio::try_join!(following, loading) })
        .await
        .context("not every message came over the WebSocket")??;
    let meant = lock(&note.meant);
    let latencies = meant.iter().filter_map(|(id, (n, meant))| {
        let measured = *n as f64 >= RATE * WARM_UP.as_secs_f64();
        let at = came.get(id).filter(|_| measured)?;
        Some(micros(at.saturating_duration_since(*meant)))
    });
    Ok(Run::new(latencies.collect(), plan.time))
}

/// Every critical section here is a single step: what is behind a poisoned lock is whole.
fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

//! Messages to recipients outside, in a closed loop: so many requests at a time, as long as not too much is under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use chat4all_service::clock;
use time::OffsetDateTime;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::plan::WARM_UP;
use super::post::Post;
use super::system::System;

/// Requests at a time.
const IN_FLIGHT: usize = 64;
/// Messages accepted but not taken by the provider yet, at most: more would only wait.
pub(super) const OUTSTANDING: usize = 4_000;
/// How much longer than it should a run may take.
const PATIENCE: Duration = Duration::from_secs(300);

/// The clients.
pub(super) struct Flow {
    post: Post,
    next: AtomicU64,
    room: Semaphore,
    ended: AtomicBool,
    /// What the provider had taken before the first message.
    taken_before: AtomicU64,
}

/// What a run gave, per second.
pub(super) struct Rates {
    pub accepted: f64,
    pub handed_over: f64,
    /// When it was counted, by the clock of everybody here.
    pub counted: (OffsetDateTime, OffsetDateTime),
    pub took: Duration,
}

impl Flow {
    /// # Errors
    /// The simulator does not answer.
    pub async fn new(system: &System, post: Post) -> anyhow::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            post,
            next: AtomicU64::new(0),
            room: Semaphore::new(OUTSTANDING),
            ended: AtomicBool::new(false),
            taken_before: AtomicU64::new(system.handed_over().await?),
        }))
    }

    /// What another flow has had taken meanwhile does not count as ours. Only while nothing of ours is under way.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub async fn begins(&self, system: &System) -> anyhow::Result<()> {
        let ours = self.next.load(Ordering::Relaxed);
        let before = system.handed_over().await? - ours;
        self.taken_before.store(before, Ordering::Relaxed);
        Ok(())
    }

    /// Sends for the warm-up and then for `time`, in which it counts. What is under way at the end stays under way.
    ///
    /// # Errors
    /// A message was refused; or the simulator does not answer.
    pub async fn run(self: &Arc<Self>, system: &System, time: Duration) -> anyhow::Result<Rates> {
        self.ended.store(false, Ordering::Relaxed);
        let mut clients = JoinSet::new();
        for _ in 0..IN_FLIGHT {
            let flow = Arc::clone(self);
            clients.spawn(async move {
                while !flow.ended.load(Ordering::Relaxed) {
                    flow.room.acquire().await?.forget();
                    let n = flow.next.fetch_add(1, Ordering::Relaxed);
                    flow.post.send(n).await?;
                }
                anyhow::Ok(())
            });
        }
        let begun = Instant::now();
        let mut taken = system.handed_over().await?;
        let mut window: Option<(Instant, OffsetDateTime, u64, u64)> = None;
        let (accepted, handed_over, counted) = loop {
            // A client that has ended was refused: nobody has told them to stop yet.
            if let Some(ended) = clients.try_join_next() {
                ended.context("a client panicked")??;
            }
            sleep(Duration::from_millis(20)).await;
            // What the provider has taken makes room for as much.
            let now = system.handed_over().await?;
            self.room
                .add_permits(usize::try_from(now.saturating_sub(taken))?);
            taken = now;
            let posted = self.next.load(Ordering::Relaxed);
            match window {
                None if begun.elapsed() >= WARM_UP => {
                    window = Some((Instant::now(), clock::now(), posted, taken));
                }
                Some((from, since, posted_before, taken_before)) if from.elapsed() >= time => {
                    let per_second = |count: u64| count as f64 / from.elapsed().as_secs_f64();
                    break (
                        per_second(posted - posted_before),
                        per_second(taken - taken_before),
                        (since, clock::now()),
                    );
                }
                None | Some(_) => {}
            }
        };
        self.ended.store(true, Ordering::Relaxed);
        self.room.add_permits(IN_FLIGHT);
        while let Some(client) = clients.join_next().await {
            client.context("a client panicked")??;
        }
        self.make_room(taken);
        Ok(Rates {
            accepted,
            handed_over,
            counted,
            took: begun.elapsed(),
        })
    }

    /// As much room as there should be now, whatever was drawn and added.
    fn make_room(&self, taken: u64) {
        let under_way = self.next.load(Ordering::Relaxed)
            - taken.saturating_sub(self.taken_before.load(Ordering::Relaxed));
        self.room.forget_permits(usize::MAX);
        self.room
            .add_permits(OUTSTANDING.saturating_sub(under_way as usize));
    }

    /// Waits until the provider has taken everything that was accepted.
    ///
    /// # Errors
    /// It takes longer than five minutes.
    pub async fn all_handed_over(&self, system: &System) -> anyhow::Result<()> {
        let all = self.taken_before.load(Ordering::Relaxed) + self.next.load(Ordering::Relaxed);
        system.until_handed_over(all, PATIENCE).await?;
        self.make_room(all);
        Ok(())
    }
}

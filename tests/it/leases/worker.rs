//! Workers in processes of their own, as far as that matters: a thread, a runtime, a connection.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::{Duration, Instant};

use chat4all_nats::lease::{self, Lease};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::support::log::{layout, opened};

/// Who has which lease, as the workers themselves see it.
type Held = Arc<Mutex<BTreeMap<u8, Lease>>>;
type Busy = Arc<Mutex<BTreeSet<u8>>>;

/// Stops like a process that is killed: nothing is given back, nobody says goodbye.
pub struct Worker {
    pub name: String,
    held: Held,
    gained: Arc<AtomicU64>,
    stop: CancellationToken,
    killed: CancellationToken,
    /// While it is full, the worker's only thread stands still.
    freeze: mpsc::SyncSender<Duration>,
    /// The partitions whose work is not finished, however it is asked back.
    busy: Busy,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Worker {
    pub fn start(url: &str, name: &str) -> Self {
        let (freeze, frozen) = mpsc::sync_channel(1);
        let mut worker = Self {
            name: name.to_owned(),
            held: Held::default(),
            gained: Arc::default(),
            stop: CancellationToken::new(),
            killed: CancellationToken::new(),
            freeze,
            busy: Arc::default(),
            thread: None,
        };
        let (url, name) = (url.to_owned(), name.to_owned());
        let (held, gained) = (Arc::clone(&worker.held), Arc::clone(&worker.gained));
        let (stop, killed) = (worker.stop.clone(), worker.killed.clone());
        let busy = Arc::clone(&worker.busy);
        worker.thread = Some(std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread()
                .enable_all()
                .build()
                .unwrap();
            let working = work(&url, &name, &held, &gained, &stop, &busy, &frozen);
            runtime.block_on(killed.run_until_cancelled(working));
            // With the runtime the keeper is gone: a lease that is dropped now is given back to nobody.
            runtime.shutdown_background();
            held.lock().unwrap().clear();
        }));
        worker
    }

    /// The partitions on which it may start something now.
    pub fn may_start(&self) -> BTreeSet<u8> {
        let held = self.held.lock().unwrap();
        let startable = held.iter().filter(|(_, lease)| lease.may_start());
        startable.map(|(partition, _)| *partition).collect()
    }
    /// The partitions that it was asked to give back, and has not.
    pub fn draining(&self) -> BTreeSet<u8> {
        let held = self.held.lock().unwrap();
        let draining = held
            .iter()
            .filter(|(_, lease)| lease.asked_back_token().is_cancelled());
        draining.map(|(partition, _)| *partition).collect()
    }
    /// How many leases it was ever given.
    pub fn gained(&self) -> u64 {
        self.gained.load(Ordering::SeqCst)
    }
    /// From now on these are kept when they are asked back, until it is not busy with them any more.
    pub fn busy_with(&self, partitions: impl IntoIterator<Item = u8>) {
        *self.busy.lock().unwrap() = partitions.into_iter().collect();
    }
    /// Its only thread stands still for this long.
    pub fn freeze(&self, time: Duration) {
        self.freeze.send(time).unwrap();
    }
    /// Asks it to stop cleanly.
    pub fn stop(&self) {
        self.stop.cancel();
    }
    pub fn kill(mut self) {
        self.end();
    }
    fn end(&mut self) {
        self.killed.cancel();
        if let Some(thread) = self.thread.take() {
            drop(thread.join());
        }
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.end();
    }
}

async fn work(
    url: &str,
    name: &str,
    held: &Held,
    gained: &AtomicU64,
    stop: &CancellationToken,
    busy: &Busy,
    frozen: &mpsc::Receiver<Duration>,
) {
    let log = opened(url, name, &layout(1)).await;
    let mut leases = lease::join(log, "test", name, &TaskTracker::new(), stop);
    let mut look = tokio::time::interval(Duration::from_millis(5));
    loop {
        tokio::select! {
            lease = leases.recv() => {
                let Some(lease) = lease else { return };
                gained.fetch_add(1, Ordering::SeqCst);
                let before = held.lock().unwrap().insert(lease.partition().number(), lease);
                assert!(before.is_none(), "{name} was given {before:?} twice");
            }
            _ = look.tick() => {
                if let Ok(time) = frozen.try_recv() {
                    std::thread::sleep(time);
                }
                let busy = busy.lock().unwrap().clone();
                let kept = |partition: &u8, lease: &mut Lease| {
                    busy.contains(partition) || !lease.asked_back_token().is_cancelled()
                };
                held.lock().unwrap().retain(kept);
            }
        }
    }
}

/// Waits until the workers share all eight partitions in just these shares, in any order.
pub async fn shares(workers: &[&Worker], wanted: &[usize], within: Duration) {
    let begun = Instant::now();
    loop {
        let startable: Vec<_> = workers.iter().map(|worker| worker.may_start()).collect();
        let mut sizes: Vec<_> = startable.iter().map(BTreeSet::len).collect();
        sizes.sort_unstable();
        let all: BTreeSet<_> = startable.iter().flatten().copied().collect();
        if sizes == wanted && all.len() == 8 {
            println!("{wanted:?} after {:?}", begun.elapsed());
            return;
        }
        let late = begun.elapsed() >= within;
        assert!(!late, "not {wanted:?} within {within:?}, but {startable:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

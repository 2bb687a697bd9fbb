//! A gate in front of a server: while it is closed, what clients say is kept back, and goes on in its order when it is opened.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::proxy::through;

const PATIENCE: Duration = Duration::from_secs(30);

pub struct Gate {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
}

struct Shared {
    upstream: u16,
    closed: watch::Sender<bool>,
    /// What was kept back since it was closed last.
    kept: Mutex<Vec<u8>>,
}

impl Gate {
    /// An open one, to a server on this machine.
    pub async fn start(upstream: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let shared = Arc::new(Shared {
            upstream,
            closed: watch::Sender::new(false),
            kept: Mutex::default(),
        });
        let gate = Self {
            address: listener.local_addr().expect("bound"),
            shared: Arc::clone(&shared),
            stop: CancellationToken::new(),
        };
        let (tasks, stop) = (TaskTracker::new(), gate.stop.clone());
        let connections = tasks.clone();
        tasks.spawn(async move {
            while let Some(Ok((client, _))) = stop.run_until_cancelled(listener.accept()).await {
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                connections.spawn(async move {
                    tokio::select! {
                        () = stop.cancelled() => {}
                        // Either side may hang up: the client tries again.
                        _ = pass(client, &shared) => {}
                    }
                });
            }
        });
        gate
    }

    pub fn port(&self) -> u16 {
        self.address.port()
    }

    pub fn close(&self) {
        self.shared.kept.lock().unwrap().clear();
        self.shared.closed.send_replace(true);
    }

    /// What was kept back goes on.
    pub fn open(&self) {
        self.shared.closed.send_replace(false);
    }

    /// Waits until it keeps something back that has these words in it.
    pub async fn keeps(&self, words: &str) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let kept = self.shared.kept.lock().unwrap().clone();
            let kept = String::from_utf8_lossy(&kept).into_owned();
            if kept.contains(words) {
                return;
            }
            assert!(Instant::now() < deadline, "it keeps only: {kept}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
}

impl Drop for Gate {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

async fn pass(client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let ((from_client, mut to_client), (mut from_server, to_server)) =
        through(client, shared.upstream).await?;
    tokio::select! {
        done = requests(from_client, to_server, shared) => done,
        done = tokio::io::copy(&mut from_server, &mut to_client) => done.map(drop),
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut open = shared.closed.subscribe();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        let closed = *open.borrow_and_update();
        if closed {
            let mut kept = shared.kept.lock().unwrap();
            kept.extend_from_slice(&chunk[..read]);
        }
        open.wait_for(|closed| !closed)
            .await
            .expect("the sender is in what we hold");
        to.write_all(&chunk[..read]).await?;
    }
}

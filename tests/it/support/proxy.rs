//! A TCP proxy in front of a nats-server that loses what a network can lose: acknowledgements, and connections; and that is as
//! slow as a network can be.
//!
//! It understands just enough of the protocol: frames from the server are forwarded whole, one whose payload is a
//! `PubAck` may be dropped, and addresses of other servers are cut out of `INFO`, so that nobody goes around the proxy.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

/// How long what is to be kept back may take to come.
const HELD_WITHIN: Duration = Duration::from_secs(30);

pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

struct Shared {
    upstream: u16,
    /// Of 100 acknowledgements, how many are lost.
    lose_percent: u64,
    rng: Mutex<Rng>,
    dropped: AtomicU64,
    passed: AtomicU64,
    /// Nothing from the server gets through; what it was is kept here.
    swallowing: AtomicBool,
    swallowed: Mutex<Vec<u8>>,
    cut: Mutex<CancellationToken>,
    /// How long the next acknowledgement of an append, and everything behind it, is kept back.
    stall: Mutex<Option<Duration>>,
    /// Whose next acknowledgement, and everything behind it, is kept back until somebody lets it go.
    hold: Mutex<Option<(String, Held)>>,
    /// Words in what a client says, which is kept back with everything behind it until somebody lets it go.
    hold_back: Mutex<Option<(String, Held)>>,
}

/// What is kept back when it comes.
#[derive(Clone, Default)]
pub struct Held {
    come: CancellationToken,
    gone: CancellationToken,
}

impl Held {
    /// Waits until it has come. If it is an acknowledgement, what it acknowledges is stored, and whoever published does not
    /// know.
    pub async fn has_come(&self) {
        let come = tokio::time::timeout(HELD_WITHIN, self.come.cancelled());
        come.await.expect("there was nothing to keep back");
    }
    /// Lets it go on, and everything behind it.
    pub fn let_go(self) {
        self.gone.cancel();
    }
}

impl Proxy {
    pub async fn start(upstream: u16, lose_percent: u64, seed: u64) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let shared = Arc::new(Shared {
            upstream,
            lose_percent,
            rng: Mutex::new(Rng::with_seed(seed)),
            dropped: AtomicU64::new(0),
            passed: AtomicU64::new(0),
            swallowing: AtomicBool::new(false),
            swallowed: Mutex::default(),
            cut: Mutex::default(),
            stall: Mutex::default(),
            hold: Mutex::default(),
            hold_back: Mutex::default(),
        });
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let proxy = Self {
            address: listener.local_addr().expect("bound"),
            shared,
            tasks,
            stop,
        };
        let (shared, tasks, stop) = (
            Arc::clone(&proxy.shared),
            proxy.tasks.clone(),
            proxy.stop.clone(),
        );
        proxy.tasks.spawn(async move {
            while let Some(Ok((client, _))) = stop.run_until_cancelled(listener.accept()).await {
                let cut = shared.cut.lock().unwrap().clone();
                let (shared, stop) = (Arc::clone(&shared), stop.clone());
                tasks.spawn(async move {
                    tokio::select! {
                        () = cut.cancelled() => {}
                        () = stop.cancelled() => {}
                        // A server that is down closes the connection: the client tries again.
                        _ = pass(client, &shared) => {}
                    }
                });
            }
        });
        proxy
    }

    pub fn url(&self) -> String {
        format!("nats://{}", self.address)
    }
    /// Acknowledgements that were dropped, and that were let through.
    pub fn counts(&self) -> (u64, u64) {
        (
            self.shared.dropped.load(Ordering::Relaxed),
            self.shared.passed.load(Ordering::Relaxed),
        )
    }
    /// While `true`, nothing from the server gets through; what came meanwhile is lost.
    pub fn swallow(&self, swallow: bool) {
        self.shared.swallowed.lock().unwrap().clear();
        self.shared.swallowing.store(swallow, Ordering::SeqCst);
    }
    /// Waits until something with `text` in it was swallowed.
    pub async fn has_swallowed(&self, text: &str) {
        let deadline = Instant::now() + Duration::from_secs(10);
        loop {
            let swallowed = self.shared.swallowed.lock().unwrap().clone();
            let swallowed = String::from_utf8_lossy(&swallowed).into_owned();
            if swallowed.contains(text) {
                return;
            }
            assert!(Instant::now() < deadline, "swallowed only: {swallowed}");
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    }
    /// The next acknowledgement of an append, and everything that comes after it, arrives so much later.
    pub fn stall_once(&self, time: Duration) {
        *self.shared.stall.lock().unwrap() = Some(time);
    }
    /// Whether that acknowledgement has come.
    pub fn stalls(&self) -> bool {
        self.shared.stall.lock().unwrap().is_none()
    }
    /// The next acknowledgement of `stream`, and everything that comes after it, is kept back until it is let go.
    pub fn hold_once(&self, stream: &str) -> Held {
        let held = Held::default();
        *self.shared.hold.lock().unwrap() = Some((stream.to_owned(), held.clone()));
        held
    }
    /// The next thing that a client says with these words in it, and everything that it says after it, does not reach the
    /// server until it is let go.
    pub fn hold_back_once(&self, words: &str) -> Held {
        assert!(!words.is_empty(), "what is to be kept back?");
        let held = Held::default();
        *self.shared.hold_back.lock().unwrap() = Some((words.to_owned(), held.clone()));
        held
    }
    /// Closes every connection there is; new ones are welcome.
    pub fn cut_all(&self) {
        std::mem::take(&mut *self.shared.cut.lock().unwrap()).cancel();
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// A client's connection and one to the server behind it, each by its directions.
pub(super) async fn through(
    client: TcpStream,
    upstream: u16,
) -> std::io::Result<(Directions, Directions)> {
    let server = TcpStream::connect(("127.0.0.1", upstream)).await?;
    client.set_nodelay(true)?;
    server.set_nodelay(true)?;
    Ok((client.into_split(), server.into_split()))
}

type Directions = (OwnedReadHalf, OwnedWriteHalf);

async fn pass(client: TcpStream, shared: &Shared) -> std::io::Result<()> {
    let ((from_client, to_client), (from_server, to_server)) =
        through(client, shared.upstream).await?;
    tokio::select! {
        done = requests(from_client, to_server, shared) => done,
        done = answers(from_server, to_client, shared) => done,
    }
}

async fn requests(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut chunk = vec![0; 64 * 1024];
    // The end of what was said before: words may come in two parts.
    let mut seen = Vec::new();
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        seen.extend_from_slice(&chunk[..read]);
        if let Some(held) = shared.holds_back(&mut seen) {
            held.come.cancel();
            held.gone.cancelled().await;
        }
        to.write_all(&chunk[..read]).await?;
    }
}

async fn answers(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
) -> std::io::Result<()> {
    let mut buffer = Vec::new();
    let mut chunk = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut chunk).await?;
        if read == 0 {
            return Ok(());
        }
        if shared.swallowing.load(Ordering::SeqCst) {
            shared
                .swallowed
                .lock()
                .unwrap()
                .extend_from_slice(&chunk[..read]);
            continue;
        }
        buffer.extend_from_slice(&chunk[..read]);
        let mut out = Vec::with_capacity(buffer.len());
        let mut done = 0;
        while let Some(length) = frame(&buffer[done..]) {
            let frame = &buffer[done..done + length];
            done += length;
            if let Some(held) = shared.holds(frame) {
                held.come.cancel();
                held.gone.cancelled().await;
            }
            if is_ack(frame, "EVT-") {
                let stall = shared.stall.lock().unwrap().take();
                if let Some(time) = stall {
                    tokio::time::sleep(time).await;
                }
                if shared.loses() {
                    continue;
                }
            }
            out.extend_from_slice(&without_other_servers(frame));
        }
        buffer.drain(..done);
        to.write_all(&out).await?;
    }
}

impl Shared {
    fn loses(&self) -> bool {
        let lost = self.rng.lock().unwrap().u64(..100) < self.lose_percent;
        let counter = if lost { &self.dropped } else { &self.passed };
        counter.fetch_add(1, Ordering::Relaxed);
        lost
    }

    /// Whether this is to be kept back, and for whom. Leaves of it what may be the beginning of the words.
    fn holds_back(&self, seen: &mut Vec<u8>) -> Option<Held> {
        let mut hold = self.hold_back.lock().unwrap();
        let has = |words: &str| {
            let mut parts = seen.windows(words.len());
            parts.any(|part| part == words.as_bytes())
        };
        if let Some((_, held)) = hold.take_if(|(words, _)| has(words)) {
            seen.clear();
            return Some(held);
        }
        let longest = hold.as_ref().map_or(0, |(words, _)| words.len() - 1);
        seen.drain(..seen.len().saturating_sub(longest));
        None
    }

    /// Whether this frame is to be kept back, and for whom.
    fn holds(&self, frame: &[u8]) -> Option<Held> {
        let mut hold = self.hold.lock().unwrap();
        let held = hold.take_if(|(stream, _)| is_ack(frame, stream));
        held.map(|(_, held)| held)
    }
}

/// The length of the first frame, if it is complete.
fn frame(bytes: &[u8]) -> Option<usize> {
    let line = bytes.windows(2).position(|pair| pair == b"\r\n")? + 2;
    let text = std::str::from_utf8(&bytes[..line]).ok()?;
    if !(text.starts_with("MSG ") || text.starts_with("HMSG ")) {
        return Some(line);
    }
    let payload: usize = text.trim_end().rsplit(' ').next()?.parse().ok()?;
    let length = line + payload + 2;
    (bytes.len() >= length).then_some(length)
}

/// `{"stream":"EVT-03", "seq":17}` – an answer to a publish into a stream whose name begins like this, and nothing else does.
fn is_ack(frame: &[u8], stream: &str) -> bool {
    if !frame.starts_with(b"MSG ") {
        return false;
    }
    let Some(line) = frame.windows(2).position(|pair| pair == b"\r\n") else {
        return false;
    };
    let payload = &frame[line + 2..];
    let begin = format!("{{\"stream\":\"{stream}");
    payload.starts_with(begin.as_bytes()) && payload.windows(6).any(|bytes| bytes == b"\"seq\":")
}

fn without_other_servers(frame: &[u8]) -> Vec<u8> {
    let Some(json) = frame.strip_prefix(b"INFO ") else {
        return frame.to_vec();
    };
    let Ok(mut info) = serde_json::from_slice::<serde_json::Value>(json.trim_ascii_end()) else {
        return frame.to_vec();
    };
    if let Some(fields) = info.as_object_mut() {
        fields.remove("connect_urls");
    }
    format!("INFO {info}\r\n").into_bytes()
}

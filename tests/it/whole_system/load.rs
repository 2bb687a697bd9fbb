//! Clients: careful ones that post under a key until they are answered, and others that look.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use reqwest::{Client, RequestBuilder, StatusCode};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use super::Messages;
use super::requests::{End, Requests};
use crate::guarantees::system::{System, contact, http, message, phone};

/// Who posts.
pub const USER: &str = "ana";
const CLIENTS: usize = 16;
const CONVERSATIONS_EACH: usize = 13;
const READERS: usize = 3;
/// A request must be answered within that, whatever is killed.
const PATIENCE: Duration = Duration::from_secs(120);

/// What clients were told.
#[derive(Default)]
pub struct Told {
    pub messages: Messages,
    /// Text by message.
    pub texts: BTreeMap<String, String>,
}

/// Counts that say what is going on at this moment.
#[derive(Default)]
pub struct Counts {
    /// Messages accepted.
    pub posted: AtomicUsize,
    pub posts: Requests,
    pub queries: Requests,
    /// Queries answered.
    pub answered: AtomicUsize,
    /// Somebody wants queries to be in flight: readers look without a pause.
    pub eager: AtomicBool,
    /// So many may be posted.
    allowed: AtomicUsize,
    done: AtomicBool,
}

/// All clients at work.
pub struct Load {
    pub counts: Arc<Counts>,
    clients: JoinSet<Told>,
    readers: JoinSet<()>,
}

impl Load {
    /// Starts them. They post nothing before they are [allowed](Load::allow) to.
    pub async fn start(system: &Arc<System>) -> Self {
        let counts = Arc::new(Counts::default());
        let mut clients = JoinSet::new();
        for number in 0..CLIENTS {
            let client = Posting::new(system, &counts, number).await;
            clients.spawn(client.run());
        }
        let mut readers = JoinSet::new();
        for _ in 0..READERS {
            readers.spawn(look(Arc::clone(system), Arc::clone(&counts)));
        }
        Self {
            counts,
            clients,
            readers,
        }
    }

    /// Lets them post so many more.
    pub fn allow(&self, messages: usize) {
        self.counts.allowed.fetch_add(messages, Ordering::SeqCst);
    }

    /// Lets them post until there are at least `messages`, and tells what they were told.
    pub async fn finish(mut self, messages: usize) -> Told {
        let counts = &self.counts;
        self.allow(messages.saturating_sub(counts.posted.load(Ordering::SeqCst)));
        counts.done.store(true, Ordering::SeqCst);
        let mut told = Told::default();
        while let Some(one) = self.clients.join_next().await {
            let one = one.expect("a client gave up");
            told.messages.extend(one.messages);
            told.texts.extend(one.texts);
        }
        while let Some(one) = self.readers.join_next().await {
            one.expect("a reader gave up");
        }
        told
    }
}

/// One client with conversations of its own.
struct Posting {
    system: Arc<System>,
    counts: Arc<Counts>,
    http: Client,
    token: String,
    number: usize,
    conversations: Vec<String>,
}

impl Posting {
    async fn new(system: &Arc<System>, counts: &Arc<Counts>, number: usize) -> Self {
        let mut client = Self {
            system: Arc::clone(system),
            counts: Arc::clone(counts),
            http: http(),
            token: system.token(USER),
            number,
            conversations: Vec::new(),
        };
        for i in 0..CONVERSATIONS_EACH {
            let phone = phone(number * CONVERSATIONS_EACH + i);
            let body = json!({"kind": "group", "participants": [contact(&phone)]});
            let key = format!("group-{number}-{i}");
            let (status, answer) = client.post("/v1/conversations", &key, &body).await;
            assert_eq!(status, StatusCode::CREATED, "{answer}");
            let id = answer["conversation_id"].as_str().unwrap();
            client.conversations.push(id.to_owned());
        }
        client
    }

    /// In each conversation one message after the other: only so is there an order to be kept.
    async fn run(self) -> Told {
        let (mut told, counts) = (Told::default(), Arc::clone(&self.counts));
        for number in 0.. {
            while !take(&counts.allowed) {
                if counts.done.load(Ordering::SeqCst) {
                    return told;
                }
                sleep(Duration::from_millis(2)).await;
            }
            let conversation = &self.conversations[number % self.conversations.len()];
            let text = format!("message {number} of client {}", self.number);
            let (body, key) = (
                message(conversation, &text),
                format!("{}-{number}", self.number),
            );
            let (status, answer) = self.post("/v1/messages", &key, &body).await;
            assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
            counts.posted.fetch_add(1, Ordering::SeqCst);
            let id = answer["message_id"].as_str().unwrap().to_owned();
            let of = told.messages.entry(conversation.clone()).or_default();
            of.push(id.clone());
            told.texts.insert(id, text);
        }
        told
    }

    /// "Not now", "nobody knows" and no answer are reasons to ask again under the same key.
    async fn post(&self, path: &str, key: &str, body: &Value) -> (StatusCode, Value) {
        let url = format!("{}{path}", self.system.env["CHAT4ALL_URL"]);
        let deadline = Instant::now() + PATIENCE;
        loop {
            let request = self.http.post(&url).bearer_auth(&self.token);
            let request = request.header("Idempotency-Key", key).json(body);
            match answered(request, &self.counts.posts).await {
                Ok((status, body)) if !status.is_server_error() => return (status, body),
                seen => assert!(
                    Instant::now() < deadline,
                    "{path} is not answered: {seen:?}"
                ),
            }
            sleep(Duration::from_millis(20)).await;
        }
    }
}

fn take(allowed: &AtomicUsize) -> bool {
    let less = |allowed: usize| allowed.checked_sub(1);
    allowed
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, less)
        .is_ok()
}

/// Looks at the conversations until the load is done. What is answered is right, or "not now".
async fn look(system: Arc<System>, counts: Arc<Counts>) {
    let (http, token) = (http(), system.token(USER));
    let url = format!(
        "{}/v1/conversations?first=20",
        system.env["CHAT4ALL_QUERY_URL"]
    );
    while !counts.done.load(Ordering::SeqCst) {
        let request = http.get(&url).bearer_auth(&token);
        match answered(request, &counts.queries).await {
            Ok((StatusCode::OK, _)) => {
                counts.answered.fetch_add(1, Ordering::SeqCst);
            }
            Ok((status, body)) => assert!(status.is_server_error(), "{status} {body}"),
            Err(_) => {}
        }
        if !counts.eager.load(Ordering::SeqCst) {
            sleep(Duration::from_millis(100)).await;
        }
    }
}

/// The answer, noted in `requests`.
async fn answered(
    request: RequestBuilder,
    requests: &Requests,
) -> Result<(StatusCode, Value), reqwest::Error> {
    let number = requests.begin();
    let whole = async {
        let response = request.send().await?;
        Ok((response.status(), response.json().await?))
    };
    let answer: Result<_, reqwest::Error> = whole.await;
    requests.end(number, End::of(&answer));
    answer
}

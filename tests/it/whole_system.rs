//! The whole system, every role a process of its own, while each of them and the broker are killed with -9: what clients
//! were told (202), what is on the log and what is shown are the same messages, in the same order.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use chat4all_cli::embedded::temp_dir;
use chat4all_domain::message;
use chat4all_nats::Change;
use fastrand::Rng;
use reqwest::{Client, StatusCode};
use rustix::process::Signal;
use serde_json::{Value, json};
use sqlx::{Connection as _, PgConnection};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::support::up::{Up, send};
use crate::support::{log, seed};

const CLIENTS: usize = 16;
const CONVERSATIONS_EACH: usize = 13;
const MESSAGES: usize = 5_000;
const KILLS_EACH: usize = 5;
const VICTIMS: [&str; 4] = ["command-api", "projector", "query-api", "nats-server"];

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_was_accepted_is_on_the_log_and_shown_whatever_is_killed() {
    let seed = seed("whole system");
    let dir = temp_dir().unwrap();
    let mut command = Up::command(dir.path());
    command.arg("--split");
    let up = Up::start(dir.path(), command);
    let env = up.variables();
    let api = Api::new(&env);

    let posted = Arc::new(AtomicUsize::new(0));
    let in_flight = Arc::new(AtomicUsize::new(0));
    let mut clients = JoinSet::new();
    for client in 0..CLIENTS {
        let (api, posted, in_flight) = (api.clone(), Arc::clone(&posted), Arc::clone(&in_flight));
        clients.spawn(async move { api.post_all(client, &posted, &in_flight).await });
    }

    let done = Arc::new(AtomicBool::new(false));
    let killer = kill(&up, seed, &posted, &in_flight, &done);
    let collect = async {
        let mut accepted: Accepted = BTreeMap::new();
        while let Some(one) = clients.join_next().await {
            accepted.extend(one.expect("a client gave up"));
        }
        done.store(true, Ordering::SeqCst);
        accepted
    };
    let (hits, accepted) = tokio::join!(killer, collect);
    println!("kills with requests in flight: {hits:?}");
    for (victim, hits) in &hits {
        assert!(
            *hits >= KILLS_EACH,
            "{victim} was killed only {hits} times with requests in flight"
        );
    }

    let told: usize = accepted.values().map(Vec::len).sum();
    let on_log = on_the_log(&env).await;
    let shown = shown(&env, told).await;
    println!(
        "{told} accepted, {} on the log, {} shown",
        total(&on_log),
        total(&shown)
    );
    assert!(
        told >= MESSAGES && accepted.len() >= 200,
        "{told} in {} conversations",
        accepted.len()
    );
    compare("the log", &accepted, &on_log);
    compare("the read models", &accepted, &shown);

    // And the public API shows the same, page by page.
    let (conversation, expected) = accepted.iter().next().unwrap();
    assert_eq!(&api.messages_of(conversation).await, expected);
}

type Accepted = BTreeMap<String, Vec<String>>;

fn total(messages: &Accepted) -> usize {
    messages.values().map(Vec::len).sum()
}

/// Missing, extra and order are three questions.
fn compare(place: &str, told: &Accepted, found: &Accepted) {
    let ids = |all: &Accepted| all.values().flatten().cloned().collect::<BTreeSet<_>>();
    let (told_ids, found_ids) = (ids(told), ids(found));
    assert_eq!(total(found), found_ids.len(), "{place} has a message twice");
    let missing: Vec<_> = told_ids.difference(&found_ids).collect();
    assert!(missing.is_empty(), "{place} misses {missing:?}");
    let extra: Vec<_> = found_ids.difference(&told_ids).collect();
    assert!(
        extra.is_empty(),
        "{place} has {extra:?}, which nobody was told of"
    );
    for (conversation, order) in told {
        assert_eq!(
            found.get(conversation),
            Some(order),
            "{place}: the order in {conversation}"
        );
    }
}

/// Kills one role or the broker after the other, each at least [`KILLS_EACH`] times while requests are in flight. `up`
/// starts them again.
async fn kill(
    up: &Up,
    seed: u64,
    posted: &AtomicUsize,
    in_flight: &AtomicUsize,
    done: &AtomicBool,
) -> BTreeMap<&'static str, usize> {
    let mut rng = Rng::with_seed(seed);
    let mut hits: BTreeMap<_, _> = VICTIMS.into_iter().map(|victim| (victim, 0)).collect();
    let kills = VICTIMS.len() * KILLS_EACH;
    let mut killed = 0;
    while !done.load(Ordering::SeqCst) {
        // Spread over the whole load: each kill when its share of the messages has been accepted.
        if posted.load(Ordering::SeqCst) < MESSAGES * killed / (kills + 2) || killed >= kills + 2 {
            sleep(Duration::from_millis(5)).await;
            continue;
        }
        sleep(Duration::from_millis(rng.u64(0..60))).await;
        let victim = VICTIMS[killed % VICTIMS.len()];
        let Some(pid) = up.process(victim) else {
            sleep(Duration::from_millis(20)).await;
            continue;
        };
        if in_flight.load(Ordering::SeqCst) == 0 {
            continue;
        }
        send(pid, Signal::KILL);
        killed += 1;
        *hits.entry(victim).or_default() += 1;
    }
    hits
}

/// The public API, as a careful client uses it: every request is repeated until it is answered.
#[derive(Clone)]
struct Api {
    client: Client,
    commands: String,
    queries: String,
    token: String,
}

impl Api {
    fn new(env: &BTreeMap<String, String>) -> Self {
        let client = Client::builder()
            .no_proxy()
            .timeout(Duration::from_secs(20))
            .build()
            .unwrap();
        let of = |name: &str| env[name].clone();
        let (commands, queries) = (of("CHAT4ALL_URL"), of("CHAT4ALL_QUERY_URL"));
        Self {
            client,
            commands,
            queries,
            token: of("CHAT4ALL_TOKEN"),
        }
    }

    /// This client's conversations, and in each its messages one after the other; what was accepted, in that order.
    async fn post_all(
        self,
        client: usize,
        posted: &AtomicUsize,
        in_flight: &AtomicUsize,
    ) -> Accepted {
        let mut conversations = Vec::new();
        for number in 0..CONVERSATIONS_EACH {
            let key = format!("group-{client}-{number}");
            let friend = uuid::Uuid::from_u128((client * 100 + number + 1) as u128);
            let body = json!({"kind": "group", "participants": [{"user_id": friend.to_string()}]});
            let (status, answer) = self.post("/v1/conversations", &key, &body).await;
            assert_eq!(status, StatusCode::CREATED, "{answer}");
            conversations.push(answer["conversation_id"].as_str().unwrap().to_owned());
        }
        let mut accepted = Accepted::new();
        for number in 0..MESSAGES.div_ceil(CLIENTS) {
            let conversation = &conversations[number % conversations.len()];
            let text = format!("message {number} of client {client}");
            let body =
                json!({"conversation_id": conversation, "content": {"type": "text", "text": text}});
            in_flight.fetch_add(1, Ordering::SeqCst);
            let (status, answer) = self
                .post("/v1/messages", &format!("key-{client}-{number}"), &body)
                .await;
            in_flight.fetch_sub(1, Ordering::SeqCst);
            assert_eq!(status, StatusCode::ACCEPTED, "{answer}");
            posted.fetch_add(1, Ordering::SeqCst);
            let message = answer["message_id"].as_str().unwrap().to_owned();
            accepted
                .entry(conversation.clone())
                .or_default()
                .push(message);
        }
        accepted
    }

    async fn post(&self, path: &str, key: &str, body: &Value) -> (StatusCode, Value) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let request = self
                .client
                .post(format!("{}{path}", self.commands))
                .bearer_auth(&self.token);
            let seen = match request
                .header("Idempotency-Key", key)
                .json(body)
                .send()
                .await
            {
                // "Not now" and "nobody knows" are reasons to ask again under the same key.
                Ok(answer) if answer.status().is_server_error() => answer.status().to_string(),
                Ok(answer) => {
                    let status = answer.status();
                    match answer.json().await {
                        Ok(body) => return (status, body),
                        Err(error) => error.to_string(),
                    }
                }
                Err(error) => error.to_string(),
            };
            assert!(Instant::now() < deadline, "{path} is not answered: {seen}");
            sleep(Duration::from_millis(20)).await;
        }
    }

    async fn messages_of(&self, conversation: &str) -> Vec<String> {
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let request = self
                .client
                .get(format!(
                    "{}/v1/conversations/{conversation}/messages",
                    self.queries
                ))
                .query(&[("first", "7")])
                .query(
                    &after
                        .iter()
                        .map(|after| ("after", after))
                        .collect::<Vec<_>>(),
                )
                .bearer_auth(&self.token);
            let page: Value = request.send().await.unwrap().json().await.unwrap();
            let messages = page["messages"].as_array();
            let messages = messages.unwrap_or_else(|| panic!("no page: {page}"));
            all.extend(
                messages
                    .iter()
                    .map(|message| message["message_id"].as_str().unwrap().to_owned()),
            );
            let info = &page["page_info"];
            if info["has_next_page"] != true {
                return all;
            }
            after = info["end_cursor"].as_str().map(str::to_owned);
        }
    }
}

/// Every accepted message, by reading the streams message by message.
async fn on_the_log(env: &BTreeMap<String, String>) -> Accepted {
    let mut layout = log::layout(1);
    layout.max_bytes = 0;
    let log = log::opened(&env["CHAT4ALL_NATS__URL"], "checker", &layout).await;
    let mut found = Accepted::new();
    for partition in log.partitions().all() {
        let last = log
            .stream(partition)
            .get_info()
            .await
            .unwrap()
            .state
            .last_sequence;
        for sequence in 1..=last {
            let stored = log
                .stream(partition)
                .get_raw_message(sequence)
                .await
                .unwrap();
            let change = Change::read(&stored.subject, sequence, &stored.payload).unwrap();
            if let Change::Message(
                message::Id {
                    conversation,
                    message,
                },
                _,
            ) = change
            {
                found
                    .entry(conversation.to_string())
                    .or_default()
                    .push(message.to_string());
            }
        }
    }
    found.retain(|_, messages| !is_the_first_message(messages));
    found
}

/// What `up` itself sends when it starts is alone in its conversation.
fn is_the_first_message(messages: &[String]) -> bool {
    messages.len() == 1
}

/// The rows, once there are as many as were accepted.
async fn shown(env: &BTreeMap<String, String>, told: usize) -> Accepted {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let mut connection = PgConnection::connect(&env["CHAT4ALL_POSTGRES__URL"])
            .await
            .unwrap();
        let rows: Vec<(uuid::Uuid, uuid::Uuid)> = sqlx::query_as(
            "select conversation_id, message_id from chat4all.messages order by conversation_id, sequence",
        )
        .fetch_all(&mut connection)
        .await
        .unwrap();
        let mut found = Accepted::new();
        for (conversation, message) in rows {
            found
                .entry(conversation.to_string())
                .or_default()
                .push(message.to_string());
        }
        found.retain(|_, messages| !is_the_first_message(messages));
        if total(&found) >= told {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "{} of {told} are shown after a minute",
            total(&found)
        );
        sleep(Duration::from_millis(100)).await;
    }
}

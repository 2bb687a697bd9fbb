//! **Receive**: a customer writes; the provider's signed webhook becomes an identity, a conversation and a message, which
//! is shown as it was written, once and in order, and can be answered.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use chat4all_service::auth::Scope;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::system::{PHONE_NUMBER_ID, Stored, System, contact, text};
use super::{Messages, compare, until};

const ANNA: &str = "4915100000001";
const BERT: &str = "4915100000002";
const CARL: &str = "4915100000003";

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_strangers_write_is_shown_as_it_was_written_and_can_be_answered() {
    strangers(&System::start()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn with_a_process_for_each_role_strangers_are_heard_and_answered_too() {
    strangers(&System::split()).await;
}

/// Texts that something on the way might want to improve. U+0000 alone is replaced: Postgres cannot carry it.
fn texts() -> Vec<String> {
    let odd = [
        "Hallo?",
        "  spaces around, and a tab\t ",
        "two\nlines,\r\nand a third\n",
        "👩‍👩‍👧‍👦 \u{e9} e\u{301} ﷽ \u{202e}backwards\u{202c} \u{200b}\u{feff}",
        r#""quoted" \ \u0041 </script> %s {{x}} '; drop table messages; --"#,
        "\u{1}\u{7f}\u{fffd}\u{10ffff}",
        "a nul: \0!",
    ];
    let long = "ä".repeat(4_096);
    odd.into_iter().map(str::to_owned).chain([long]).collect()
}

async fn strangers(system: &System) {
    let (everything, numbers) = (system.full("dora"), [ANNA.to_owned(), BERT.to_owned()]);
    let path = format!("phones/{ANNA}");
    system
        .control(Method::PATCH, &path, json!({"name": "Анна"}))
        .await;
    // By turns.
    let mut written = Messages::new();
    for text in texts() {
        for number in &numbers {
            system.write_in(number, &text, None).await;
            written
                .entry(number.clone())
                .or_default()
                .push(text.replace('\0', "\u{fffd}"));
        }
    }
    let all: usize = written.values().map(Vec::len).sum();
    let shown = until(
        "what strangers wrote is shown",
        async || system.written_by(&everything, &numbers).await,
        |shown| shown.values().map(Vec::len).sum::<usize>() >= all,
    )
    .await;
    compare("GraphQL", &written, &shown);

    let conversation = direct_with(system, &everything, ANNA).await;
    for message in system.messages(&everything, &conversation).await {
        assert_eq!(message["origin"], "CHANNEL", "{message}");
        assert_eq!(message["channel"], "whatsapp-main", "{message}");
        assert_eq!(message["status"], Value::Null, "it goes to nobody outside");
        let author = &message["author"];
        assert_eq!(author["address"], ANNA);
        assert_eq!(author["identity"], json!({"address": ANNA, "name": "Анна"}));
    }
    closed_to_others(system, &conversation).await;
    answered(system, &conversation).await;
}

/// Without the scope to read everything, a stranger's conversation does not exist.
async fn closed_to_others(system: &System, conversation: &str) {
    let eve = system.token("eve", &[Scope::ConversationsRead]);
    assert_eq!(
        system.conversations(&eve).await,
        Vec::<Value>::new(),
        "eve is in no conversation"
    );
    let path = format!("/v1/conversations/{conversation}");
    assert_eq!(system.rest(&eve, &path).await.status, 404);
}

/// A user's answer reaches the phone; from then on both are in one conversation.
async fn answered(system: &System, conversation: &str) {
    let scopes = [Scope::ConversationsRead, Scope::MessagesWrite];
    let fred = system.token("fred", &scopes);
    let answer = json!({"to": contact(ANNA), "content": {"type": "text", "text": "Hello Anna"}});
    let first = system.posted(&fred, "/v1/messages", &answer, 202).await;
    assert_eq!(first["conversation_id"], conversation);
    let more = text(conversation, "How can I help?");
    system.posted(&fred, "/v1/messages", &more, 202).await;
    let received = until(
        "Anna's phone shows both answers",
        async || system.phone(ANNA).await,
        |phone| phone.iter().filter(|one| to_customer(one)).count() >= 2,
    )
    .await;
    let received: Vec<_> = received.iter().filter(|one| to_customer(one)).collect();
    let received: Vec<_> = received.iter().map(|one| one["text"].clone()).collect();
    assert_eq!(received, ["Hello Anna", "How can I help?"]);

    system.write_in(ANNA, "Thanks!", None).await;
    let seen = until(
        "fred sees the conversation since he is in it, all read",
        async || system.messages(&fred, conversation).await,
        |seen| {
            let read = seen.iter().filter(|message| message["status"] == "READ");
            seen.len() >= 3 && read.count() == 2
        },
    )
    .await;
    let seen: Vec<_> = seen.iter().map(|one| &one["content"]["text"]).collect();
    assert_eq!(seen, ["Hello Anna", "How can I help?", "Thanks!"]);
}

fn to_customer(message: &Value) -> bool {
    message["direction"] == "to_customer"
}

/// The direct conversation with a number.
async fn direct_with(system: &System, token: &str, number: &str) -> String {
    let all = system.conversations(token).await;
    let mut found = all.iter().filter(|conversation| {
        let participants = conversation["participants"].as_array().unwrap();
        conversation["kind"] == "DIRECT" && participants.iter().any(|one| one["address"] == number)
    });
    let only = found.next().unwrap();
    assert!(found.next().is_none(), "two conversations with {number}");
    only["conversationId"].as_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_reply_lands_in_the_conversation_that_we_started() {
    let system = System::start();
    let gina = system.full("gina");
    // Somebody to whom we wrote first answers there.
    let hello = json!({"to": contact(BERT), "content": {"type": "text", "text": "Hello Bert"}});
    let direct = system.posted(&gina, "/v1/messages", &hello, 202).await;
    let direct = direct["conversation_id"].as_str().unwrap();
    arrived(&system, BERT, "Hello Bert").await;
    system.write_in(BERT, "Who is this?", None).await;
    lands(&system, &gina, direct, &["Hello Bert", "Who is this?"]).await;

    // What quotes a message lands beside it; what quotes nothing in the direct conversation.
    let group = system.group(&gina, &[BERT, CARL]).await;
    let question = text(&group, "When can we meet?");
    system.posted(&gina, "/v1/messages", &question, 202).await;
    let quoted = arrived(&system, BERT, "When can we meet?").await;
    system.write_in(BERT, "At noon", Some(&quoted)).await;
    lands(&system, &gina, &group, &["When can we meet?", "At noon"]).await;
    system.write_in(BERT, "By the way", None).await;
    let all = ["Hello Bert", "Who is this?", "By the way"];
    lands(&system, &gina, direct, &all).await;
    // The others in the group hear of the reply, too.
    arrived(&system, CARL, "At noon").await;
    let own = system.phone(BERT).await;
    let echoed = |one: &Value| to_customer(one) && one["text"] == "At noon";
    assert!(!own.iter().any(echoed), "nobody gets their own message");

    // A stranger cannot quote themselves into a conversation.
    const DAVE: &str = "4915100000004";
    system.write_in(DAVE, "let me in", Some(&quoted)).await;
    let (numbers, expected) = ([DAVE.to_owned()], vec!["let me in".to_owned()]);
    until(
        "the stranger's message is shown",
        async || system.written_by(&gina, &numbers).await,
        |shown| shown.get(DAVE) == Some(&expected),
    )
    .await;
    lands(&system, &gina, &group, &["When can we meet?", "At noon"]).await;
}

/// Waits until a phone has this text; the provider's id of the message.
async fn arrived(system: &System, number: &str, text: &str) -> String {
    let is_it = |one: &&Value| to_customer(one) && one["text"] == text;
    let phone = until(
        "a message arrives",
        async || system.phone(number).await,
        |phone| phone.iter().any(|one| is_it(&one)),
    )
    .await;
    let message = phone.iter().find(is_it).unwrap();
    message["id"].as_str().unwrap().to_owned()
}

/// Waits until a conversation has as many messages, which then are these.
async fn lands(system: &System, token: &str, conversation: &str, expected: &[&str]) {
    let seen = until(
        "a reply lands in its conversation",
        async || system.messages(token, conversation).await,
        |seen| seen.len() >= expected.len(),
    )
    .await;
    let seen: Vec<_> = seen.iter().map(|one| &one["content"]["text"]).collect();
    assert_eq!(seen, expected);
}

/// Between provider and bridges: hands every call on, and loses the answer to the first of each.
struct Loses {
    http: reqwest::Client,
    to: String,
    seen: Mutex<BTreeSet<Bytes>>,
}

impl Loses {
    async fn start(servers: &mut JoinSet<std::io::Result<()>>, to: String) -> String {
        let http = reqwest::Client::builder().no_proxy().build().unwrap();
        let seen = Mutex::default();
        let losing = Arc::new(Self { http, to, seen });
        let routes = Router::new().fallback(Self::hand_on).with_state(losing);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        servers.spawn(async move { axum::serve(listener, routes).await });
        url
    }

    async fn hand_on(
        State(this): State<Arc<Self>>,
        method: Method,
        uri: Uri,
        headers: HeaderMap,
        body: Bytes,
    ) -> (StatusCode, Bytes) {
        let url = format!("{}{uri}", this.to);
        let mut request = this.http.request(method.clone(), url).body(body.clone());
        for name in ["content-type", "x-hub-signature-256"] {
            if let Some(value) = headers.get(name) {
                request = request.header(name, value);
            }
        }
        let answer = request.send().await.unwrap();
        let (status, text) = (answer.status(), answer.bytes().await.unwrap());
        let first = method == Method::POST && this.seen.lock().unwrap().insert(body);
        if first && status == 200 {
            return (StatusCode::BAD_GATEWAY, Bytes::new());
        }
        (status, text)
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_webhook_that_the_provider_repeats_is_one_message() {
    let (system, mut servers) = (System::start(), JoinSet::new());
    let loses = Loses::start(&mut servers, system.commands().to_owned()).await;
    let account = format!("accounts/{PHONE_NUMBER_ID}");
    let hook = json!({"webhook_url": format!("{loses}/webhooks/whatsapp/whatsapp-main")});
    system.control(Method::PATCH, &account, hook).await;
    quick_repeats(&system).await;

    let mut ids = Vec::new();
    for number in 0..5 {
        ids.push(
            system
                .write_in(ANNA, &format!("message {number}"), None)
                .await,
        );
        told_of_all(&system, ids.len()).await;
    }
    let calls = calls_with(&system.inbound().await);
    for id in &ids {
        assert_eq!(calls[id], 2, "the provider told us of each message twice");
    }
    // What comes last from the same sender is dealt with last.
    ids.push(system.write_in(ANNA, "the last", None).await);
    let log = until(
        "the last message is on the log",
        async || provider_ids(&system.log().await),
        |log| log.contains(ids.last().unwrap()),
    )
    .await;
    assert_eq!(log, ids);
    let expected: Vec<_> = (0..5).map(|number| format!("message {number}")).collect();
    let expected = expected.into_iter().chain(["the last".to_owned()]);
    let expected = Messages::from([(ANNA.to_owned(), expected.collect())]);
    let (token, numbers) = (system.full("dora"), [ANNA.to_owned()]);
    let shown = until(
        "everything is shown",
        async || system.written_by(&token, &numbers).await,
        |shown| shown.values().map(Vec::len).sum::<usize>() >= ids.len(),
    )
    .await;
    compare("GraphQL", &expected, &shown);
}

pub async fn quick_repeats(system: &System) {
    let quick = json!({"retry_first_ms": 100, "retry_max_ms": 500});
    system.control(Method::PATCH, "settings", quick).await;
}

/// Waits until the provider has a 200 for every message of the customers.
pub async fn told_of_all(system: &System, count: usize) {
    until(
        "a 200 for every message",
        async || got_200(system).await.len(),
        |told| *told >= count,
    )
    .await;
}

/// The provider's ids of the messages that it has got a 200 for.
pub async fn got_200(system: &System) -> BTreeSet<String> {
    let told = system.told_of().await;
    let taken = told.iter().filter(|item| item["state"] == "delivered");
    taken
        .map(|item| item["message_id"].as_str().unwrap().to_owned())
        .collect()
}

/// The provider's ids of the messages in a stored webhook call, with their senders.
pub fn messages_in(call: &Stored) -> Vec<(String, String)> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let entries = list(&call.body["entry"]);
    let changes = entries.iter().flat_map(|entry| list(&entry["changes"]));
    let messages = changes.flat_map(|change| list(&change["value"]["messages"]));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    messages
        .map(|message| (text(&message["id"]), text(&message["from"])))
        .collect()
}

/// In how many stored calls each message is.
pub fn calls_with(inbound: &[Stored]) -> BTreeMap<String, usize> {
    let mut calls = BTreeMap::new();
    for (id, _) in inbound.iter().flat_map(messages_in) {
        *calls.entry(id).or_default() += 1;
    }
    calls
}

/// The provider's ids of the messages on the log that came through a channel.
pub fn provider_ids(log: &[Stored]) -> Vec<String> {
    let accepted = log
        .iter()
        .filter_map(|stored| stored.first("MessageAccepted"));
    accepted
        .filter_map(|(_, personal)| personal["provider_id"].as_str().map(str::to_owned))
        .collect()
}

//! Receipts come when they like: before the call they are for is answered, in any order, twice. Each message ends READ with
//! its three times, and what is no news is not written down.

use std::collections::BTreeMap;

use chat4all_domain::Timestamp;
use chat4all_domain::delivery::Event;
use chat4all_nats::Change;
use fastrand::Rng;
use futures::StreamExt;
use futures::stream;
use hmac::{Hmac, KeyInit, Mac};
use reqwest::StatusCode;
use serde_json::{Value, json};

use super::system::{Call, System, http, log_of, phone, until};
use crate::support::log;
use crate::support::seed;

const STEPS: [&str; 3] = ["sent", "delivered", "read"];
/// A delivery's times, as they are shown.
const TIMES: [&str; 3] = ["sent_at", "delivered_at", "read_at"];

#[tokio::test(flavor = "multi_thread")]
async fn receipts_before_the_calls_answer_end_in_read_with_every_time() {
    let system = System::start().await;
    let group = system.group("ana", &[phone(0)]).await;
    // The provider answers the call only when its webhooks for it have been taken.
    let early = json!({"fault": {"kind": "early_receipts", "steps": STEPS}});
    system.fault(early).await;
    let accepted = system.say("ana", &group, "early").await;
    let shown = system.read("ana", &accepted).await;
    let delivery = &shown["deliveries"][0];
    assert_eq!(delivery["attempts"], 1);
    for time in TIMES {
        assert!(delivery[time].is_string(), "no {time}: {delivery}");
    }
    // What comes later in the lane proves that the call's own answer was dealt with, and was no news.
    let later = system.say("ana", &group, "later").await;
    system.read("ana", &later).await;
    assert_eq!(system.taken().await.len(), 2);
    let once = ["Attempted", "Sent", "Delivered", "Read"];
    for (message, events) in on_the_log(&system, &group).await {
        assert_eq!(events, once, "{message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn receipts_that_say_nothing_of_us_and_come_before_the_calls_answer_are_kept_until_it_is_there()
 {
    let system = System::start().await;
    let group = system.group("ana", &[phone(0)]).await;
    system.fault(silence()).await;
    let slow = json!({"count": 1, "fault": {"kind": "latency", "ms": 8_000}});
    system.fault(slow).await;
    let accepted = system.say("ana", &group, "slowly answered").await;
    let calls = until(|| system.taken(), |calls| calls.len() == 1).await;
    let told: Vec<_> = [2, 0, 1].map(|step| Receipt::of(&calls[0], 0, step)).into();
    assert_eq!(told_of(&system, &told, true).await, StatusCode::OK);
    // Put aside, and only what nobody knows is: the call has not been answered yet.
    let all = told.len() as u64;
    until(|| parked(&system), |parked| *parked == all).await;

    let shown = system.read("ana", &accepted).await;
    let delivery = &shown["deliveries"][0];
    assert!(delivery["sent_at"].is_string(), "{delivery}");
    for step in [1, 2] {
        let at = Receipt::of(&calls[0], 0, step).at;
        assert_eq!(delivery[TIMES[step]], at.to_string());
    }
    until(|| parked(&system), |parked| *parked == 0).await;
    let log = on_the_log(&system, &group).await;
    let events: Vec<_> = log.into_values().flatten().collect();
    assert_eq!(events, ["Attempted", "Sent", "Read", "Delivered"]);
    assert_eq!(system.taken().await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_shuffled_and_doubled_receipts_end_in_read_with_three_times() {
    const CONVERSATIONS: usize = 17;
    const MESSAGES_EACH: usize = 10;
    let mut rng = Rng::with_seed(seed("a thousand receipts"));
    let system = System::start().await;
    system.fault(silence()).await;
    let mut accepted = Vec::new();
    for i in 0..CONVERSATIONS {
        let group = system.group("ana", &[phone(i)]).await;
        for number in 0..MESSAGES_EACH {
            accepted.push(system.say("ana", &group, &format!("{i}-{number}")).await);
        }
    }
    let all = accepted.len();
    let calls = until(|| system.taken(), |calls| calls.len() == all).await;

    // Each step of each call, with a second of its own, twice.
    let steps =
        (0..STEPS.len()).flat_map(|step| calls.iter().enumerate().map(move |call| (call, step)));
    let once: Vec<_> = steps
        .map(|((i, call), step)| Receipt::of(call, i, step))
        .collect();
    let mut receipts = [once.clone(), once.clone()].concat();
    assert!(receipts.len() >= 1_000);
    rng.shuffle(&mut receipts);
    let mut hooks = Vec::new();
    while !receipts.is_empty() {
        let rest = receipts.split_off(receipts.len().min(rng.usize(1..=8)));
        hooks.push(std::mem::replace(&mut receipts, rest));
    }
    // A forger is not heard.
    let forged = told_of(&system, &once[..1], false).await;
    assert_eq!(forged, StatusCode::UNAUTHORIZED);
    let answers = stream::iter(&hooks).map(|hook| told_of(&system, hook, true));
    let answers: Vec<_> = answers.buffer_unordered(8).collect().await;
    assert!(answers.iter().all(|status| *status == StatusCode::OK));

    let times: BTreeMap<_, _> = once
        .iter()
        .map(|receipt| ((receipt.message.as_str(), receipt.step), receipt.at))
        .collect();
    for one in &accepted {
        let shown = system.read("ana", one).await;
        let (message, delivery) = (one.text("message_id"), &shown["deliveries"][0]);
        assert!(delivery["sent_at"].is_string(), "{delivery}");
        for step in [1, 2] {
            let at = times[&(message.as_str(), step)];
            assert_eq!(delivery[TIMES[step]], at.to_string(), "{message}");
        }
        assert_eq!(delivery["attempts"], 1);
    }
    // Only when every webhook has been understood can it be said that nothing was written twice.
    until(|| not_understood(&system), |left| *left == 0).await;
    let log = log_of(&system.env).await;
    let mut events = BTreeMap::<_, BTreeMap<_, usize>>::new();
    for (message, name) in named(log) {
        *events.entry(message).or_default().entry(name).or_default() += 1;
    }
    let four = ["Attempted", "Delivered", "Read", "Sent"].map(|name| (name, 1));
    for one in &accepted {
        let seen = &events[&one.text("message_id")];
        assert_eq!(seen, &BTreeMap::from(four));
    }
    assert_eq!(system.taken().await.len(), all, "nothing was sent twice");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_provider_itself_shuffles_and_doubles_ends_in_read_with_three_times() {
    let system = System::start().await;
    for fault in [
        json!({"kind": "shuffled_receipts"}),
        json!({"kind": "duplicate_receipts", "copies": 2}),
    ] {
        system.fault(json!({"fault": fault})).await;
    }
    let phones: Vec<_> = (0..120).map(phone).collect();
    let group = system.group("ana", &phones).await;
    let accepted = system.say("ana", &group, "hello").await;
    let shown = system.read("ana", &accepted).await;
    for delivery in shown["deliveries"].as_array().unwrap() {
        for time in TIMES {
            assert!(delivery[time].is_string(), "no {time}: {delivery}");
        }
    }
    // Three steps, three times each, for each of them.
    let stats = || system.simulator(reqwest::Method::GET, "stats", None);
    let told = |stats: &Value| {
        let webhooks = &stats["webhooks"];
        webhooks["pending"] == 0 && webhooks["delivered"].as_u64() >= Some(120 * 9)
    };
    until(stats, told).await;
    until(|| not_understood(&system), |left| *left == 0).await;
    let log = on_the_log(&system, &group).await;
    let mut events: Vec<_> = log.into_values().flatten().collect();
    events.sort_unstable();
    let expected = ["Attempted", "Delivered", "Read", "Sent"].map(|name| [name; 120]);
    assert_eq!(events, expected.concat());
}

/// No receipts but those that the test sends.
fn silence() -> Value {
    json!({"fault": {"kind": "missing_receipts", "steps": STEPS}})
}

/// What the provider could tell about one of its messages.
#[derive(Clone, Debug)]
struct Receipt {
    provider_id: String,
    to: String,
    /// Our message; the provider does not know.
    message: String,
    step: usize,
    at: Timestamp,
}

impl Receipt {
    /// Step `step` of call number `i`, at a second that no other receipt has.
    fn of(call: &Call, i: usize, step: usize) -> Self {
        let second = 1_790_000_000 + i64::try_from(i * STEPS.len() + step).unwrap();
        Self {
            provider_id: call.provider_id.clone(),
            to: call.to.clone(),
            message: call.reference.split('.').nth(1).unwrap().to_owned(),
            step,
            at: Timestamp::from_unix_ms(second * 1_000),
        }
    }
    fn status(&self) -> Value {
        json!({
            "id": self.provider_id,
            "status": STEPS[self.step],
            "timestamp": (self.at.unix_ms() / 1_000).to_string(),
            "recipient_id": self.to,
        })
    }
}

/// One webhook call with these receipts, signed as the provider signs, or not quite.
async fn told_of(system: &System, receipts: &[Receipt], rightly: bool) -> StatusCode {
    let env = &system.env;
    let id = &env["CHAT4ALL_CHANNELS__WHATSAPP_MAIN__PHONE_NUMBER_ID"];
    let statuses: Vec<_> = receipts.iter().map(Receipt::status).collect();
    let value = json!({
        "messaging_product": "whatsapp",
        "metadata": {"display_phone_number": "4930123456", "phone_number_id": id},
        "statuses": statuses,
    });
    let changes = [json!({"field": "messages", "value": value})];
    let entry = [json!({"id": "100000000000002", "changes": changes})];
    let body = json!({"object": "whatsapp_business_account", "entry": entry}).to_string();
    let secret = match rightly {
        true => env["CHAT4ALL_CHANNELS__WHATSAPP_MAIN__APP_SECRET"].as_str(),
        false => "somebody else's secret",
    };
    let mut mac = Hmac::<sha2::Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    let digest = mac.finalize().into_bytes();
    let hex: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    // One process does everything: the provider calls where commands are posted.
    let url = format!("{}/webhooks/whatsapp/whatsapp-main", env["CHAT4ALL_URL"]);
    let request = http().post(url).body(body);
    let signature = format!("sha256={hex}");
    let answer = request
        .header("X-Hub-Signature-256", signature)
        .send()
        .await;
    answer.unwrap().status()
}

/// The names of the events of the conversation's deliveries, by message, in their order.
async fn on_the_log(system: &System, group: &str) -> BTreeMap<String, Vec<&'static str>> {
    let mut log = log_of(&system.env).await;
    log.retain(|logged| {
        matches!(&logged.change, Change::Delivery(id, _) if id.conversation.to_string() == group)
    });
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for (message, name) in named(log) {
        found.entry(message).or_default().push(name);
    }
    found
}

/// Message and name of every event of a delivery.
fn named(log: Vec<super::system::Logged>) -> Vec<(String, &'static str)> {
    let mut found = Vec::new();
    for logged in log {
        if let Change::Delivery(id, events) = logged.change {
            let names = events.iter().map(|recorded| name(&recorded.event));
            found.extend(names.map(|name| (id.message.to_string(), name)));
        }
    }
    found
}

fn name(event: &Event) -> &'static str {
    match event {
        Event::Attempted { .. } => "Attempted",
        Event::Sent { .. } => "Sent",
        Event::Delivered { .. } => "Delivered",
        Event::Read { .. } => "Read",
        Event::Failed { .. } => "Failed",
        Event::Deferred { .. } => "Deferred",
        Event::Redriven { .. } => "Redriven",
    }
}

/// Receipts that were put aside.
async fn parked(system: &System) -> u64 {
    stream_state(system, "PARKED").await.messages
}

/// Webhook calls that are stored and not wholly dealt with, by the mark that the owner leaves.
async fn not_understood(system: &System) -> u64 {
    let stored = stream_state(system, "INBOUND").await.last_sequence;
    let jetstream = jetstream(system).await;
    let lanes = jetstream.get_stream_no_info("KV_LANES").await.unwrap();
    let mark = lanes.get_last_raw_message_by_subject("$KV.LANES.inbound.whatsapp");
    let mark = mark.await.ok().map(|mark| mark.payload);
    let mark = mark.and_then(|mark| std::str::from_utf8(&mark).ok()?.parse::<u64>().ok());
    stored - mark.unwrap_or(0)
}

async fn stream_state(system: &System, name: &str) -> async_nats::jetstream::stream::State {
    let jetstream = jetstream(system).await;
    let stream = jetstream.get_stream(name).await.unwrap();
    stream.cached_info().state.clone()
}

async fn jetstream(system: &System) -> async_nats::jetstream::Context {
    let url = &system.env["CHAT4ALL_NATS__URL"];
    async_nats::jetstream::new(log::client(url, "observer").await)
}

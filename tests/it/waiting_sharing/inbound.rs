//! The process that understands what comes in stands still in the middle of it, and another one begins again where that one's mark
//! is. When it wakes it learns that what it did was stored; nothing of it is there twice.

use std::collections::BTreeMap;
use std::time::Duration;

use async_nats::jetstream::{self, kv::Watch};
use chat4all_domain::message::{Content, Event, Origin};
use chat4all_nats::Change;
use futures::StreamExt;
use reqwest::Method;
use serde_json::json;
use tokio::time::timeout;
use url::Url;

use super::owner::Owner;
use super::site::{PATIENCE, by_number, reached};
use crate::guarantees::system::{Answer, Logged, System, log_of, phone};
use crate::support::behind::level;
use crate::support::proxy::Proxy;
use crate::whole_system::{compare, on_the_log, shown};

const SECOND: Duration = Duration::from_secs(1);
/// Write to us.
const CUSTOMERS: usize = 8;
/// So many texts at a time.
const EACH: usize = 5;
/// Are written to, and their phones say that it was read.
const READERS: usize = 8;

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_comes_in_while_its_owner_stands_still_and_when_it_wakes_is_there_once_and_in_order() {
    let system = System::split().await;
    let broker: Url = system.env["CHAT4ALL_NATS__URL"].parse().unwrap();
    let proxy = Proxy::start(broker.port().unwrap(), 0, 1).await;
    let through = proxy.url();
    let owner = Owner::start(&system, &[("CHAT4ALL_NATS__URL", through.as_str())]).await;
    let marks = Marks::follow(&broker).await;
    let mut people = People::of(&system).await;
    people.write().await;
    people.are_understood().await;

    // The next texts are on the log, and it stands still before it hears of that.
    let held = proxy.hold_once("EVT-");
    people.write().await;
    held.has_come().await;
    owner.freeze().await;
    // Webhooks go on coming in, through the other process: texts, and receipts.
    tokio::join!(owner.is_replaced(&system), async {
        people.write().await;
        people.are_written_to().await;
    });
    people.are_understood().await;

    held.let_go();
    owner.wake();
    people.write().await;
    people.are_written_to().await;
    owner.is_back(&system).await;
    people.write().await;
    people.are_written_to().await;
    people.are_understood().await;
    people.have_read_everything().await;
    marks.never_went_back().await;
    let log = log_of(&system.env).await;
    people.are_heard_once(&log);
    people.are_told_once(&log).await;
    level(&system.env).await;
    compare("the read models", &on_the_log(&log), &shown(&system).await);
}

/// Up to where all that came in is done, as it was said.
struct Marks(Watch);

impl Marks {
    async fn follow(broker: &Url) -> Self {
        let client = async_nats::connect(broker.as_str()).await.unwrap();
        let lanes = jetstream::new(client).get_key_value("LANES").await.unwrap();
        Self(lanes.watch("inbound.whatsapp").await.unwrap())
    }

    /// Whoever is not the owner any more has no say in it.
    async fn never_went_back(mut self) {
        let mut said = Vec::new();
        while let Ok(Some(entry)) = timeout(SECOND, self.0.next()).await {
            let text = String::from_utf8(entry.unwrap().value.to_vec()).unwrap();
            said.push(text.parse::<u64>().unwrap());
        }
        assert!(said.len() > 3, "{said:?}");
        assert!(said.is_sorted(), "{said:?}");
    }
}

/// Those outside, and what was said so far.
struct People<'a> {
    system: &'a System,
    /// What each customer wrote.
    written: BTreeMap<String, Vec<String>>,
    /// The group of each reader.
    groups: BTreeMap<String, String>,
    /// What each of them is to get.
    texts: BTreeMap<String, Vec<String>>,
    said: Vec<Answer>,
}

impl<'a> People<'a> {
    async fn of(system: &'a System) -> Self {
        let mut groups = BTreeMap::new();
        for phone in (CUSTOMERS..CUSTOMERS + READERS).map(phone) {
            let group = system.group("ana", std::slice::from_ref(&phone)).await;
            groups.insert(phone, group);
        }
        let customers = (0..CUSTOMERS).map(|i| (phone(i), Vec::new()));
        Self {
            system,
            written: customers.collect(),
            groups,
            texts: BTreeMap::new(),
            said: Vec::new(),
        }
    }

    /// Every customer writes, by turns.
    async fn write(&mut self) {
        let account = &self.system.env["CHAT4ALL_CHANNELS__WHATSAPP_MAIN__PHONE_NUMBER_ID"];
        for _ in 0..EACH {
            for (phone, texts) in &mut self.written {
                let text = format!("{phone}, number {}", texts.len());
                let body = json!({"text": text, "phone_number_id": account});
                let path = format!("phones/{phone}/messages");
                self.system.simulator(Method::POST, &path, Some(body)).await;
                texts.push(text);
            }
        }
    }

    /// Every reader gets a message, and the provider tells us what became of it.
    async fn are_written_to(&mut self) {
        for (phone, group) in &self.groups {
            let texts = self.texts.entry(phone.clone()).or_default();
            let text = texts.len().to_string();
            self.said.push(self.system.say("ana", group, &text).await);
            texts.push(text);
        }
    }

    /// Waits until as many texts are on the log as customers have written.
    async fn are_understood(&self) {
        let written: usize = self.written.values().map(Vec::len).sum();
        let look = async || {
            let heard = heard(&log_of(&self.system.env).await);
            heard.iter().map(Vec::len).sum::<usize>()
        };
        reached("understood", PATIENCE, look, |heard| *heard >= written).await;
    }

    /// Waits until every message has been read, and every step has its time.
    async fn have_read_everything(&self) {
        for accepted in &self.said {
            self.system.read("ana", accepted).await;
        }
    }

    /// Each customer has one conversation, and everything is in it once and in its order.
    fn are_heard_once(&self, log: &[Logged]) {
        let written: Vec<_> = self.written.values().cloned().collect();
        assert_eq!(heard(log), written);
    }

    /// One call for each message, and one event for each receipt, whoever dealt with it.
    async fn are_told_once(&self, log: &[Logged]) {
        assert_eq!(by_number(&self.system.taken().await), self.texts);
        let mut events = BTreeMap::<_, Vec<_>>::new();
        for logged in log {
            if let Change::Delivery(id, recorded) = &logged.change {
                let all = events.entry(id.message.to_string()).or_default();
                all.extend(recorded.iter().map(|recorded| &recorded.event));
            }
        }
        for accepted in &self.said {
            // Attempted, sent, delivered and read, as all of them were.
            let events = &events[&accepted.text("message_id")];
            assert_eq!(events.len(), 4, "{events:?}");
        }
    }
}

/// What customers wrote, as it is on the log: the texts of each conversation, in the order of the customers' numbers, with which
/// every text begins.
fn heard(log: &[Logged]) -> Vec<Vec<String>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for logged in log {
        let Change::Message(id, events) = &logged.change else {
            continue;
        };
        for recorded in events {
            let Event::Accepted { facts, personal } = &recorded.event;
            if let (Origin::Channel { .. }, Content::Text { text }) =
                (&facts.origin, &personal.content)
            {
                let texts = found.entry(id.conversation.to_string()).or_default();
                texts.push(text.reveal().to_owned());
            }
        }
    }
    let mut texts: Vec<_> = found.into_values().collect();
    texts.sort();
    texts
}

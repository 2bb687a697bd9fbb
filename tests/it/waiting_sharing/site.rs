//! What these tests do to a running system beside what clients do.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::net::TcpListener;
use std::process::{Child, Command};
use std::time::{Duration, Instant};

use async_nats::jetstream;
use chat4all_cli::embedded::is_running;
use chat4all_nats::connect;
use chat4all_service::clock;
use futures::StreamExt;
use reqwest::Method;
use rustix::process::Signal;
use serde_json::{Value, json};
use time::OffsetDateTime;

use crate::guarantees::system::{Call, System, http};
use crate::support::up::{answer, row_of, send};

/// Long enough for a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(180);
/// The second account at the provider.
pub const TWO: &str = "whatsapp-two";
pub const NUMBER_OF_TWO: &str = "200000000000001";
const SECRET: &str = "a secret of the second account";

/// What is shared, as its leases are called. Of the last two only partition 0 has work.
pub const SHARED: [&str; 4] = [
    "projector",
    "bridge-whatsapp",
    "inbound-whatsapp",
    "redrive",
];
/// Leases are even that soon after any change.
pub const EVEN: Duration = Duration::from_secs(30);
/// The leases that a killed or frozen worker had are somebody else's.
pub const TAKEN_OVER: Duration = Duration::from_secs(15);

/// Who has which partition, by what is shared.
pub type Held = BTreeMap<&'static str, BTreeMap<u8, String>>;

/// The variables of a second account, for an `up` whose simulator is at `simulator`.
pub fn second_account(simulator: &str) -> Vec<(&'static str, String)> {
    vec![
        ("CHAT4ALL_CHANNELS__WHATSAPP_TWO__KIND", "whatsapp".into()),
        (
            "CHAT4ALL_CHANNELS__WHATSAPP_TWO__PHONE_NUMBER_ID",
            NUMBER_OF_TWO.into(),
        ),
        ("CHAT4ALL_CHANNELS__WHATSAPP_TWO__TOKEN", SECRET.into()),
        ("CHAT4ALL_CHANNELS__WHATSAPP_TWO__APP_SECRET", SECRET.into()),
        (
            "CHAT4ALL_CHANNELS__WHATSAPP_TWO__VERIFY_TOKEN",
            SECRET.into(),
        ),
        (
            "CHAT4ALL_CHANNELS__WHATSAPP_TWO__API_BASE",
            format!("{simulator}/v25.0"),
        ),
    ]
}

/// The provider learns of the second account.
pub async fn introduce_second_account(system: &System) {
    let bridges = &system.env["CHAT4ALL_URL"];
    let account = json!({
        "display_phone_number": "+49 30 234567", "waba_id": "200000000000002",
        "token": SECRET, "app_secret": SECRET, "verify_token": SECRET,
        "webhook_url": format!("{bridges}/webhooks/whatsapp/{TWO}"),
    });
    let path = format!("accounts/{NUMBER_OF_TWO}");
    system.simulator(Method::PUT, &path, Some(account)).await;
}

/// The answer of a `chat4all` command that has to succeed, as JSON.
pub async fn operator(system: &System, arguments: &[&str]) -> Value {
    answer(system.chat4all(arguments)).await
}

/// What `chat4all channels ls` says about an account.
pub async fn account(system: &System, id: &str) -> Value {
    row_of(&operator(system, &["channels", "ls", "--json"]).await, id)
}

/// Another process of a role, beside those of `up`: nobody starts it again.
pub struct Extra {
    pub child: Child,
    pub name: String,
    url: String,
    log: tempfile::NamedTempFile,
}

impl Extra {
    /// Starts it and waits until it is ready.
    pub async fn start(system: &System, role: &str) -> Self {
        Self::start_with(system, role, &[]).await
    }

    /// The same, with these variables beside those of the installation, or in their place.
    pub async fn start_with(system: &System, role: &str, more: &[(&str, &str)]) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = port.local_addr().unwrap();
        drop(port);
        let log = tempfile::NamedTempFile::new().unwrap();
        let mut command: Command = system.chat4all(&[role]);
        command.env("CHAT4ALL_HTTP__LISTEN", listen.to_string());
        command.envs(more.iter().copied());
        command.stderr(File::create(log.path()).unwrap());
        let extra = Self {
            child: command.spawn().unwrap(),
            name: role.to_owned(),
            url: format!("http://{listen}"),
            log,
        };
        extra.ready().await;
        extra
    }

    async fn ready(&self) {
        let (client, begun) = (http(), Instant::now());
        loop {
            let answer = client.get(format!("{}/readyz", self.url)).send().await;
            if answer.as_ref().is_ok_and(|answer| answer.status() == 200) {
                return;
            }
            let waited = begun.elapsed();
            assert!(waited < PATIENCE, "{} not ready: {answer:?}", self.name);
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    pub fn signal(&self, signal: Signal) {
        send(self.child.id(), signal);
    }

    /// What it has logged.
    pub fn said(&self) -> String {
        std::fs::read_to_string(self.log.path()).unwrap()
    }
}

impl Drop for Extra {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let ended = self.child.try_wait();
            println!("{} ({ended:?}) has said:\n{}", self.name, self.said());
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `kill -9`; when it was seen dead.
pub async fn kill(pid: u32) -> OffsetDateTime {
    send(pid, Signal::KILL);
    while is_running(pid) {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    clock::now()
}

/// Waits until `up` has started it again.
pub async fn broker_is_back(system: &System) {
    let url = system.env["CHAT4ALL_NATS__URL"].as_str();
    let config = connect::Config::new(url, "observer");
    let look = async || connect::connect(&config).await.is_ok();
    reached("broker is back", PATIENCE, look, |back| *back).await;
}

/// The texts that the provider took, by number, in their order.
pub fn by_number(calls: &[Call]) -> BTreeMap<String, Vec<String>> {
    let mut found = BTreeMap::<_, Vec<_>>::new();
    for call in calls {
        let texts = found.entry(call.to.clone()).or_default();
        texts.push(call.text.clone());
    }
    found
}

/// Who has the partitions of a role: worker by partition.
pub async fn leases(system: &System, role: &str) -> BTreeMap<u8, String> {
    let url = &system.env["CHAT4ALL_NATS__URL"];
    let client = crate::support::log::client(url, "observer").await;
    leases_on(&jetstream::new(client), role).await
}

/// The same over a connection that is there.
pub async fn leases_on(jetstream: &jetstream::Context, role: &str) -> BTreeMap<u8, String> {
    let leases = jetstream.get_stream_no_info("KV_LEASES").await.unwrap();
    let mut found = BTreeMap::new();
    for partition in 0..8_u8 {
        let key = format!("$KV.LEASES.{role}.{partition:02}");
        let Ok(entry) = leases.get_last_raw_message_by_subject(&key).await else {
            continue;
        };
        if entry.headers.get("KV-Operation").is_none() {
            let worker = String::from_utf8(entry.payload.to_vec()).unwrap();
            found.insert(partition, worker);
        }
    }
    found
}

/// Who has the partitions of everything that is shared.
pub async fn all_leases(system: &System) -> Held {
    let client = crate::support::log::client(&system.env["CHAT4ALL_NATS__URL"], "observer").await;
    let jetstream = jetstream::new(client);
    let mut all = Held::new();
    for shared in SHARED {
        all.insert(shared, leases_on(&jetstream, shared).await);
    }
    all
}

/// Hears of every lease that is given back. Of one that ages out nothing is published.
pub struct GivenBack(async_nats::Subscriber);

impl GivenBack {
    pub async fn listen(system: &System) -> Self {
        let client = crate::support::log::client(&system.env["CHAT4ALL_NATS__URL"], "observer");
        let client = client.await;
        let heard = client.subscribe("$KV.LEASES.>").await.unwrap();
        client.flush().await.unwrap();
        Self(heard)
    }

    /// All of these were given back since; waits for those that it has not heard of yet.
    pub async fn all_of(mut self, held: &Held) {
        let mut missing: BTreeSet<_> = held
            .iter()
            .flat_map(|(shared, leases)| leases.keys().map(move |at| format!("{shared}.{at:02}")))
            .collect();
        while !missing.is_empty() {
            let heard = tokio::time::timeout(EVEN, self.0.next()).await;
            let message = heard.unwrap_or_else(|_| panic!("not given back: {missing:?}"));
            let message = message.unwrap();
            let headers = message.headers.as_ref();
            if headers.is_some_and(|headers| headers.get("KV-Operation").is_some()) {
                let key = message.subject.strip_prefix("$KV.LEASES.").unwrap();
                missing.remove(key);
            }
        }
    }
}

/// Waits until the workers of everything that is shared have so many partitions each, fewest first.
pub async fn even(system: &System, wanted: &[usize], within: Duration, what: &str) {
    let look = async || all_leases(system).await;
    reached(what, within, look, |held| {
        held.values().all(|leases| shares(leases) == wanted)
    })
    .await;
}

/// How many of them each worker has, fewest first.
pub fn shares(leases: &BTreeMap<u8, String>) -> Vec<usize> {
    let mut counts = BTreeMap::<_, usize>::new();
    for worker in leases.values() {
        *counts.entry(worker).or_default() += 1;
    }
    let mut counts: Vec<_> = counts.into_values().collect();
    counts.sort_unstable();
    counts
}

/// Waits for a level; after `within` says what was seen last.
pub async fn reached<T: std::fmt::Debug>(
    what: &str,
    within: Duration,
    look: impl AsyncFn() -> T,
    is: impl Fn(&T) -> bool,
) -> Duration {
    let begun = Instant::now();
    loop {
        let seen = look().await;
        let waited = begun.elapsed();
        if is(&seen) {
            println!("{what} after {waited:?}");
            return waited;
        }
        assert!(waited < within, "{what}: not within {within:?}: {seen:?}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

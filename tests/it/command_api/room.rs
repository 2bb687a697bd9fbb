//! A log that is full is given more room, as docs/operations.md says it, and the process that refused goes on.

use std::process::{Child, Stdio};
use std::time::{Duration, Instant};

use async_nats::jetstream::{self, stream::Stream};
use chat4all_cli::embedded::Port;
use chat4all_nats::fullness;
use reqwest::Method;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};

use super::stack::{Answer, Broker, http_client, post, secret};
use super::{id, message, user};
use crate::backup::stage::chat4all;

/// Long enough for a busy machine; the page says about a second.
const NOTICED_WITHIN: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_secs(30);

/// `chat4all command-api`, killed at the end.
struct Role {
    child: Child,
    url: String,
    http: reqwest::Client,
}

impl Role {
    /// Returns when it is ready.
    async fn start(broker: &Broker) -> Self {
        let listen = format!("127.0.0.1:{}", Port::Any.pick().unwrap());
        let partitions = broker.layout.partitions.get().to_string();
        let mut command = chat4all(&broker.nats.url(), &["command-api"]);
        command
            .env("CHAT4ALL_NATS__MONITOR_URL", broker.nats.monitor_url())
            .env("CHAT4ALL_LOG__PARTITIONS", partitions)
            .env("CHAT4ALL_AUTH__HS256_SECRET", secret().expose_secret())
            .env("CHAT4ALL_HTTP__LISTEN", &listen)
            .stderr(Stdio::null());
        let role = Self {
            child: command.spawn().unwrap(),
            url: format!("http://{listen}"),
            http: http_client(),
        };
        role.readiness(200, PATIENCE).await;
        role
    }

    async fn post(&self, path: &str, body: &Value) -> Answer {
        post(&self.http, &self.url, "ana", path, body).send().await
    }

    /// Writes texts until one is refused, and the broker, too, says that it is full; that text, and how many went in.
    async fn fill(&self, group: &str, log: &Stream) -> (Value, usize) {
        let (begun, mut fitted) = (Instant::now(), 0);
        while begun.elapsed() < PATIENCE {
            // Random, so that compression does not help.
            let text: String = std::iter::repeat_with(fastrand::alphanumeric)
                .take(20_000)
                .collect();
            let body = message(group, &text);
            let answer = self.post("/v1/messages", &body).await;
            if answer.status == 202 {
                fitted += 1;
                continue;
            }
            assert_eq!(answer.status, 507, "{}", answer.body);
            assert_eq!(answer.body["code"], "log_full");
            // Its own count may be ahead for a moment.
            if percent(log).await >= fullness::ACCEPT_UP_TO_PERCENT {
                return (body, fitted);
            }
        }
        panic!("{fitted} texts went in, and it is not full");
    }

    /// Waits until `/readyz` has this status; what it says then.
    async fn readiness(&self, status: u16, within: Duration) -> Value {
        let (begun, path) = (Instant::now(), format!("{}/readyz", self.url));
        loop {
            let answer = self.http.request(Method::GET, &path).send().await;
            let seen = match answer {
                Ok(answer) if answer.status() == status => return answer.json().await.unwrap(),
                Ok(answer) => answer.text().await.unwrap(),
                Err(error) => error.to_string(),
            };
            assert!(begun.elapsed() < within, "not {status}, but {seen}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// How full it is, as the broker knows it; rounded as the process does.
async fn percent(log: &Stream) -> u64 {
    let info = log.get_info().await.unwrap();
    let max_bytes = u64::try_from(info.config.max_bytes).unwrap();
    info.state.bytes / (max_bytes / 100)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_that_was_raised_is_noticed_by_a_running_process_and_is_one_again() {
    let broker = Broker::with(1, 1 << 20).await;
    let client = async_nats::connect(broker.nats.url()).await.unwrap();
    let js = jetstream::new(client);
    let log = js.get_stream("EVT-00").await.unwrap();
    let mut role = Role::start(&broker).await;
    let body = json!({"kind": "group", "participants": [{"user_id": user("ben")}]});
    let group = role.post("/v1/conversations", &body).await;
    let group = id(&group.body, "conversation_id");
    let (refused, fitted) = role.fill(&group, &log).await;
    let said = role.readiness(503, PATIENCE).await;
    assert_eq!(said["checks"]["log"]["status"], "red", "{said}");

    // `nats stream edit EVT-00 --max-bytes …`
    let mut config = log.cached_info().config.clone();
    config.max_bytes *= 2;
    js.update_stream(config).await.unwrap();
    let raised = Instant::now();
    loop {
        let answer = role.post("/v1/messages", &refused).await;
        if answer.status == 202 {
            break;
        }
        assert_eq!(answer.status, 507, "{}", answer.body);
        assert!(raised.elapsed() < NOTICED_WITHIN, "it is not noticed");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("noticed after {:?}", raised.elapsed());
    role.readiness(200, NOTICED_WITHIN).await;

    // As much again, and not more.
    let (_, more) = role.fill(&group, &log).await;
    let expected = fitted / 2..=fitted * 2;
    assert!(expected.contains(&more), "first {fitted}, then {more}");
    let ended = role.child.try_wait().unwrap();
    assert_eq!(ended, None, "it was to run all the time");
}

//! Postgres is away for a minute, once stopped and once hung: accepting, sending and receiving go on meanwhile, reads say
//! 503 in time and readiness says why, and afterwards everything is shown as if nothing had happened.

use std::collections::BTreeMap;
use std::time::Duration;

use chat4all_cli::embedded::{Postgres, PostgresOptions, temp_dir};
use chat4all_service::clock;
use futures::StreamExt as _;
use futures::stream::FuturesUnordered;
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use tokio::time::{MissedTickBehavior, interval, sleep};
use tokio_util::sync::CancellationToken;

use super::system::{Answer, Role, Stored, System, by, text};
use super::{Messages, compare, until};

const AWAY: Duration = Duration::from_secs(60);
const POSTS_EVERY: Duration = Duration::from_millis(100);
const WRITES_EVERY: Duration = Duration::from_millis(500);
const LOOKS_EVERY: Duration = Duration::from_secs(1);
const GROUPS: usize = 20;
const STRANGERS: usize = 5;
/// The longest that a read may take to hear that Postgres is away: 3 s for a connection, 5 s and a margin for a
/// statement, `at_least` at most 5 s, and some for a busy machine.
const READS_WITHIN: Duration = Duration::from_secs(11);
/// What a check found holds for a second, and it may take two.
const CHECKS_WITHIN: Duration = Duration::from_secs(4);

/// How Postgres goes away.
#[derive(Clone, Copy, Debug)]
enum Away {
    /// Nobody listens.
    Stopped,
    /// Connections are taken and stay open, and nothing is answered.
    Hung,
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_postgres_is_stopped_for_a_minute_everything_but_reads_goes_on() {
    minute(Away::Stopped).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn while_postgres_hangs_for_a_minute_everything_but_reads_goes_on() {
    minute(Away::Hung).await;
}

async fn minute(away: Away) {
    let dir = temp_dir().unwrap();
    let options = PostgresOptions {
        fsync: false,
        ..PostgresOptions::in_dir(dir.path())
    };
    let mut postgres = Postgres::start(options).await.unwrap();
    let url = postgres.url();
    let system = System::with(|command| {
        command.arg("--split").env("CHAT4ALL_POSTGRES__URL", url);
    });
    let load = Load::prepare(&system).await;
    let roles = roles(&system);
    let stop = CancellationToken::new();

    let outage = async {
        until(
            "work under way",
            async || system.handed_over().await.len(),
            |calls| *calls >= 10,
        )
        .await;
        match away {
            Away::Stopped => postgres.stop().await.unwrap(),
            Away::Hung => postgres.suspend().await,
        }
        let from = clock::now();
        // The minute itself: what happens in it is looked at afterwards.
        sleep(AWAY).await;
        let lag = Lag::of(&system, &roles).await;
        let to = clock::now();
        match away {
            Away::Stopped => postgres.restart().await.unwrap(),
            Away::Hung => postgres.resume(),
        }
        until(
            "every role is ready again",
            async || readiness(&system, &roles).await,
            |all| all.iter().all(|look| look.status == 200),
        )
        .await;
        stop.cancel();
        lag.is_that_of_the_outage();
        Window { from, to }
    };
    let (window, posts, written, reads, looks) = tokio::join!(
        outage,
        at_a_rate(POSTS_EVERY, &stop, async |number| load.post(number).await),
        at_a_rate(WRITES_EVERY, &stop, async |number| load.write(number).await),
        at_a_rate(LOOKS_EVERY, &stop, async |number| load.read(number).await),
        at_a_rate(LOOKS_EVERY, &stop, async |_| readiness(&system, &roles)
            .await),
    );

    window.accepted(&posts);
    window.reads_said_so(&reads);
    window.readiness_said_so(&looks.concat());
    assert_eq!(roles, self::roles(&system), "no role died of it");
    load.catches_up(&posts, &written).await;
    let log = system.log().await;
    window.sent(&system.handed_over().await, &log);
    window.received(&system.told_of().await, &log);
    until(
        "no partition lags",
        async || Lag::of(&system, &roles).await,
        |lag| {
            lag.events
                .values()
                .chain(lag.seconds.values())
                .all(|lag| *lag == 0.0)
        },
    )
    .await;
}

/// What the projector's metrics say, partition by partition.
#[derive(Debug)]
struct Lag {
    events: BTreeMap<String, f64>,
    seconds: BTreeMap<String, f64>,
}

impl Lag {
    async fn of(system: &System, roles: &[(&'static str, Option<Role>)]) -> Self {
        let mut projector = roles.iter().filter(|(role, _)| *role == "projector");
        let (_, process) = projector.next().unwrap();
        let base = &process.as_ref().unwrap().url;
        let lag = Self {
            events: system.metrics(base, "projector_lag_events{").await,
            seconds: system.metrics(base, "projector_lag_seconds{").await,
        };
        assert_eq!((lag.events.len(), lag.seconds.len()), (8, 8), "{lag:?}");
        lag
    }

    /// What has been written since is not projected.
    fn is_that_of_the_outage(&self) {
        println!("at the end of the minute: {self:?}");
        let away = AWAY.as_secs_f64();
        for (partition, events) in &self.events {
            // Measured every two seconds, since the last time that it was level; what has no conversation in it still is.
            let expected = match *events {
                0.0 => 0.0..=0.0,
                _ => away - 10.0..=away + 10.0,
            };
            assert!(expected.contains(&self.seconds[partition]), "{self:?}");
        }
        // A message is five events.
        let posted = Window::most(POSTS_EVERY) as f64;
        assert!(
            self.events.values().sum::<f64>() >= 5.0 * posted,
            "{self:?}"
        );
    }
}

/// Does `work` at this pace, however long each takes, and returns when all of it is done.
async fn at_a_rate<T>(
    every: Duration,
    stop: &CancellationToken,
    work: impl AsyncFn(usize) -> T,
) -> Vec<T> {
    let (mut tick, mut number) = (interval(every), 0);
    tick.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut busy, mut done) = (FuturesUnordered::new(), Vec::new());
    loop {
        tokio::select! {
            biased;
            () = stop.cancelled() => break,
            Some(one) = busy.next(), if !busy.is_empty() => done.push(one),
            _ = tick.tick() => {
                busy.push(work(number));
                number += 1;
            }
        }
    }
    while let Some(one) = busy.next().await {
        done.push(one);
    }
    done
}

/// A steady stream of work.
struct Load<'a> {
    system: &'a System,
    token: String,
    /// Group and phone.
    groups: Vec<(String, String)>,
    strangers: Vec<String>,
}

/// A message that was posted.
struct Post {
    group: String,
    phone: String,
    text: String,
    answer: Answer,
}

/// A message that a stranger wrote.
struct Written {
    stranger: String,
    text: String,
    provider_id: String,
}

impl<'a> Load<'a> {
    async fn prepare(system: &'a System) -> Self {
        let token = system.full("anna");
        let mut groups = Vec::new();
        for number in 0..GROUPS {
            let phone = format!("491530000{number:04}");
            groups.push((system.group(&token, &[&phone]).await, phone));
        }
        let strangers = (0..STRANGERS).map(|number| format!("491540000{number:04}"));
        Self {
            system,
            token,
            groups,
            strangers: strangers.collect(),
        }
    }

    async fn post(&self, number: usize) -> Post {
        let (group, phone) = &self.groups[number % GROUPS];
        let said = format!("message {number}");
        let body = text(group, &said);
        Post {
            group: group.clone(),
            phone: phone.clone(),
            answer: self.system.post(&self.token, "/v1/messages", &body).await,
            text: said,
        }
    }

    async fn write(&self, number: usize) -> Written {
        let (stranger, text) = (
            &self.strangers[number % STRANGERS],
            format!("written {number}"),
        );
        Written {
            stranger: stranger.clone(),
            provider_id: self.system.write_in(stranger, &text, None).await,
            text,
        }
    }

    /// Each kind of read by turns.
    async fn read(&self, number: usize) -> Answer {
        let (group, _) = &self.groups[number % GROUPS];
        match number % 3 {
            0 => {
                let query = "query ($id: ID!) { conversation(id: $id) { messageCount } }";
                let id = json!({"id": group});
                self.system.graphql(&self.token, query, id).await
            }
            1 => {
                let path = format!("/v1/conversations/{group}/messages");
                self.system.rest(&self.token, &path).await
            }
            _ => {
                let path = format!("/v1/conversations/{group}?at_least=00-1000000");
                self.system.rest(&self.token, &path).await
            }
        }
    }

    /// Answers, log, rows and the provider's calls are the same messages in the same order, and all were read.
    async fn catches_up(&self, posts: &[Post], written: &[Written]) {
        let system = self.system;
        let mut posts: Vec<_> = posts.iter().collect();
        posts.sort_by_key(|post| sequence(&post.answer.body["position"]));
        let told = by(posts.iter().copied(), |post| Some(post.group.clone()), id);
        let said = by(
            posts.iter().copied(),
            |post| Some(post.phone.clone()),
            |post| post.text.clone(),
        );
        let log = system.log().await;
        let from = |stored: &Stored, origin: &str| {
            let (facts, _) = stored.first("MessageAccepted")?;
            let ours = self
                .groups
                .iter()
                .any(|(group, _)| stored.token(4) == group);
            let counts = facts["origin"]["from"] == origin && (ours || origin == "channel");
            counts.then(|| stored.token(4).to_owned())
        };
        let on_log = by(
            &log,
            |stored| from(stored, "api"),
            |stored| stored.token(5).to_owned(),
        );
        compare("the log", &told, &on_log);

        let shown = until(
            "everything is shown, and read",
            async || {
                let mut shown = BTreeMap::new();
                for (group, _) in &self.groups {
                    shown.insert(group, system.messages(&self.token, group).await);
                }
                shown
            },
            |shown| {
                let all = shown.values().flatten();
                let read = all.filter(|message| message["status"] == "READ").count();
                read >= posts.len()
            },
        )
        .await;
        let ids = |messages: &Vec<Value>| {
            let id = |message: &Value| message["messageId"].as_str().unwrap().to_owned();
            messages.iter().map(id).collect()
        };
        let shown = shown
            .iter()
            .map(|(group, all)| ((*group).clone(), ids(all)));
        compare("GraphQL", &told, &shown.collect());
        let handed = by(
            &system.handed_over().await,
            |call| call["to"].as_str().map(str::to_owned),
            |call| call["body"]["text"]["body"].as_str().unwrap().to_owned(),
        );
        compare("the provider", &said, &handed);

        let mut written: Vec<_> = written.iter().collect();
        let inbound = by(
            &log,
            |stored| from(stored, "channel"),
            |stored| {
                stored.body["events"][0]["personal"]["provider_id"]
                    .as_str()
                    .unwrap()
                    .to_owned()
            },
        );
        // In the order in which the provider took them.
        let told_of = system.told_of().await;
        let place = |id: &str| told_of.iter().position(|item| item["message_id"] == id);
        written.sort_by_key(|one| place(&one.provider_id));
        let written_by = |name: &dyn Fn(&Written) -> String| -> Messages {
            let written = written.iter().copied();
            by(written, |one| Some(one.stranger.clone()), name)
        };
        let sender = |id: &String| {
            let mut found = written.iter().filter(|one| one.provider_id == *id);
            found.next().map(|one| one.stranger.clone())
        };
        let inbound = by(inbound.values().flatten(), sender, String::clone);
        let ids = written_by(&|one| one.provider_id.clone());
        compare("the log, inbound", &ids, &inbound);
        let shown = until(
            "what strangers wrote is shown",
            async || system.written_by(&self.token, &self.strangers).await,
            |shown| shown.values().map(Vec::len).sum::<usize>() >= written.len(),
        )
        .await;
        let texts = written_by(&|one| one.text.clone());
        compare("GraphQL, inbound", &texts, &shown);
    }
}

fn id(post: &Post) -> String {
    post.answer.body["message_id"].as_str().unwrap().to_owned()
}

fn sequence(position: &Value) -> u64 {
    let (_, sequence) = position.as_str().unwrap().split_once('-').unwrap();
    sequence.parse().unwrap()
}

/// While Postgres was away, from the first moment to the last.
struct Window {
    from: OffsetDateTime,
    to: OffsetDateTime,
}

impl Window {
    fn has(&self, answer: &Answer) -> bool {
        answer.began >= self.from && answer.began + answer.took <= self.to
    }
    fn contains(&self, at: OffsetDateTime) -> bool {
        (self.from..=self.to).contains(&at)
    }
    /// Nine of ten that a steady pace makes of the minute: the last ones may end after it.
    fn most(every: Duration) -> usize {
        usize::try_from(AWAY.as_millis() / every.as_millis() * 9 / 10).unwrap()
    }

    fn accepted(&self, posts: &[Post]) {
        for post in posts {
            assert_eq!(post.answer.status, 202, "{}", post.answer.body);
        }
        let inside = posts.iter().filter(|post| self.has(&post.answer));
        let slowest = inside.clone().map(|post| post.answer.took).max();
        let inside = inside.count();
        println!("accepted meanwhile: {inside}, the slowest after {slowest:?}");
        assert!(inside >= Self::most(POSTS_EVERY), "only {inside} accepted");
    }

    fn reads_said_so(&self, reads: &[Answer]) {
        let mut inside = reads.iter().filter(|read| self.has(read)).peekable();
        assert!(inside.peek().is_some());
        let mut codes = BTreeMap::<String, usize>::new();
        for read in inside {
            assert_eq!(read.status, 503, "{}", read.body);
            let graphql = &read.body["errors"][0]["extensions"]["code"];
            let code = read.body["code"].as_str().or(graphql.as_str());
            let code = code.unwrap_or_else(|| panic!("no code: {}", read.body));
            assert!(
                ["unavailable", "not_yet_projected"].contains(&code),
                "{code}"
            );
            *codes.entry(code.to_owned()).or_default() += 1;
        }
        let begun = reads.iter().filter(|read| self.contains(read.began));
        let slowest = begun.clone().map(|read| read.took).max().unwrap();
        println!("reads meanwhile: {codes:?}, the slowest after {slowest:?}");
        assert!(slowest <= READS_WITHIN, "a read took {slowest:?}");
        let (begun, most) = (begun.count(), Self::most(LOOKS_EVERY));
        assert!(begun >= most, "only {begun} reads");
    }

    fn readiness_said_so(&self, looks: &[Look]) {
        let settled = self.from + CHECKS_WITHIN;
        let mut seen = BTreeMap::<_, usize>::new();
        for look in looks
            .iter()
            .filter(|look| look.began >= settled && look.ended <= self.to)
        {
            let needs_it = ["query-api", "projector"].contains(&look.role);
            let expected = if needs_it { 503 } else { 200 };
            assert_eq!(look.status, expected, "{look:?}");
            let mut checks = look.body["checks"].as_object().unwrap().iter();
            let red = |check: &Value| check["status"] == "red";
            let (red, green): (Vec<_>, Vec<_>) = checks.by_ref().partition(|(_, one)| red(one));
            let red: Vec<_> = red.into_iter().map(|(name, _)| name.as_str()).collect();
            let away: &[&str] = if needs_it { &["postgres"] } else { &[] };
            assert_eq!(red, away, "{look:?}, green: {green:?}");
            *seen.entry(look.role).or_default() += 1;
        }
        println!("looks at readiness meanwhile: {seen:?}");
        assert_eq!(seen.len(), ROLES.len());
        assert!(seen.values().all(|count| *count >= 30), "{seen:?}");
    }

    fn sent(&self, calls: &[Value], log: &[Stored]) {
        let calls = calls.iter().filter(|call| self.contains(at(&call["at"])));
        let count = |event: &str| {
            let of_type = log.iter().filter(|stored| {
                let mut events = stored.body["events"].as_array().unwrap().iter();
                self.contains(stored.at) && events.any(|one| one["type"] == event)
            });
            of_type.count()
        };
        let counts = [
            ("calls", calls.count()),
            ("sent", count("DeliverySent")),
            ("delivered", count("DeliveryDelivered")),
            ("read", count("DeliveryRead")),
        ];
        println!("sent meanwhile: {counts:?}");
        for (what, count) in counts {
            assert!(count >= Self::most(POSTS_EVERY), "only {count} {what}");
        }
    }

    fn received(&self, told_of: &[Value], log: &[Stored]) {
        let inside = told_of.iter().filter(|item| {
            self.contains(at(&item["created_at"])) && self.contains(at(&item["last_attempt_at"]))
        });
        let mut webhooks = 0;
        for item in inside {
            assert_eq!(item["last_http_status"], 200, "{item}");
            assert_eq!(item["attempts"], 1, "{item}");
            webhooks += 1;
        }
        let messages = log.iter().filter(|stored| {
            let message = stored.first("MessageAccepted");
            let inbound = message.is_some_and(|(facts, _)| facts["origin"]["from"] == "channel");
            inbound && self.contains(stored.at)
        });
        let messages = messages.count();
        println!("received meanwhile: {webhooks} webhooks, {messages} messages");
        let most = Self::most(WRITES_EVERY);
        assert!(webhooks >= most && messages >= most);
    }
}

fn at(value: &Value) -> OffsetDateTime {
    OffsetDateTime::parse(value.as_str().unwrap(), &Rfc3339).unwrap()
}

const ROLES: [&str; 4] = ["command-api", "projector", "query-api", "bridges"];

fn roles(system: &System) -> Vec<(&'static str, Option<Role>)> {
    ROLES.map(|name| (name, system.role(name))).into()
}

/// What a role says about itself.
#[derive(Clone, Debug)]
struct Look {
    role: &'static str,
    status: StatusCode,
    body: Value,
    began: OffsetDateTime,
    ended: OffsetDateTime,
}

async fn readiness(system: &System, roles: &[(&'static str, Option<Role>)]) -> Vec<Look> {
    let looks = roles.iter().map(async |(role, process)| {
        let url = format!("{}/readyz", process.as_ref().unwrap().url);
        let answer = system.send(system.request(Method::GET, url)).await;
        Look {
            role,
            status: answer.status,
            ended: answer.began + answer.took,
            began: answer.began,
            body: answer.body,
        }
    });
    futures::future::join_all(looks).await
}

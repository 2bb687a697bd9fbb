//! The settings themselves, section by section. Each sentence here is also the reference's.

use std::net::SocketAddr;
use std::path::PathBuf;

use secrecy::SecretString;
use url::Url;

use super::section::section;
use super::spec::{
    address, addresses, checked_text, count, database, milliseconds, one_number_of, parsed, path,
    ratio, schedule, seconds, secret, text, whole,
};
use super::types::{LogFormat, Milliseconds, Poison, Seconds, Sync, log_format, poison, sync};

/// A day, the longest that any wait in milliseconds may be.
const DAY_MS: u64 = 86_400_000;
const KIB: u64 = 1024;
const GIB: u64 = 1024 * 1024 * 1024;

section! {
    /// The broker.
    pub struct Nats {
        /// Where the broker is: one address, or those of several nodes of one cluster.
        url: Vec<Url> = addresses(
            "one or more addresses such as nats://127.0.0.1:4222, divided by commas, without user and password",
            &["nats", "tls"],
        ).or(vec![local_nats()]),
        /// How this installation calls itself to the broker; seen in `nats server report connections`.
        name: String = text("text that is not blank").or("chat4all"),
        /// User name, if the broker asks for one.
        user: Option<String> = text("text that is not blank").optional(),
        /// The user's password.
        password: Option<SecretString> = secret("text that is not empty", |text| !text.is_empty()).optional(),
        /// Credentials file (JWT and key) instead of user and password.
        credentials_file: Option<PathBuf> = path("the path of a file").optional(),
        /// Copies of each stream: 1 on one node, 3 in a cluster.
        replicas: usize = one_number_of(&[1, 3]).or(1usize),
        /// When the broker writes to disk. `always`: before each acknowledgement, so that what was accepted survives a power cut; this bounds the rate of one stream to that of its disk. `relaxed`: every two minutes; faster, and a power cut of the node (of the majority in a cluster) takes back what was accepted since. Readiness is red while the broker does otherwise.
        sync: Sync = sync().or(Sync::Always),
        /// Where each node's monitoring answers: readiness asks there whether the broker really writes as `sync` says. With `sync = relaxed` nobody asks.
        monitor_url: Vec<Url> = addresses(
            "one or more addresses such as http://127.0.0.1:8222, divided by commas, without user and password",
            &["http", "https"],
        ).or(vec![local_monitor()]),
        /// How much the log may hold, all partitions together. At 95 % new messages are refused (507), so that outcomes and receipts still fit. Fixed when the streams are made; raising it later is an operator's step.
        max_bytes: u64 = whole(64 * KIB * KIB, 1 << 50).or(4 * GIB),
        /// How often the connection is checked; a broker that went away without a word is noticed after two.
        ping_interval_ms: Milliseconds = milliseconds(DAY_MS).or(5_000),
    }
}

fn local_nats() -> Url {
    Url::parse("nats://127.0.0.1:4222").expect("a constant that parses")
}

fn local_monitor() -> Url {
    Url::parse("http://127.0.0.1:8222").expect("a constant that parses")
}

section! {
    /// The log on the broker.
    pub struct Log {
        /// Partitions, each a stream. Chosen once, when the log is made: ids are spread by it, and a log with another number refuses to start.
        partitions: u64 = whole(1, 64).or(8u64),
        /// How many aggregates' states are kept in memory per process.
        cached_states: u64 = whole(1, 100_000_000).or(100_000u64),
    }
}

section! {
    /// The read models' database.
    pub struct Postgres {
        /// Where the database is, with user, password and name.
        url: SecretString = database("an address such as postgres://user:password@127.0.0.1:5432/chat4all")
            .or("postgres://chat4all@127.0.0.1:5432/chat4all"),
        /// Connections per process, at most.
        max_connections: u64 = whole(1, 1_000).or(16u64),
        /// How long to wait for a free connection before the answer is 503.
        acquire_timeout_ms: Milliseconds = milliseconds(DAY_MS).or(3_000),
        /// How long one statement of a query may take.
        statement_timeout_ms: Milliseconds = milliseconds(DAY_MS).or(5_000),
    }
}

section! {
    /// What all servers have in common.
    pub struct Http {
        /// Where to listen.
        listen: SocketAddr = parsed("an address and a port such as 127.0.0.1:8080").or(SocketAddr::from(([127, 0, 0, 1], 8080))),
        /// The largest body of a request, in bytes; larger is 413. Webhooks have their own.
        body_limit_bytes: usize = count(1_024, 16 * 1_048_576).or(262_144usize),
        /// How long a command may try to be stored before its outcome is unknown (503, safe to repeat).
        command_deadline_ms: Milliseconds = milliseconds(DAY_MS).or(10_000),
        /// How long any request may take until its answer begins; then it is 504.
        request_timeout_ms: Milliseconds = milliseconds(DAY_MS).or(15_000),
    }
}

section! {
    /// Who may call.
    pub struct Auth {
        /// The secret that bearer tokens (HS256) are signed with.
        hs256_secret: SecretString = secret("at least 32 characters", |text| text.chars().count() >= 32),
        /// The issuer (`iss`) that tokens must have; user ids are derived from it.
        issuer: String = text("text that is not blank").or("chat4all"),
        /// The audience (`aud`) that tokens must have; without it any will do.
        audience: Option<String> = text("text that is not blank").optional(),
    }
}

section! {
    /// The secret behind derived ids.
    pub struct Ids {
        /// The installation's id secret: made once, backed up, never rotated, because identities and direct conversations are named by it.
        secret: SecretString = secret("64 hexadecimal digits (32 random bytes)", |text| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit())),
    }
}

section! {
    /// Logs and traces.
    pub struct Telemetry {
        /// Which log lines are written: a level, or levels by module.
        filter: String = checked_text("levels such as info or info,chat4all_nats=debug", is_filter).or("info"),
        /// How log lines are written: `json` for machines, `text` for terminals.
        format: LogFormat = log_format().or(LogFormat::Json),
        /// Where spans are sent (OTLP over HTTP, protobuf): the collector's address without `/v1/traces`. Without TLS: put a collector beside this process.
        otlp_endpoint: Option<Url> = address("an address such as http://127.0.0.1:4318", &["http"]).optional(),
        /// The share of traces that is kept, where the caller has not decided already. Trace ids exist also without. Nothing is kept without `otlp_endpoint`.
        sample_ratio: f64 = ratio().or(1.0),
    }
}

fn is_filter(text: &str) -> bool {
    tracing_subscriber::EnvFilter::builder().parse(text).is_ok()
}

section! {
    /// Events in, rows out.
    pub struct Projector {
        /// Events per transaction, at most.
        batch: usize = count(1, 10_000).or(500usize),
        /// How long events are gathered after a commit, before the next transaction begins: fewer, larger transactions, and reads that are so much later. What comes after a pause of that length is folded at once.
        gather_ms: Milliseconds = milliseconds(1_000).or(1),
        /// An event that cannot be folded: `park` puts it aside as a dead letter and goes on, `halt` stops its partition until somebody has looked.
        poison: Poison = poison().or(Poison::Park),
    }
}

section! {
    /// The outside world.
    pub struct Bridges {
        /// How long a provider may take to answer one call.
        provider_timeout_ms: Milliseconds = milliseconds(DAY_MS).or(10_000),
        /// How long to wait for a receipt that tells whether an interrupted send went out; then the account's `unsure` says what follows.
        unsure_wait_ms: Milliseconds = milliseconds(DAY_MS).or(15_000),
        /// How long a message is worth delivering; then it has failed as expired.
        valid_for_s: Seconds = seconds(31_536_000).or(86_400),
        /// The waits between tries after a passing failure, with full jitter; the last one repeats.
        transient_schedule_ms: Vec<Milliseconds> = schedule().or([1_000, 5_000, 30_000, 120_000, 600_000, 1_800_000, 3_600_000].map(Milliseconds)),
        /// How often an account that needs its operator is tried with one message, all workers together. Providers count calls with a wrong token.
        probe_every_ms: Milliseconds = milliseconds(DAY_MS).or(60_000),
        /// The circuit breaker of an account looks at this many of its last calls. Each worker counts its own; what one opens is open for all.
        breaker_calls: usize = count(1, 10_000).or(20usize),
        /// The breaker opens when so many of them in a hundred failed in passing (TRANSIENT, UNSURE) …
        breaker_failing_percent: u64 = whole(1, 100).or(50u64),
        /// … and all of them were made within this time.
        breaker_within_ms: Milliseconds = milliseconds(DAY_MS).or(30_000),
        /// How long it stays open; then one message tries whether the provider is well again.
        breaker_open_ms: Milliseconds = milliseconds(DAY_MS).or(30_000),
        /// The largest body of a webhook call, in bytes.
        webhook_body_limit_bytes: usize = count(1_024, 4 * 1_048_576).or(4_194_304usize),
    }
}

section! {
    /// Subscriptions, server-sent events and notifications.
    pub struct Live {
        /// Connections that follow live at a time, per process; more are 503.
        max_connections: usize = count(1, 1_000_000).or(10_000usize),
        /// Those of one caller, per process; more are 429.
        max_connections_per_caller: usize = count(1, 1_000_000).or(100usize),
        /// Those whose client has not said yet who it is: on a WebSocket it has five seconds for that. More are 503.
        max_strangers: usize = count(1, 1_000_000).or(500usize),
    }
}

section! {
    /// How a role stops.
    pub struct Shutdown {
        /// How long work in flight may take to finish after SIGINT or SIGTERM; then it is cut off.
        grace_ms: Milliseconds = milliseconds(DAY_MS).or(20_000),
    }
}

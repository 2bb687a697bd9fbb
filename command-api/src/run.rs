//! The role as a process of its own: connect, open the log, serve until shutdown.

use std::time::Duration;

use chat4all_domain::{IdSecret, PartitionCount};
use chat4all_nats::connect;
use chat4all_nats::follower::Follower;
use chat4all_nats::streams::Layout;
use chat4all_nats::{Log, fullness, log};
use chat4all_service::auth::Verifier;
use chat4all_service::health::Checks;
use chat4all_service::http::{Shell, serve};
use chat4all_service::metrics::Metrics;
use chat4all_service::{Config, Shutdown};
use secrecy::ExposeSecret;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::{Accounts, CommandApi, CommandMetrics, Deps, Settings, Stores};

/// How long the start waits until every partition is followed.
const BEGIN_WITHIN: Duration = Duration::from_secs(30);

/// Why the role did not start, or ended.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// No connection to the broker.
    #[error("failed to connect the command API to the broker")]
    Connect(#[source] connect::Error),
    /// The log cannot be used.
    #[error("failed to open the log for the command API")]
    Log(#[source] log::Error),
    /// The log is there, but does not answer.
    #[error("the log could not be followed within {} s", BEGIN_WITHIN.as_secs())]
    Follow,
    /// The address is taken, or not ours.
    #[error("failed to listen on {address}")]
    Listen {
        /// The address.
        address: std::net::SocketAddr,
        /// Why not.
        source: std::io::Error,
    },
    /// The server ended.
    #[error("failed to serve the command API")]
    Serve(#[source] std::io::Error),
}

/// Serves until `shutdown`; then answers what has come in and waits until its appends are decided.
///
/// # Errors
/// See [`Error`].
pub async fn run(config: Config, shutdown: Shutdown) -> Result<(), Error> {
    let metrics = Metrics::new();
    let checks = Checks::new("command-api");
    let log = open(&config).await?;
    let begun = begin(&config, log, &metrics, &shutdown).await?;
    begun.api.register_checks(&checks);
    let routes = begun
        .api
        .router()
        .merge(metrics.routes())
        .merge(checks.routes());
    let routes = Shell::new(&config.http, &metrics).wrap(routes);
    let address = config.http.listen;
    let listener = TcpListener::bind(address).await;
    let listener = listener.map_err(|source| Error::Listen { address, source })?;
    let served = serve(listener, routes, &shutdown)
        .await
        .map_err(Error::Serve);
    // A client that hung up does not stop its command: what was begun is decided before the process ends, and while
    // anything is decided, membership is followed.
    begun.commands.close();
    tokio::select! {
        () = begun.commands.wait() => {}
        () = shutdown.hard().cancelled() => {}
    }
    drop(begun.following);
    served
}

async fn open(config: &Config) -> Result<Log, Error> {
    let urls: Vec<_> = config.nats.url.iter().map(url::Url::as_str).collect();
    let broker = connect::Config {
        url: urls.join(","),
        name: format!("{}/command-api", config.nats.name),
        patient: false,
    };
    let client = connect::connect(&broker).await.map_err(Error::Connect)?;
    let partitions = u8::try_from(config.log.partitions)
        .ok()
        .and_then(PartitionCount::new);
    let layout = Layout {
        partitions: partitions.expect("the configuration has checked 1 to 64"),
        replicas: config.nats.replicas,
        max_bytes: config.nats.max_bytes,
    };
    Log::open(client, &layout).await.map_err(Error::Log)
}

struct Begun {
    api: CommandApi,
    /// Dropped, it ends the following of conversations.
    following: DropGuard,
    /// Commands that were begun.
    commands: TaskTracker,
}

async fn begin(
    config: &Config,
    log: Log,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> Result<Begun, Error> {
    let (commands, followers) = (TaskTracker::new(), TaskTracker::new());
    let stores = Stores::new(&log, &commands, config.log.cached_states);
    let stop = CancellationToken::new();
    let follower = Follower::start(stores.conversations.clone(), &followers, &stop);
    let following = stop.drop_guard();
    if !follower.begun(Instant::now() + BEGIN_WITHIN).await {
        return Err(Error::Follow);
    }
    let measuring = fullness::keep_measuring(log, shutdown.soft().clone());
    shutdown.spawn("fullness", async move {
        measuring.await;
        Ok::<_, std::convert::Infallible>(())
    });
    let secret = IdSecret::from_hex(config.ids.secret.expose_secret());
    let auth = &config.auth;
    let api = CommandApi::new(Deps {
        stores,
        follower,
        accounts: Accounts::configured(&config.channels),
        verifier: Verifier::new(&auth.hs256_secret, &auth.issuer, auth.audience.as_deref()),
        id_secret: secret.expect("the configuration has checked its form"),
        settings: Settings::from(config),
        metrics: CommandMetrics::register(metrics),
    });
    Ok(Begun {
        api,
        following,
        commands,
    })
}

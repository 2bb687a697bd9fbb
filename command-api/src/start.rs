//! The role at work: everything that must run beside the routes, and its orderly end.

use std::time::Duration;

use axum::Router;
use chat4all_domain::IdSecret;
use chat4all_nats::follower::Follower;
use chat4all_nats::{Log, fullness};
use chat4all_service::auth::Verifier;
use chat4all_service::health::Checks;
use chat4all_service::metrics::Metrics;
use chat4all_service::{Config, Shutdown};
use secrecy::ExposeSecret;
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use tracing::warn;
use utoipa::openapi::OpenApi;

use crate::metrics::MembershipSeen;
use crate::{Accounts, CommandApi, CommandMetrics, Deps, Settings, Stores};

/// How often it is said that the start waits for the log.
const SAY_EVERY: Duration = Duration::from_secs(30);

/// The command API at work.
#[derive(Debug)]
pub struct Running {
    api: CommandApi,
    /// Dropped, it ends the following of conversations.
    following: DropGuard,
    /// Commands that were begun.
    commands: TaskTracker,
}

impl Running {
    /// Its routes, and the document that describes them.
    pub fn routes(&self) -> (Router, OpenApi) {
        self.api.clone().routes()
    }

    /// What must be right for commands to be taken in.
    pub fn register_checks(&self, checks: &Checks) {
        self.api.register_checks(checks);
    }

    /// Waits, once nobody is served any more, until everything that was begun is decided: a client that hung up does not
    /// stop its command. While anything is decided, membership is followed.
    pub async fn finish(self, shutdown: &Shutdown) {
        self.commands.close();
        tokio::select! {
            () = self.commands.wait() => {}
            () = shutdown.hard().cancelled() => {}
        }
        drop(self.following);
    }
}

/// Starts what runs beside the routes: following membership, and measuring how full the log is. Waits until every partition
/// is followed, for as long as that takes; drop it to give up.
pub async fn start(config: &Config, log: Log, metrics: &Metrics, shutdown: &Shutdown) -> Running {
    let (commands, followers) = (TaskTracker::new(), TaskTracker::new());
    let stores = Stores::new(&log, &commands, config.log.cached_states);
    let stop = CancellationToken::new();
    let follower = Follower::start(stores.conversations.clone(), &followers, &stop);
    let following = stop.drop_guard();
    while !follower.begun(Instant::now() + SAY_EVERY).await {
        warn!("waiting until every partition of the log can be followed");
    }
    let measuring = fullness::keep_measuring(log, shutdown.soft().clone());
    shutdown.spawn("fullness", async move {
        measuring.await;
        Ok::<_, std::convert::Infallible>(())
    });
    MembershipSeen::register(metrics, follower.clone());
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
    Running {
        api,
        following,
        commands,
    }
}

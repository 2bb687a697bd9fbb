//! Starting and stopping.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{any, post};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::info;

use crate::config::Config;
use crate::connection::{Cut, CuttableListener};
use crate::world::World;
use crate::{account, control, graph};

/// Largest body of a call.
const MAX_BODY: usize = 1024 * 1024;
/// How long running calls may take at the end.
const GRACE: Duration = Duration::from_secs(5);

/// The simulator cannot start, or has ended by itself.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// The configuration makes no sense; says which field and what would be right.
    #[error("the simulator's configuration is not valid: {0}")]
    Config(String),
    /// It cannot listen there.
    #[error("failed to listen on {addr}")]
    Listen {
        /// Where.
        addr: SocketAddr,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The HTTP client for webhooks cannot be built.
    #[error("failed to build the client for webhooks")]
    Client(#[source] reqwest::Error),
    /// The server has ended with an error.
    #[error("the simulator's server has ended")]
    Serve(#[source] std::io::Error),
    /// A task of it has panicked.
    #[error("a task of the simulator has died")]
    Died(#[source] tokio::task::JoinError),
}

/// Where to start one.
#[derive(Debug)]
pub struct Simulator;

/// A simulator that answers. Stop it with [`Running::stop`]; dropping it stops it too, without waiting.
#[derive(Debug)]
pub struct Running {
    /// Where it listens.
    pub addr: SocketAddr,
    /// The seed everything is drawn from.
    pub seed: u64,
    shutdown: CancellationToken,
    tasks: TaskTracker,
    server: Option<tokio::task::JoinHandle<Result<(), RunError>>>,
}

impl Simulator {
    /// Starts one; when this returns, it answers.
    ///
    /// # Errors
    /// [`RunError::Config`], [`RunError::Listen`] or [`RunError::Client`].
    pub async fn start(config: Config) -> Result<Running, RunError> {
        start(config, CancellationToken::new()).await
    }
}

/// Runs a simulator until `shutdown`.
///
/// # Errors
/// [`RunError`] if it cannot start, or if its server ends by itself.
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), RunError> {
    start(config, shutdown.child_token()).await?.ended().await
}

impl Running {
    /// Where to send to: `http://127.0.0.1:4711`, without a slash at the end.
    pub fn url(&self) -> String {
        format!("http://{}", self.addr)
    }
    /// Stops it and waits until it has: running calls are answered, waiting webhooks are not sent any more.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn stop(self) -> Result<(), RunError> {
        self.shutdown.cancel();
        self.ended().await
    }
    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// As [`run`].
    pub async fn ended(mut self) -> Result<(), RunError> {
        let ended = match self.server.take() {
            Some(server) => server.await.map_err(RunError::Died)?,
            None => Ok(()),
        };
        self.tasks.wait().await;
        ended
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if self.server.is_some() {
            self.shutdown.cancel();
        }
    }
}

async fn start(config: Config, shutdown: CancellationToken) -> Result<Running, RunError> {
    config.settings.validate().map_err(RunError::Config)?;
    for account in &config.accounts {
        account::validate(account).map_err(RunError::Config)?;
    }
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(Duration::from_secs(5))
        .timeout(Duration::from_secs(60))
        .http1_only()
        .tcp_nodelay(true)
        .build()
        .map_err(RunError::Client)?;
    // 32 bits, so that a seed is the same number in every tool that reads JSON.
    let seed = config.seed.unwrap_or_else(|| u64::from(fastrand::u32(..)));
    let listen_error = |source| RunError::Listen {
        addr: config.listen,
        source,
    };
    let listener = TcpListener::bind(config.listen)
        .await
        .map_err(listen_error)?;
    let addr = listener.local_addr().map_err(listen_error)?;
    let world = Arc::new(World::new(
        config.settings,
        config.state_limit,
        seed,
        client,
        shutdown.clone(),
    ));
    for account in config.accounts {
        world.put_account(account);
    }
    info!(%addr, seed, "simulator listens on http://{addr}, seed {seed}");
    let server = world.tracker.spawn(serve(world.clone(), listener));
    Ok(Running {
        addr,
        seed,
        shutdown,
        tasks: world.tracker.clone(),
        server: Some(server),
    })
}

async fn serve(world: Arc<World>, listener: TcpListener) -> Result<(), RunError> {
    let shutdown = world.shutdown.clone();
    let app = routes(world.clone()).into_make_service_with_connect_info::<Cut>();
    let server = axum::serve(CuttableListener(listener), app)
        .with_graceful_shutdown(shutdown.clone().cancelled_owned());
    let server = std::pin::pin!(server.into_future());
    let overdue = async {
        shutdown.cancelled().await;
        tokio::time::sleep(GRACE).await;
    };
    let ended = tokio::select! {
        ended = server => ended.map_err(RunError::Serve),
        () = overdue => Ok(()),
    };
    shutdown.cancel();
    world.tracker.close();
    ended
}

fn routes(world: Arc<World>) -> Router {
    control::routes()
        .route(
            "/{version}/{phone_number_id}/messages",
            post(graph::messages).fallback(graph::unknown_path),
        )
        .fallback(any(graph::unknown_path))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .with_state(world)
}

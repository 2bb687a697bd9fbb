//! The roles as processes: configuration in, parts started, one HTTP server over all of them, an orderly end.
//!
//! A role is one part, `all` is every part in one process. What is common – connecting, listening, health, metrics,
//! shutdown – is here, once.

mod appends;
mod broker;
mod document;
mod numbers;
mod owned;
mod wait;

use std::net::SocketAddr;
use std::pin::pin;
use std::process::ExitCode;

use anyhow::Context as _;
use axum::Router;
use chat4all_channel_bridges as channel_bridges;
use chat4all_command_api as command_api;
use chat4all_nats::Log;
use chat4all_nats::parked::Parked;
use chat4all_postgres as postgres;
use chat4all_projector as projector;
use chat4all_query_api::{Limits, Live, Models, QueryApi};
use chat4all_service::auth::Verifier;
use chat4all_service::config::LogFormat;
use chat4all_service::health::Checks;
use chat4all_service::http::{Door, Shell, serve};
use chat4all_service::metrics::Metrics;
use chat4all_service::{Chain, Config, Shutdown, shutdown, telemetry};
use clap::Args;
use tokio::net::TcpListener;
use tokio::time::Instant;
use tracing::error;
use utoipa::openapi::OpenApi;
use uuid::Uuid;

pub use crate::tool::database;
use crate::tool::{Common, broker_later, complain, note};

/// How much longer than Postgres itself a read waits for an answer.
const READ_MARGIN: std::time::Duration = std::time::Duration::from_millis(500);
/// How long readiness waits for Postgres: less than a check may take, so that it can say what is wrong.
const CHECK_WITHIN: std::time::Duration = std::time::Duration::from_millis(1_500);

/// How long readiness waits for the stream of parked items; less than a check may take.
const PARKED_WAIT: std::time::Duration = std::time::Duration::from_secs(1);
/// When a log that could not be opened is tried again.
const FOLLOW_AGAIN: std::time::Duration = std::time::Duration::from_secs(30);

/// Which parts a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Every part.
    All,
    /// POST in, events out.
    CommandApi,
    /// Events in, rows out.
    Projector,
    /// GraphQL and REST reads.
    QueryApi,
    /// Deliveries out, receipts and messages in.
    Bridges,
}

impl Role {
    /// The role's name, as its subcommand.
    pub const fn name(self) -> &'static str {
        match self {
            Self::All => "all",
            Self::CommandApi => "command-api",
            Self::Projector => "projector",
            Self::QueryApi => "query-api",
            Self::Bridges => "bridges",
        }
    }
    const fn takes_commands(self) -> bool {
        matches!(self, Self::All | Self::CommandApi)
    }
    const fn projects(self) -> bool {
        matches!(self, Self::All | Self::Projector)
    }
    const fn bridges(self) -> bool {
        matches!(self, Self::All | Self::Bridges)
    }
    const fn needs_the_log(self) -> bool {
        self.takes_commands() || self.projects() || self.bridges()
    }
    const fn answers_queries(self) -> bool {
        matches!(self, Self::All | Self::QueryApi)
    }
}

/// Flags of a role.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all provision && chat4all all                    everything but the servers, on their default addresses
  CHAT4ALL_HTTP__LISTEN=0.0.0.0:8081 chat4all query-api
  chat4all command-api --config /etc/chat4all.toml
  chat4all projector --json 2>&1 | jq -c 'select(.level != \"INFO\")'

Every role serves /livez, /readyz and /metrics on its address from its first moment. While the broker or the log is not
there it waits, and /readyz says for what. SIGTERM stops it in order.
Exit code: 0 stopped cleanly, 1 failed, 2 work was cut off because stopping took too long.")]
pub struct RoleCommand {
    #[command(flatten)]
    common: Common,
    /// Log JSON to standard error, whatever telemetry.format says.
    #[arg(long)]
    json: bool,
}

/// Runs a role until a signal asks it to stop, and returns the honest exit code.
pub fn main(role: Role, command: &RoleCommand) -> ExitCode {
    let mut config = match command.common.load() {
        Ok(loaded) => loaded.config,
        Err(error) => {
            complain(role.name(), &error);
            return ExitCode::FAILURE;
        }
    };
    if command.json {
        config.telemetry.format = LogFormat::Json;
    }
    let runtime = match tokio::runtime::Runtime::new() {
        Ok(runtime) => runtime,
        Err(error) => {
            note(format_args!(
                "chat4all {}: cannot start the runtime: {error}",
                role.name()
            ));
            return ExitCode::FAILURE;
        }
    };
    let outcome = runtime.block_on(async {
        let guard = match telemetry::init(&config.telemetry, role.name()) {
            Ok(guard) => guard,
            Err(error) => {
                note(format_args!("chat4all {}: {error}", role.name()));
                return shutdown::Outcome::Failed;
            }
        };
        let grace = config.shutdown.grace_ms.duration();
        let outcome =
            shutdown::run(role.name(), grace, |shutdown| run(role, config, shutdown)).await;
        drop(guard);
        outcome
    });
    outcome.into()
}

/// Runs the parts of `role` until `shutdown`. It listens from the first moment: while the log is not there, it is alive, not
/// ready, and answers what needs no log.
///
/// # Errors
/// What kept it from starting, or ended it. A broker that is away is none, it waits.
pub async fn run(role: Role, config: Config, shutdown: Shutdown) -> anyhow::Result<()> {
    let Prepared {
        metrics,
        checks,
        mut parts,
        waiting,
        followed,
    } = prepare(role, &config, &shutdown).await?;
    numbers::keep_readiness(&metrics, &checks, &shutdown);
    let address: SocketAddr = config.http.listen;
    let listener = TcpListener::bind(address).await;
    let listener = listener.with_context(|| format!("cannot listen on {address}"))?;
    let shell = Shell::new(&config.http, &metrics);
    let door = Door::new(shell.wrap_for_now(parts.routes.clone()));
    let mut served = pin!(serve(listener, door.routes(), &shutdown));

    let mut commands = None;
    if let Some(waiting) = waiting {
        let starting = async {
            let log = waiting.for_log(&config, role.name()).await?;
            let own = (&metrics, &checks);
            let commands = start(role, &config, &log, own, &shutdown, &mut parts).await?;
            anyhow::Ok((log, commands))
        };
        let (log, running) = tokio::select! {
            // Asked to stop before it was at work.
            ended = &mut served => return ended.context("the HTTP server ended"),
            // On the heap: it holds every part.
            started = Box::pin(starting) => started?,
        };
        commands = running;
        door.open(parts.finished(&shell)?);
        broker::register_checks(&checks, &log, &config)?;
        if let Some(live) = followed {
            shutdown.spawn("live", live.run(log));
        }
    } else {
        if let Some(live) = followed {
            shutdown.spawn(
                "live",
                Box::pin(follow_later(config, shutdown.clone(), live)),
            );
        }
        door.open(parts.finished(&shell)?);
    }
    let served = served.await.context("the HTTP server ended");
    if let Some(commands) = commands {
        commands.finish(&shutdown).await;
    }
    served
}

/// A role before anybody can ask how it is.
struct Prepared {
    metrics: Metrics,
    checks: Checks,
    parts: Parts,
    /// For the log, if the role needs it: not ready until it is there and at work.
    waiting: Option<wait::Waiting>,
    /// What follows the log for subscribers.
    followed: Option<Live>,
}

async fn prepare(role: Role, config: &Config, shutdown: &Shutdown) -> anyhow::Result<Prepared> {
    let (metrics, checks) = (Metrics::new(), Checks::new(role.name()));
    let mut parts = Parts {
        routes: Router::new().merge(metrics.routes()).merge(checks.routes()),
        documents: Vec::new(),
    };
    let waiting = role.needs_the_log().then(|| wait::Waiting::begin(&checks));
    let mut followed = None;
    if role.answers_queries() {
        // Most reads need no broker: it may be away now, and later.
        let client = broker_later(config, role.name()).await?;
        let live = following(config, (&metrics, &checks), shutdown);
        let (part, document) = queries(config, &checks, Parked::new(client), live.clone())?;
        parts.add(part, document);
        followed = Some(live);
    }
    Ok(Prepared {
        metrics,
        checks,
        parts,
        waiting,
        followed,
    })
}

/// What a process serves.
struct Parts {
    routes: Router,
    documents: Vec<OpenApi>,
}

impl Parts {
    fn add(&mut self, routes: Router, document: OpenApi) {
        self.routes = std::mem::take(&mut self.routes).merge(routes);
        self.documents.push(document);
    }

    /// Every route, and the document of them, with the server's manners.
    fn finished(self, shell: &Shell) -> anyhow::Result<Router> {
        Ok(match document::joined(self.documents) {
            Some(all) => {
                let routes = self.routes.merge(document::serve(&all)?);
                shell.wrap(routes, Some(document::PATH))
            }
            None => shell.wrap(self.routes, None),
        })
    }
}

/// Starts the parts that need the log.
async fn start(
    role: Role,
    config: &Config,
    log: &Log,
    (metrics, checks): (&Metrics, &Checks),
    shutdown: &Shutdown,
    parts: &mut Parts,
) -> anyhow::Result<Option<command_api::Running>> {
    appends::register(metrics, log);
    let mut commands = None;
    if role.takes_commands() {
        let running = command_api::start(config, log.clone(), metrics, shutdown).await;
        running.register_checks(checks);
        numbers::show_fullness(metrics, log);
        let (routes, document) = running.routes();
        parts.add(routes, document);
        commands = Some(running);
    }
    if role.projects() {
        project(config, log, (metrics, checks), shutdown)?;
    }
    if role.bridges() {
        let routes = bridge(config, log, metrics, shutdown)?;
        parts.routes = std::mem::take(&mut parts.routes).merge(routes);
    }
    Ok(commands)
}

fn project(
    config: &Config,
    log: &Log,
    (metrics, checks): (&Metrics, &Checks),
    shutdown: &Shutdown,
) -> anyhow::Result<()> {
    // In a process that also answers queries, their check says the same.
    let pool = database(config, "projector-check")?.pool(1);
    let reads = postgres::read::Reads::new(pool, CHECK_WITHIN);
    check_postgres(checks, reads, "nothing is folded, and reads stay behind");
    let counted = projector::Metrics::default();
    metrics.register(|registry| counted.register(registry));
    let worker = Uuid::now_v7().simple().to_string();
    let folding = projector::Config {
        log: log.clone(),
        postgres: database(config, "projector")?,
        owned: owned::by_leases(log.clone(), "projector", &worker, shutdown),
        batch: config.projector.batch,
        gather: config.projector.gather_ms.duration(),
        poison: config.projector.poison,
        metrics: counted,
    };
    let stopping = shutdown.clone();
    // On the heap: it holds every read model's batch.
    shutdown.spawn(
        "projector",
        Box::pin(projector::Projector::run(folding, stopping)),
    );
    Ok(())
}

fn bridge(
    config: &Config,
    log: &Log,
    metrics: &Metrics,
    shutdown: &Shutdown,
) -> anyhow::Result<Router> {
    let worker = Uuid::now_v7().simple().to_string();
    let settings = channel_bridges::Config::new(config, worker)?;
    let bridges = channel_bridges::Bridges::new(log, &settings, metrics)?;
    let (routes, stop) = (bridges.routes(), shutdown.soft().clone());
    shutdown.spawn("bridges", Box::pin(bridges.run(stop)));
    Ok(routes)
}

/// What follows the log for subscribers, once it has one.
fn following(config: &Config, (metrics, checks): (&Metrics, &Checks), stop: &Shutdown) -> Live {
    let limits = Limits {
        connections: config.live.max_connections,
        per_caller: config.live.max_connections_per_caller,
        strangers: config.live.max_strangers,
    };
    let live = Live::new(limits, stop.soft().clone());
    metrics.register(|registry| live.metrics().register(registry));
    let asked = live.clone();
    checks.register_partial("live", move || std::future::ready(asked.check()));
    live
}

/// Follows the log as soon as it is there; reads do not wait for that.
async fn follow_later(config: Config, shutdown: Shutdown, live: Live) -> anyhow::Result<()> {
    // What is missing is said by the check `live`, which makes nothing red.
    let waiting = wait::Waiting::begin(&Checks::new("live"));
    loop {
        let log = tokio::select! {
            () = shutdown.soft().cancelled() => return Ok(()),
            log = waiting.for_log(&config, "query-api") => log,
        };
        match log {
            Ok(log) => {
                return live
                    .run(log)
                    .await
                    .context("a follower of the log has died");
            }
            // Waiting does not mend it, but reads need no broker and go on.
            Err(error) => {
                error!(error = %Chain(&error), "nobody can follow live: the log cannot be opened");
            }
        }
        tokio::select! {
            () = shutdown.soft().cancelled() => return Ok(()),
            () = tokio::time::sleep(FOLLOW_AGAIN) => {}
        }
    }
}

fn queries(
    config: &Config,
    checks: &Checks,
    parked: Parked,
    live: Live,
) -> anyhow::Result<(Router, OpenApi)> {
    let settings = &config.postgres;
    let statement = settings.statement_timeout_ms.duration();
    let pool = database(config, "query-api")?.pool_to_read(
        u32::try_from(settings.max_connections).context("postgres.max_connections")?,
        settings.acquire_timeout_ms.duration(),
        statement,
    );
    let reads = postgres::read::Reads::new(pool.clone(), statement + READ_MARGIN);
    check_postgres(checks, reads.clone(), "reads are 503");
    let asked = parked.clone();
    checks.register_partial("parked_inbound", move || {
        let asked = asked.clone();
        async move {
            let answer = asked.check(Instant::now() + PARKED_WAIT).await;
            answer.map_err(|error| {
                format!("{error}; dead letters of the kind PARKED_INBOUND are left out")
            })
        }
    });
    let models = Models {
        reads,
        projected: postgres::Projected::new(pool),
        parked,
    };
    let auth = &config.auth;
    let verifier = Verifier::new(&auth.hs256_secret, &auth.issuer, auth.audience.as_deref());
    Ok(QueryApi::new(models, verifier, live))
}

/// Readiness is red while Postgres does not answer, and says what that means.
fn check_postgres(checks: &Checks, reads: postgres::read::Reads, meaning: &'static str) {
    checks.register("postgres", move || {
        let reads = reads.clone();
        async move {
            match tokio::time::timeout(CHECK_WITHIN, reads.answers()).await {
                Ok(Ok(())) => Ok(()),
                Ok(Err(_)) | Err(_) => Err(format!("Postgres does not answer: {meaning}")),
            }
        }
    });
}

#[cfg(test)]
mod tests;

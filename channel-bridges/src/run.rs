//! Everything together: routes for the process's server, and the work beside it.

use std::sync::Arc;

use axum::Router;
use chat4all_domain::ChannelKind;
use chat4all_nats::{Log, Store};
use chat4all_service::metrics;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::Config;
use crate::http;
use crate::inbound::Inbox;
use crate::metrics::Metrics;
use crate::outbound::{self, Worker};
use crate::receipts::Receipts;
use crate::redrive::Redriver;

/// The bridges of this process: one per kind of channel that has an account.
pub struct Bridges {
    routes: Router,
    workers: Vec<(Arc<Worker>, Arc<Inbox>)>,
    redriver: Arc<Redriver>,
    tasks: TaskTracker,
}

/// The bridges cannot be made.
#[derive(Debug, thiserror::Error)]
#[error("failed to make the client for calls to {kind}")]
pub struct Error {
    kind: ChannelKind,
    #[source]
    source: reqwest::Error,
}

impl Bridges {
    /// Makes them. Nothing runs yet. Registers its metrics, which a process can do once.
    ///
    /// # Errors
    /// [`Error`] when an HTTP client cannot be made.
    pub fn new(log: &Log, config: &Config, metrics: &metrics::Metrics) -> Result<Self, Error> {
        let metrics = Metrics::new(metrics);
        let tasks = TaskTracker::new();
        let deliveries = Store::new(log.clone(), tasks.clone());
        let receipts = Receipts::new(log.clone(), deliveries.clone(), metrics.clone());
        let workers = config.kinds().map(|kind| {
            let parts = (log.clone(), deliveries.clone(), receipts.clone());
            let worker = Worker::new(kind, config, parts, &metrics)
                .map_err(|source| Error { kind, source })?;
            let inbox = Inbox::new(kind, config, log, receipts.clone(), &tasks, &metrics);
            Ok((Arc::new(worker), Arc::new(inbox)))
        });
        let workers: Vec<_> = workers.collect::<Result<_, Error>>()?;
        let inboxes = workers
            .iter()
            .map(|(_, inbox)| (inbox.kind, Arc::clone(inbox)));
        let redriver = Redriver::new(log, deliveries, inboxes.collect(), &config.worker);
        Ok(Self {
            workers,
            redriver: Arc::new(redriver),
            routes: http::routes(log.clone(), config, &metrics),
            tasks,
        })
    }

    /// `GET` and `POST /webhooks/{kind}/{account}`, with a body limit of their own. They work whether or not
    /// [`Bridges::run`] does.
    pub fn routes(&self) -> Router {
        self.routes.clone()
    }

    /// Delivers and understands until `stop`; then finishes what is under way and gives back its share. Dropping the future
    /// stops at once: an attempt under way then has no outcome.
    ///
    /// # Errors
    /// [`outbound::Error`] when a partition cannot be followed or a part has died.
    pub async fn run(self, stop: CancellationToken) -> Result<(), outbound::Error> {
        let mut parts = JoinSet::new();
        let (redriver, tasks, until) = (self.redriver, self.tasks.clone(), stop.clone());
        parts.spawn(async move { redriver.run(&tasks, until).await });
        for (worker, inbox) in self.workers {
            let (tasks, until) = (self.tasks.clone(), stop.clone());
            parts.spawn(async move { worker.run(&tasks, until).await });
            let (tasks, until) = (self.tasks.clone(), stop.clone());
            parts.spawn(async move { inbox.run(&tasks, until).await });
        }
        while let Some(ended) = parts.join_next().await {
            ended.map_err(outbound::Error::Died)??;
        }
        self.tasks.close();
        self.tasks.wait().await;
        Ok(())
    }
}

//! The role itself: what commands work with, and the routes.

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::FromRef;
use chat4all_domain::{Aggregate, Conversation, Delivery, IdSecret, Identity, Message, Reader};
use chat4all_nats::execute::{self, Context, Executed};
use chat4all_nats::follower::Follower;
use chat4all_nats::fullness::ACCEPT_UP_TO_PERCENT;
use chat4all_nats::{Log, Store};
use chat4all_service::Config;
use chat4all_service::auth::Verifier;
use chat4all_service::health::Checks;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;

use crate::{Accounts, CommandMetrics, openapi};

/// The aggregates that commands are about. One per process: other roles in it share them.
#[derive(Clone, Debug)]
pub struct Stores {
    /// Messages.
    pub messages: Store<Message>,
    /// Conversations.
    pub conversations: Store<Conversation>,
    /// Outside addresses.
    pub identities: Store<Identity>,
    /// Read marks.
    pub readers: Store<Reader>,
    /// What became of messages outside: for redriving. Bridges have a store of their own; the log decides between the two.
    pub deliveries: Store<Delivery>,
}

impl Stores {
    /// Stores on `log`, each with room for `cached_states`. Work that was begun is tracked by `tasks`.
    pub fn new(log: &Log, tasks: &TaskTracker, cached_states: u64) -> Self {
        Self {
            messages: Store::with_capacity(log.clone(), tasks.clone(), cached_states),
            conversations: Store::with_capacity(log.clone(), tasks.clone(), cached_states),
            identities: Store::with_capacity(log.clone(), tasks.clone(), cached_states),
            readers: Store::with_capacity(log.clone(), tasks.clone(), cached_states),
            deliveries: Store::with_capacity(log.clone(), tasks.clone(), cached_states),
        }
    }
}

/// What can be set.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// How long a command may take until its outcome is unknown.
    pub command_deadline: Duration,
    /// How long a message is worth delivering.
    pub valid_for: Duration,
}

impl From<&Config> for Settings {
    fn from(config: &Config) -> Self {
        Self {
            command_deadline: config.http.command_deadline_ms.duration(),
            valid_for: config.bridges.valid_for_s.duration(),
        }
    }
}

/// What the API is made of.
#[derive(Debug)]
pub struct Deps {
    /// The aggregates.
    pub stores: Stores,
    /// Keeps `stores.conversations` true to what others append. It must have begun.
    pub follower: Follower<Conversation>,
    /// The accounts we have at providers.
    pub accounts: Accounts,
    /// Who may call.
    pub verifier: Verifier,
    /// What derived ids rest on.
    pub id_secret: IdSecret,
    /// What can be set.
    pub settings: Settings,
    /// What is counted.
    pub metrics: CommandMetrics,
}

/// The command API. Cheap to clone.
#[derive(Clone, Debug)]
pub struct CommandApi(Arc<Deps>);

impl CommandApi {
    /// Over what it is made of.
    pub fn new(deps: Deps) -> Self {
        Self(Arc::new(deps))
    }

    /// Every route, and the document that describes them; for servers that put several APIs together.
    pub fn routes(self) -> (Router, utoipa::openapi::OpenApi) {
        openapi::routes().with_state(self).split_for_parts()
    }

    /// Every route, and `GET /v1/openapi.json`.
    pub fn router(self) -> Router {
        let (routes, document) = self.routes();
        routes.merge(openapi::serve(document))
    }

    /// What must be right for commands to be taken in, besides the connection to the broker: room in the log.
    pub fn register_checks(&self, checks: &Checks) {
        let log = self.log().clone();
        checks.register("log", move || {
            let percent = log.fullness().fullest_percent();
            async move {
                let full =
                    format!("a partition of the log is {percent} % full; nothing new is taken in");
                (percent < ACCEPT_UP_TO_PERCENT).then_some(()).ok_or(full)
            }
        });
    }

    pub(crate) fn stores(&self) -> &Stores {
        &self.0.stores
    }
    pub(crate) fn log(&self) -> &Log {
        self.0.stores.messages.log()
    }
    pub(crate) fn follower(&self) -> &Follower<Conversation> {
        &self.0.follower
    }
    pub(crate) fn accounts(&self) -> &Accounts {
        &self.0.accounts
    }
    pub(crate) fn id_secret(&self) -> &IdSecret {
        &self.0.id_secret
    }
    pub(crate) fn settings(&self) -> Settings {
        self.0.settings
    }

    /// Carries a command out and counts it. `name` is the command's, for the metrics.
    pub(crate) async fn execute<A: Aggregate>(
        &self,
        store: &Store<A>,
        id: &A::Id,
        (name, command): (&'static str, A::Command),
        context: Context,
    ) -> Result<Executed<A>, execute::Error<A::Error>> {
        let begin = Instant::now();
        let result = store.execute(id, command, context).await;
        self.0.metrics.ended(name, &result, begin.elapsed());
        result
    }
}

impl FromRef<CommandApi> for Verifier {
    fn from_ref(api: &CommandApi) -> Self {
        api.0.verifier.clone()
    }
}

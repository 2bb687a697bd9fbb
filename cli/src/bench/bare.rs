//! The least that an HTTP server can make of a publish: a handler that takes a body, publishes what (a) publishes, and answers 202.
//! It runs in the process of the benchmark, and so saves a process that ours has.

use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use super::load::Operation;
use super::post::Post;
use super::raw::Publish;

/// Posts to such a server what is posted to ours.
pub(super) struct Bare {
    post: Post,
    /// Ends with it.
    _serving: JoinSet<()>,
}

impl Bare {
    /// One that publishes by `publish` and is posted to as `post` does.
    ///
    /// # Errors
    /// There is no port.
    pub async fn start(publish: &Arc<Publish>, post_to: &Post) -> anyhow::Result<Arc<Self>> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("http://{}/", listener.local_addr()?);
        let routes = Router::new()
            .route("/", post(accept))
            .with_state(Arc::clone(publish));
        let mut serving = JoinSet::new();
        // Whatever it does not do its client sees.
        serving.spawn(async move { drop(axum::serve(listener, routes).await) });
        Ok(Arc::new(Self {
            post: post_to.at(url),
            _serving: serving,
        }))
    }
}

async fn accept(State(publish): State<Arc<Publish>>, _: Bytes) -> (StatusCode, String) {
    match publish.once(fastrand::u64(..), Instant::now()).await {
        Ok(()) => (StatusCode::ACCEPTED, String::new()),
        Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error:#}")),
    }
}

impl Operation for Bare {
    async fn once(&self, n: u64, _: Instant) -> anyhow::Result<()> {
        self.post.send(n).await.map(drop)
    }
}

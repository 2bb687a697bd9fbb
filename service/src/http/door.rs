//! Routes that change while the server runs: a role listens from its first moment, and has its routes once it can serve them.

use axum::Router;
use axum::extract::Request;
use axum::handler::Handler;
use axum::routing::{MethodRouter, any_service};
use tokio::sync::watch;

/// Shows routes, and others later.
#[derive(Debug)]
pub struct Door(watch::Sender<MethodRouter>);

impl Door {
    /// Shows these for now.
    pub fn new(routes: Router) -> Self {
        Self(watch::Sender::new(any_service(routes)))
    }

    /// What is to be served. Each request meets the routes that are shown when it comes.
    pub fn routes(&self) -> Router {
        let shown = self.0.subscribe();
        Router::new().fallback(move |request: Request| {
            let routes = shown.borrow().clone();
            async move { routes.call(request, ()).await }
        })
    }

    /// Shows these from now on.
    pub fn open(&self, routes: Router) {
        drop(self.0.send_replace(any_service(routes)));
    }
}

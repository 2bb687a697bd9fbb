//! Listening, and stopping in two stages.

use std::future::IntoFuture;
use std::io;

use axum::Router;
use axum::serve::ListenerExt;
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::shutdown::Shutdown;

/// Serves until the soft stage; then accepts nothing new and answers what has come in. At the hard stage open connections
/// are dropped.
///
/// # Errors
/// The listener cannot say its own address. Failures of single connections are not errors of the server.
pub async fn serve(listener: TcpListener, routes: Router, shutdown: &Shutdown) -> io::Result<()> {
    let address = listener.local_addr()?;
    info!(%address, "listening on http://{address}");
    // Answers are small and written at once: waiting to fill a packet only costs time.
    let listener = listener.tap_io(|stream| {
        if let Err(error) = stream.set_nodelay(true) {
            warn!(%error, "a connection keeps its delay");
        }
    });
    let soft = shutdown.soft().clone();
    let server =
        axum::serve(listener, routes).with_graceful_shutdown(async move { soft.cancelled().await });
    tokio::select! {
        ended = server.into_future() => ended,
        () = shutdown.hard().cancelled() => Ok(()),
    }
}

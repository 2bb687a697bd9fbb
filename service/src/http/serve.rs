//! Listening, and stopping in two stages.

use std::future::IntoFuture;
use std::io;

use axum::Router;
use axum::serve::ListenerExt;
use rustix::net::sockopt;
use tokio::net::TcpListener;
use tracing::{info, warn};

use crate::shutdown::Shutdown;

/// How long what we write may stay untaken until the system gives the connection up, in milliseconds.
const TAKEN_WITHIN_MS: u32 = 60_000;

/// Serves until the soft stage; then accepts nothing new and answers what has come in. At the hard stage open connections
/// are dropped.
///
/// # Errors
/// The listener cannot say its own address. Failures of single connections are not errors of the server.
pub async fn serve(listener: TcpListener, routes: Router, shutdown: &Shutdown) -> io::Result<()> {
    let address = listener.local_addr()?;
    info!(%address, "listening on http://{address}");
    let listener = listener.tap_io(|stream| {
        // Answers are small and written at once: waiting to fill a packet only costs time.
        if let Err(error) = stream.set_nodelay(true) {
            warn!(%error, "a connection keeps its delay");
        }
        // Nothing looks at what waits to be written: neither at its token's end nor at ours.
        if let Err(error) = sockopt::set_tcp_user_timeout(&*stream, TAKEN_WITHIN_MS) {
            warn!(%error, "a client that takes nothing keeps its connection");
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

//! Whether nobody listens where Postgres should be.
//!
//! The pool takes a refused connection for a server that is starting, and tries again until whoever waits for a connection
//! gives up. A reader would rather hear it at once: where connections are refused there is nothing to wait for. Who has
//! waited for a moment therefore looks, one for all, at most ten times a second. A server that hangs refuses nothing, and
//! a full pool is none of this: they are waited for as before.

use std::io::{self, ErrorKind};
use std::time::Duration;

use sqlx::PgPool;
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, timeout};

/// How long a connection may take before somebody looks why: longer than any that is made on a healthy machine.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long what was seen holds.
const HOLDS: Duration = Duration::from_millis(100);
/// How long a look may take; a server that hangs may still take connections, or may not.
const LOOK: Duration = Duration::from_millis(500);

/// What somebody saw who looked, shared by all who wait.
#[derive(Debug, Default)]
pub(crate) struct Refused {
    last: Mutex<Option<(Instant, bool)>>,
}

impl Refused {
    /// Ends when connections to the server of `pool` are refused, and never otherwise.
    pub async fn seen(&self, pool: &PgPool) -> sqlx::Error {
        sleep(PATIENCE).await;
        while !self.look(pool).await {
            sleep(HOLDS).await;
        }
        sqlx::Error::Io(io::Error::from(ErrorKind::ConnectionRefused))
    }

    async fn look(&self, pool: &PgPool) -> bool {
        let mut last = self.last.lock().await;
        if let Some((at, refused)) = *last
            && at.elapsed() < HOLDS
        {
            return refused;
        }
        let refused = is_refused(pool).await;
        *last = Some((Instant::now(), refused));
        refused
    }
}

async fn is_refused(pool: &PgPool) -> bool {
    let options = pool.connect_options();
    if options.get_socket().is_some() {
        return false;
    }
    let address = (options.get_host(), options.get_port());
    let looked = timeout(LOOK, TcpStream::connect(address)).await;
    matches!(looked, Ok(Err(error)) if error.kind() == ErrorKind::ConnectionRefused)
}

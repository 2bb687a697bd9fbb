//! Counts what is sent to Postgres: a proxy that reads the frontend's half of the protocol.
//!
//! Source: PostgreSQL manual, 54.7 "Message Formats": after the startup packet every message is a type byte, a length that
//! counts itself, and the rest. `Execute` (E) runs a prepared statement, `Query` (Q) a plain one.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

pub struct Wire {
    pub port: u16,
    statements: Arc<AtomicUsize>,
    _tasks: JoinSet<()>,
}

impl Wire {
    pub async fn to(postgres: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let statements = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&statements);
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                // Nobody there: the client finds its connection closed.
                let Ok(server) = TcpStream::connect(("127.0.0.1", postgres)).await else {
                    continue;
                };
                server.set_nodelay(true).unwrap();
                client.set_nodelay(true).unwrap();
                let (from_client, mut to_client) = client.into_split();
                let (mut from_server, to_server) = server.into_split();
                let counter = Arc::clone(&counter);
                connections.spawn(async move {
                    tokio::select! {
                        _ = forward(from_client, to_server, &counter) => {}
                        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
                    }
                });
            }
        });
        Self {
            port,
            statements,
            _tasks: tasks,
        }
    }

    /// Statements so far.
    pub fn seen(&self) -> usize {
        self.statements.load(Ordering::SeqCst)
    }

    /// Statements since the last time.
    pub fn take(&self) -> usize {
        self.statements.swap(0, Ordering::SeqCst)
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    statements: &AtomicUsize,
) -> std::io::Result<()> {
    loop {
        let length = from.read_u32().await?;
        let code = from.read_u32().await?;
        to.write_u32(length).await?;
        to.write_u32(code).await?;
        pass(&mut from, &mut to, length - 8).await?;
        if code != SSL_REQUEST && code != GSS_REQUEST {
            break;
        }
    }
    loop {
        let kind = from.read_u8().await?;
        let length = from.read_u32().await?;
        if kind == b'E' || kind == b'Q' {
            statements.fetch_add(1, Ordering::SeqCst);
        }
        to.write_u8(kind).await?;
        to.write_u32(length).await?;
        pass(&mut from, &mut to, length - 4).await?;
    }
}

async fn pass(
    from: &mut OwnedReadHalf,
    to: &mut OwnedWriteHalf,
    length: u32,
) -> std::io::Result<()> {
    let mut rest = vec![0; length as usize];
    from.read_exact(&mut rest).await?;
    to.write_all(&rest).await
}

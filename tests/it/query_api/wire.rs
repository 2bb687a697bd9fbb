//! Sees what is sent to Postgres: a proxy that reads the frontend's half of the protocol.
//!
//! Source: PostgreSQL manual, 54.7 "Message Formats": after the startup packet every message is a type byte, a length that
//! counts itself, and the rest. `Parse` (P) gives a statement its name, `Bind` (B) its arguments, `Execute` (E) runs what was
//! bound last; `Query` (Q) is a plain one.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

const SSL_REQUEST: u32 = 80_877_103;
const GSS_REQUEST: u32 = 80_877_104;

/// What was run, in order: each statement's text.
type Statements = Mutex<Vec<String>>;

pub struct Wire {
    pub port: u16,
    statements: Arc<Statements>,
    _tasks: JoinSet<()>,
}

impl Wire {
    pub async fn to(postgres: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let statements = Arc::<Statements>::default();
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
        self.statements.lock().unwrap().len()
    }

    /// Statements since the last time.
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut *self.statements.lock().unwrap())
    }
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    statements: &Statements,
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
    let (mut prepared, mut bound) = (HashMap::<Vec<u8>, String>::new(), String::new());
    loop {
        let kind = from.read_u8().await?;
        let length = from.read_u32().await?;
        let mut rest = vec![0; length as usize - 4];
        from.read_exact(&mut rest).await?;
        let mut words = rest.split(|byte| *byte == 0);
        let mut word = || words.next().unwrap_or_default();
        match kind {
            b'P' => drop(prepared.insert(word().to_owned(), text(word()))),
            b'B' => bound = prepared[[word(), word()][1]].clone(),
            b'E' => statements.lock().unwrap().push(bound.clone()),
            b'Q' => statements.lock().unwrap().push(text(word())),
            _ => {}
        }
        to.write_u8(kind).await?;
        to.write_u32(length).await?;
        to.write_all(&rest).await?;
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
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

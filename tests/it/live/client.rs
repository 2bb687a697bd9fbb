//! Clients of what is followed live: WebSockets, and server-sent events.

use std::net::SocketAddr;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_tungstenite::{WebSocketStream, client_async};

use crate::journeys::system::System;

/// How long anything may take to come.
const PATIENCE: Duration = Duration::from_secs(60);

/// What comes over a WebSocket.
#[derive(Clone, Debug, PartialEq)]
pub enum Came {
    Frame(Value),
    Close(u16, String),
    /// Without a word.
    Gone,
}

pub struct Socket(WebSocketStream<TcpStream>);

/// Where queries are answered.
pub fn queries(system: &System) -> &str {
    &system.env["CHAT4ALL_QUERY_URL"]
}

impl Socket {
    /// Opens `path`; the status when it is refused.
    pub async fn open(system: &System, path: &str, protocol: Option<&str>) -> Result<Self, u16> {
        Self::with_buffer(queries(system), path, protocol, None).await
    }

    /// As [`Socket::open`], at the process that answers at `base`, and of a machine that keeps as little as it can for who does
    /// not read.
    pub async fn with_buffer(
        base: &str,
        path: &str,
        protocol: Option<&str>,
        buffer: Option<u32>,
    ) -> Result<Self, u16> {
        let address: SocketAddr = base.trim_start_matches("http://").parse().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        if let Some(buffer) = buffer {
            socket.set_recv_buffer_size(buffer).unwrap();
        }
        // In a broker's or a role's restart nobody may listen for a moment.
        let stream = socket.connect(address).await.map_err(|_| 0_u16)?;
        stream.set_nodelay(true).unwrap();
        let mut request = format!("ws://{address}{path}")
            .into_client_request()
            .unwrap();
        if let Some(protocol) = protocol {
            let headers = request.headers_mut();
            headers.insert("sec-websocket-protocol", protocol.parse().unwrap());
        }
        match timeout(PATIENCE, client_async(request, stream))
            .await
            .unwrap()
        {
            Ok((stream, _)) => Ok(Self(stream)),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(_) => Err(0),
        }
    }

    /// A client of GraphQL that has introduced itself.
    pub async fn graphql(system: &System, token: &str) -> Result<Self, u16> {
        Self::graphql_at(queries(system), token).await
    }

    /// The same at the process that answers at `base`.
    pub async fn graphql_at(base: &str, token: &str) -> Result<Self, u16> {
        let protocol = Some("graphql-transport-ws");
        let mut socket = Self::with_buffer(base, "/graphql", protocol, None).await?;
        socket.introduce(token).await;
        Ok(socket)
    }

    pub async fn introduce(&mut self, token: &str) {
        let payload = json!({"Authorization": format!("Bearer {token}")});
        self.say(&json!({"type": "connection_init", "payload": payload}))
            .await;
        assert_eq!(
            self.next().await,
            Came::Frame(json!({"type": "connection_ack"}))
        );
    }

    pub async fn subscribe(&mut self, id: &str, query: &str, variables: Value) {
        let payload = json!({"query": query, "variables": variables});
        self.say(&json!({"type": "subscribe", "id": id, "payload": payload}))
            .await;
    }

    /// What cannot be sent any more is noticed when nothing comes.
    pub async fn say(&mut self, frame: &Value) {
        let _ = self.0.send(Message::text(frame.to_string())).await;
    }

    /// The next frame, past what keeps the connection alive.
    pub async fn next(&mut self) -> Came {
        loop {
            let came = timeout(PATIENCE, self.0.next()).await;
            match came.expect("nothing came") {
                Some(Ok(Message::Text(text))) => {
                    return Came::Frame(serde_json::from_str(&text).unwrap());
                }
                Some(Ok(Message::Close(frame))) => {
                    let frame = frame.map(|f| (u16::from(f.code), f.reason.to_string()));
                    let (code, reason) = frame.unwrap_or((1005, String::new()));
                    return Came::Close(code, reason);
                }
                Some(Ok(_)) => {}
                Some(Err(_)) | None => return Came::Gone,
            }
        }
    }

    /// Everything that comes until the connection ends, frame headers included, within `patience`. Nothing is answered meanwhile,
    /// not even what a WebSocket answers by itself.
    pub async fn silent_to_the_end(mut self, patience: Duration) -> Vec<u8> {
        let mut all = Vec::new();
        let read = self.0.get_mut().read_to_end(&mut all);
        timeout(patience, read).await.expect("it goes on").unwrap();
        all
    }

    /// The next update of a subscription: what `next` says of its one field.
    #[track_caller]
    pub fn update(&mut self) -> impl Future<Output = Value> {
        let caller = std::panic::Location::caller();
        async move {
            let Came::Frame(mut frame) = self.next().await else {
                panic!("{caller}: the connection has ended");
            };
            assert_eq!(frame["type"], "next", "{caller}: {frame}");
            let data = frame["payload"]["data"].take();
            let Value::Object(data) = data else {
                panic!("{caller}: {frame}");
            };
            data.into_iter().next().unwrap().1
        }
    }
}

/// A stream of server-sent events.
pub struct Events {
    source: Source,
    unread: String,
    /// The beginning of a letter whose rest has not come yet.
    half: Vec<u8>,
}

/// Where their bytes come from.
enum Source {
    Client(reqwest::Response),
    /// Of a machine that keeps as little as it can.
    Raw(TcpStream),
}

impl Source {
    /// The next bytes; `None` at the end.
    async fn chunk(&mut self) -> Option<Vec<u8>> {
        match self {
            Self::Client(response) => Some(response.chunk().await.ok()??.to_vec()),
            Self::Raw(stream) => {
                let mut chunk = vec![0; 4_096];
                let read = stream.read(&mut chunk).await.ok()?;
                chunk.truncate(read);
                (read > 0).then_some(chunk)
            }
        }
    }
}

/// One of them; an id alone has neither name nor data.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Event {
    pub id: Option<String>,
    pub name: Option<String>,
    pub data: Value,
}

impl Events {
    pub async fn open(
        system: &System,
        token: &str,
        path: &str,
        last: Option<&str>,
    ) -> Result<Self, u16> {
        Self::open_at(queries(system), token, path, last).await
    }

    /// The same at the process that answers at `base`.
    pub async fn open_at(
        base: &str,
        token: &str,
        path: &str,
        last: Option<&str>,
    ) -> Result<Self, u16> {
        let url = format!("{base}{path}");
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let mut request = client.get(url).bearer_auth(token);
        if let Some(last) = last {
            request = request.header("Last-Event-ID", last);
        }
        let response = request.send().await.map_err(|_| 0_u16)?;
        if response.status() != 200 {
            return Err(response.status().as_u16());
        }
        assert_eq!(response.headers()["content-type"], "text/event-stream");
        Ok(Self::of(Source::Client(response)))
    }

    /// As [`Events::open`], of a machine that keeps as little as it can for who does not read.
    pub async fn with_buffer(system: &System, token: &str, path: &str, buffer: u32) -> Self {
        let address = queries(system).trim_start_matches("http://");
        let address: SocketAddr = address.parse().unwrap();
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(buffer).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        // HTTP/1.0: a body whose length nobody knows comes as it is, and not in chunks.
        let request = format!(
            "GET {path} HTTP/1.0\r\nHost: {address}\r\nAuthorization: Bearer {token}\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            let byte = timeout(PATIENCE, stream.read_u8()).await;
            head.push(byte.expect("nothing came").unwrap());
        }
        let head = String::from_utf8(head).unwrap();
        assert_eq!(head.split(' ').nth(1), Some("200"), "{head}");
        assert!(head.contains("text/event-stream"), "{head}");
        Self::of(Source::Raw(stream))
    }

    const fn of(source: Source) -> Self {
        Self {
            source,
            unread: String::new(),
            half: Vec::new(),
        }
    }

    /// The next event; `None` at the end.
    pub async fn next(&mut self) -> Option<Event> {
        loop {
            while let Some((block, rest)) = self.unread.split_once("\n\n") {
                let event = parse(block);
                self.unread = rest.to_owned();
                if event != Event::default() {
                    return Some(event);
                }
            }
            let chunk = timeout(PATIENCE, self.source.chunk()).await;
            let bytes = chunk.expect("nothing came")?;
            self.half.extend_from_slice(&bytes);
            let whole = match std::str::from_utf8(&self.half) {
                Ok(all) => all.len(),
                Err(error) => error.valid_up_to(),
            };
            let rest = self.half.split_off(whole);
            let whole = std::mem::replace(&mut self.half, rest);
            self.unread.push_str(&String::from_utf8(whole).unwrap());
        }
    }
}

/// As the standard reads a block; comments say nothing.
fn parse(block: &str) -> Event {
    let mut event = Event::default();
    for line in block.lines() {
        match line.split_once(": ") {
            Some(("id", id)) => event.id = Some(id.to_owned()),
            Some(("event", name)) => event.name = Some(name.to_owned()),
            Some(("data", data)) => event.data = serde_json::from_str(data).unwrap(),
            _ => assert!(line.starts_with(':'), "{line}"),
        }
    }
    event
}

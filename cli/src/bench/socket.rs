//! A client of GraphQL subscriptions over a WebSocket, as small as it can be: the measurement has thousands.

use anyhow::{Context as _, bail, ensure};
use futures::{SinkExt as _, StreamExt as _};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::{WebSocketStream, client_async_with_config};
use url::Url;

/// Its buffer for what comes in: updates are small.
const BUFFER: usize = 1024;
/// Everything of the caller's conversations, with what tells messages from each other.
const SUBSCRIPTION: &str =
    "subscription { myEvents { position events { ... on MessageAccepted { messageId } } } }";

/// One connection with one subscription.
pub(super) struct Socket(WebSocketStream<TcpStream>);

impl Socket {
    /// Follows everything that whoever has `token` may see. From when this returns, nothing is missed.
    ///
    /// # Errors
    /// It was refused.
    pub async fn follow(queries: &str, token: &str) -> anyhow::Result<Self> {
        let url = Url::parse(queries)?.join("/graphql")?;
        ensure!(
            url.scheme() == "http",
            "subscriptions are measured without TLS: use an address that begins with http://"
        );
        let (host, port) = (url.host_str(), url.port_or_known_default());
        let address = (host.context("no host")?, port.context("no port")?);
        let stream = TcpStream::connect(address)
            .await
            .with_context(|| format!("cannot connect to {}:{}", address.0, address.1))?;
        stream.set_nodelay(true)?;
        let url = url.as_str().replacen("http", "ws", 1);
        let mut request = url.into_client_request()?;
        let protocol = "graphql-transport-ws".parse()?;
        let headers = request.headers_mut();
        headers.insert("sec-websocket-protocol", protocol);
        let small = WebSocketConfig::default()
            .read_buffer_size(BUFFER)
            .write_buffer_size(0);
        let (stream, _) = client_async_with_config(request, stream, Some(small)).await?;
        let mut socket = Self(stream);
        let who = json!({"token": token});
        socket
            .say(&json!({"type": "connection_init", "payload": who}))
            .await?;
        let ack = socket.hear().await?;
        ensure!(ack["type"] == "connection_ack", "not taken in: {ack}");
        let query = json!({"query": SUBSCRIPTION});
        socket
            .say(&json!({"type": "subscribe", "id": "1", "payload": query}))
            .await?;
        // The first update says where it has begun.
        let begun = socket.hear().await?;
        ensure!(begun["type"] == "next", "not subscribed: {begun}");
        Ok(socket)
    }

    async fn say(&mut self, frame: &Value) -> anyhow::Result<()> {
        Ok(self.0.send(Message::text(frame.to_string())).await?)
    }

    async fn hear(&mut self) -> anyhow::Result<Value> {
        Ok(serde_json::from_str(&self.text().await?)?)
    }

    /// The next frame, as it comes. Safe to cancel.
    async fn text(&mut self) -> anyhow::Result<String> {
        loop {
            match self.0.next().await {
                Some(Ok(Message::Text(text))) => return Ok(text.as_str().to_owned()),
                Some(Ok(Message::Close(frame))) => {
                    bail!("the server has closed a connection: {frame:?}")
                }
                Some(Ok(_)) => {}
                Some(Err(error)) => return Err(error.into()),
                None => bail!("the server has ended a connection without a word"),
            }
        }
    }

    /// The ids of the messages in the next update that has some. Safe to cancel.
    ///
    /// # Errors
    /// The connection or the subscription has ended.
    pub async fn messages(&mut self) -> anyhow::Result<Vec<String>> {
        loop {
            let update = self.hear().await?;
            ensure!(
                update["type"] == "next" && update["payload"].get("errors").is_none(),
                "a subscription has ended: {update}"
            );
            let events = &update["payload"]["data"]["myEvents"]["events"];
            let ids = events.as_array().into_iter().flatten();
            let ids = ids.filter_map(|event| Some(event["messageId"].as_str()?.to_owned()));
            let ids: Vec<_> = ids.collect();
            if !ids.is_empty() {
                return Ok(ids);
            }
        }
    }
}

//! A client of the command API that posts messages.

use anyhow::ensure;
use bytes::Bytes;
use uuid::Uuid;

use super::system::System;

/// Writes into conversations in turn.
pub(super) struct Post {
    client: reqwest::Client,
    url: String,
    authorization: String,
    conversations: Vec<String>,
}

impl Post {
    /// One that writes into these.
    ///
    /// # Errors
    /// The system does not say where it is.
    pub fn prepare(system: &System, conversations: Vec<String>) -> anyhow::Result<Self> {
        ensure!(!conversations.is_empty(), "there is no conversation");
        Ok(Self {
            client: system.client().clone(),
            url: format!("{}/v1/messages", system.variable("CHAT4ALL_URL")?),
            authorization: format!("Bearer {}", system.variable("CHAT4ALL_TOKEN")?),
            conversations,
        })
    }

    /// The same posts to another place.
    pub fn at(&self, url: String) -> Self {
        Self {
            client: self.client.clone(),
            url,
            authorization: self.authorization.clone(),
            conversations: self.conversations.clone(),
        }
    }

    /// Posts message number `n`; what was answered.
    ///
    /// # Errors
    /// Anything but 202.
    pub async fn send(&self, n: u64) -> anyhow::Result<Bytes> {
        let conversation = &self.conversations[n as usize % self.conversations.len()];
        let id = Uuid::now_v7();
        let body = format!(
            r#"{{"conversation_id":"{conversation}","content":{{"type":"text","text":"message number {n:012}"}},"message_id":"{id}"}}"#
        );
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/json");
        let request = request
            .header("authorization", &self.authorization)
            .body(body);
        let response = request.send().await?;
        let (status, bytes) = (response.status(), response.bytes().await?);
        ensure!(
            status == 202,
            "{status}: {}",
            String::from_utf8_lossy(&bytes)
        );
        Ok(bytes)
    }
}

//! Conversations that a measurement writes into, started through the API.

use anyhow::Context as _;
use futures::{StreamExt as _, TryStreamExt as _};
use serde_json::{Value, json};

use super::system::System;

/// So many are started at a time.
const AT_A_TIME: usize = 16;

impl System {
    /// So many conversations with one WhatsApp recipient each, on the accounts in turn.
    ///
    /// # Errors
    /// As [`System::post`].
    pub async fn recipients(&self, count: usize, accounts: &[&str]) -> anyhow::Result<Vec<String>> {
        let bodies = (0..count).map(|n| {
            let recipient =
                json!({"channel": accounts[n % accounts.len()], "address": format!("4917{n:08}")});
            json!({"kind": "direct", "participants": [recipient]})
        });
        self.conversations(bodies).await
    }

    /// So many groups of the developer and one other user: nobody outside.
    ///
    /// # Errors
    /// As [`System::post`].
    pub async fn groups(&self, count: usize) -> anyhow::Result<Vec<String>> {
        let bodies = (0..count)
            .map(|_| json!({"kind": "group", "participants": [{"user_id": uuid::Uuid::now_v7()}]}));
        self.conversations(bodies).await
    }

    /// Starts conversations; their ids, in this order.
    ///
    /// # Errors
    /// As [`System::post`].
    pub async fn conversations(
        &self,
        bodies: impl Iterator<Item = Value>,
    ) -> anyhow::Result<Vec<String>> {
        let started = bodies.map(async |body| {
            let started = self.post("/v1/conversations", &body).await?;
            let id = started["conversation_id"].as_str();
            anyhow::Ok(id.context("no conversation_id in the answer")?.to_owned())
        });
        futures::stream::iter(started)
            .buffered(AT_A_TIME)
            .try_collect()
            .await
    }
}

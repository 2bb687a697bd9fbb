//! What the simulated provider is told, and what it has seen.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use reqwest::Method;
use serde_json::{Value, json};
use tokio::time::sleep;

use super::system::{System, answer};

impl System {
    /// Of the simulator's control API.
    ///
    /// # Errors
    /// It was refused, or not answered.
    pub async fn simulator(
        &self,
        method: Method,
        path: &str,
        body: &Value,
    ) -> anyhow::Result<Value> {
        let url = format!("{}/_sim/{path}", self.variable("CHAT4ALL_SIMULATOR_URL")?);
        answer(self.client().request(method, url).json(body)).await
    }

    /// From now on every call takes the provider so long.
    ///
    /// # Errors
    /// As [`System::simulator`].
    pub async fn provider_takes(&self, ms: u32) -> anyhow::Result<()> {
        let latency = json!({"fault": {"kind": "latency", "ms": [ms, ms]}});
        self.simulator(Method::POST, "faults", &latency).await?;
        Ok(())
    }

    /// How many calls the provider has accepted since it was started.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub async fn handed_over(&self) -> anyhow::Result<u64> {
        let stats = self.simulator(Method::GET, "stats", &Value::Null).await?;
        stats["calls"]["accepted"]
            .as_u64()
            .context("the simulator does not count")
    }

    /// Waits until the provider has accepted so many calls since it was started.
    ///
    /// # Errors
    /// That takes longer than `patience`.
    pub async fn until_handed_over(&self, total: u64, patience: Duration) -> anyhow::Result<()> {
        let begun = Instant::now();
        loop {
            let so_far = self.handed_over().await?;
            if so_far >= total {
                return Ok(());
            }
            ensure!(
                begun.elapsed() < patience,
                "the provider has {so_far} calls of {total}"
            );
            sleep(Duration::from_millis(50)).await;
        }
    }

    /// The provider's records of calls behind number `since`, oldest first; of very many it keeps only the last.
    ///
    /// # Errors
    /// The simulator does not answer.
    pub async fn calls(&self, mut since: u64) -> anyhow::Result<Vec<Value>> {
        let mut all = Vec::new();
        loop {
            let path = format!("calls?since={since}&limit=1000");
            let mut page = self.simulator(Method::GET, &path, &Value::Null).await?;
            let items = page["items"].as_array_mut().context("no items")?;
            let Some(last) = items.last() else {
                return Ok(all);
            };
            since = last["seq"].as_u64().context("a call without a number")?;
            all.append(items);
        }
    }
}

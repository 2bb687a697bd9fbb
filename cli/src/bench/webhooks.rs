//! Taking webhooks in: signed calls with one receipt each, as the provider makes them.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::ensure;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use uuid::Uuid;

use super::load::{Operation, closed, open};
use super::plan::Plan;
use super::report::Report;
use super::{IN_FLIGHT, progress};

/// The provider.
struct Call {
    client: reqwest::Client,
    url: String,
    app_secret: String,
}

impl Operation for Call {
    async fn once(&self, _: u64, _: Instant) -> anyhow::Result<()> {
        // A receipt for a message that we did not send: taken in as any other, then parked.
        let id = Uuid::now_v7().simple();
        let body = format!(
            r#"{{"object":"whatsapp_business_account","entry":[{{"id":"100000000000002","changes":[{{"field":"messages","value":{{"messaging_product":"whatsapp","metadata":{{"display_phone_number":"4930123456","phone_number_id":"100000000000001"}},"statuses":[{{"id":"wamid.{id}","status":"sent","timestamp":"1764000000","recipient_id":"4915112345678"}}]}}}}]}}]}}"#
        );
        let mut mac = Hmac::<Sha256>::new_from_slice(self.app_secret.as_bytes())?;
        mac.update(body.as_bytes());
        let signature: String = mac
            .finalize()
            .into_bytes()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let request = self
            .client
            .post(&self.url)
            .header("content-type", "application/json");
        let response = request
            .header("x-hub-signature-256", format!("sha256={signature}"))
            .body(body)
            .send()
            .await?;
        let (status, text) = (response.status(), response.text().await?);
        ensure!(status == 200, "{status}: {text}");
        Ok(())
    }
}

pub(super) fn takes(plan: &Plan) -> Duration {
    Duration::from_secs(8) + plan.runs(3 * plan.rounds)
}

/// # Errors
/// The stack does not start, or refuses.
pub(super) async fn measure(plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    progress("webhooks: signed calls, one receipt each");
    let target = plan.target(&[]).await?;
    report.synced("the stack", target.sync().await?);
    let secret = "CHAT4ALL_CHANNELS__WHATSAPP_MAIN__APP_SECRET";
    let call = Arc::new(Call {
        client: target.client().clone(),
        url: format!("{}/webhooks/whatsapp/whatsapp-main", target.webhooks()?),
        app_secret: target.variable(secret)?.to_owned(),
    });
    let mut most = f64::NAN;
    for in_flight in IN_FLIGHT {
        let mut rates = Vec::new();
        for _ in 0..plan.rounds {
            let run = closed(Arc::clone(&call), in_flight, plan.times()).await?;
            rates.push(run.rate());
        }
        let what = format!("(g) webhooks accepted, {in_flight} in flight");
        report.add(what, "/s", &rates);
        most = rates.iter().sum::<f64>() / rates.len() as f64;
    }
    progress("webhooks: at half of what it can take");
    let mut p99 = Vec::new();
    for _ in 0..plan.rounds {
        let run = open(Arc::clone(&call), most / 2.0, plan.times()).await?;
        p99.push(run.percentile_ms(0.99));
    }
    let what = "(g) webhooks accepted, p99 at half load, open loop";
    report.add(what, "ms", &p99);
    target.stop().await
}

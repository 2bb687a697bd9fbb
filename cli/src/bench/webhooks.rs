//! Taking webhooks in: signed calls with one receipt each, as the provider makes them.

use std::sync::Arc;
use std::time::Instant;

use anyhow::ensure;
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;

use super::load::{Operation, Run, closed};
use super::report::Report;
use super::stack::Stack;
use super::{IN_FLIGHT, Plan, WARM_UP, progress};

/// The provider.
struct Call {
    client: reqwest::Client,
    url: String,
    app_secret: String,
}

impl Operation for Call {
    async fn once(&self, n: u64, _: Instant) -> anyhow::Result<()> {
        // A receipt for a message that we did not send: taken in as any other, then parked.
        let body = format!(
            r#"{{"object":"whatsapp_business_account","entry":[{{"id":"100000000000002","changes":[{{"field":"messages","value":{{"messaging_product":"whatsapp","metadata":{{"display_phone_number":"4930123456","phone_number_id":"100000000000001"}},"statuses":[{{"id":"wamid.{n:024}","status":"sent","timestamp":"1764000000","recipient_id":"4915112345678"}}]}}}}]}}]}}"#
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

/// # Errors
/// The stack does not start, or refuses.
pub(super) async fn measure(plan: Plan, report: &mut Report) -> anyhow::Result<()> {
    progress("webhooks: starting the stack");
    let stack = Stack::start(&[]).await?;
    report.synced(stack.sync().await?);
    let call = Arc::new(Call {
        client: stack.client().clone(),
        url: format!(
            "{}/webhooks/whatsapp/whatsapp-main",
            stack.variable("CHAT4ALL_URL")?
        ),
        app_secret: stack
            .variable("CHAT4ALL_CHANNELS__WHATSAPP_MAIN__APP_SECRET")?
            .to_owned(),
    });
    for in_flight in IN_FLIGHT {
        let mut runs = Vec::new();
        for _ in 0..plan.rounds {
            runs.push(closed(Arc::clone(&call), in_flight, (WARM_UP, plan.time)).await?);
        }
        let each = |value: fn(&Run) -> f64| runs.iter().map(value).collect::<Vec<_>>();
        let name = |what: &str| format!("(g) webhooks accepted, {in_flight} in flight{what}");
        report.add(name(""), "/s", &each(Run::rate));
        report.add(name(", p99"), "ms", &each(|run| run.percentile_ms(0.99)));
    }
    stack.stop().await
}

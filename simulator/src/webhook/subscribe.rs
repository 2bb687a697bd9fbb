//! The verify handshake: the provider asks the webhook to repeat a challenge before it sends anything.

use std::sync::Arc;
use std::time::Duration;

use tracing::info;

use crate::account::{Account, Subscription};
use crate::world::World;

/// The handshake has not succeeded.
#[derive(Debug, thiserror::Error)]
pub(crate) enum HandshakeError {
    #[error("the account has no webhook_url")]
    NoUrl,
    #[error("the webhook gave no answer: {0}")]
    NoAnswer(String),
    #[error("the webhook answered {0}; it must be 200")]
    Status(u16),
    #[error("the webhook did not answer with the challenge")]
    Challenge,
    #[error("the account was changed meanwhile")]
    Replaced,
}

/// Performs the handshake once; if it succeeds, webhooks go out from now on, and otherwise everything stays as it was.
pub(crate) async fn subscribe(world: &World, account: &Account) -> Result<(), HandshakeError> {
    let config = account.config();
    let mut url = config.webhook_url.clone().ok_or(HandshakeError::NoUrl)?;
    let challenge = fastrand::u32(1_000_000_000..).to_string();
    url.query_pairs_mut()
        .append_pair("hub.mode", "subscribe")
        .append_pair("hub.verify_token", &config.verify_token)
        .append_pair("hub.challenge", &challenge);
    let timeout = Duration::from_millis(world.settings().webhook_timeout_ms);
    let no_answer =
        |error: reqwest::Error| HandshakeError::NoAnswer(error.without_url().to_string());
    let answer = world
        .client
        .get(url)
        .timeout(timeout)
        .send()
        .await
        .map_err(no_answer)?;
    if answer.status() != 200 {
        return Err(HandshakeError::Status(answer.status().as_u16()));
    }
    if answer.bytes().await.map_err(no_answer)? != challenge {
        return Err(HandshakeError::Challenge);
    }
    // What has been asked may have been replaced meanwhile; then its answer says nothing.
    if !Arc::ptr_eq(&config, &account.config()) {
        return Err(HandshakeError::Replaced);
    }
    account.set_subscription(Subscription::Active);
    info!(account = %account.id, "webhook of `{}` is subscribed", account.id);
    Ok(())
}

/// Repeats the handshake, ever more slowly up to every two seconds, until it succeeds or somebody decides otherwise.
pub(crate) async fn subscribe_until_active(world: Arc<World>, account: Arc<Account>) {
    let mut wait_ms = 50;
    while account.subscription() == Subscription::Pending {
        if let Err(error) = subscribe(&world, &account).await {
            tracing::debug!(account = %account.id, %error, wait_ms, "webhook of `{}` is not ready", account.id);
        }
        tokio::select! {
            () = tokio::time::sleep(Duration::from_millis(wait_ms)) => {}
            () = world.shutdown.cancelled() => return,
        }
        wait_ms = (wait_ms * 2).min(2_000);
    }
}

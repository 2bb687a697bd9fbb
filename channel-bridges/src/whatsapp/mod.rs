//! WhatsApp Cloud API: text out; receipts, texts and placeholders in.
//!
//! Source: WhatsApp Cloud API v25.0, Messages, Webhooks, Error codes.

mod api;
mod error;
mod payload;
mod webhook;

pub use api::Api;
pub use webhook::{SIGNATURE, read_again, read_receipt, read_webhook, signed};

use chat4all_service::config;
use secrecy::SecretString;
use url::Url;

/// A phone number of ours.
#[derive(Clone, Debug)]
pub struct Account {
    /// The provider's id of our number: digits, not the number itself.
    pub phone_number_id: String,
    /// The access token for calls to the provider.
    pub token: SecretString,
    /// Key of the signature of webhook calls.
    pub app_secret: SecretString,
    /// What the provider must say when it registers our webhook.
    pub verify_token: SecretString,
    /// The provider's API with its version.
    pub api_base: Url,
    /// Sends in flight at the same time, at most, all workers together.
    pub concurrency: usize,
    /// Sends per second, at most, all workers together.
    pub rate_per_s: u64,
    /// What follows when it stays unknown whether a send went out.
    pub unsure: config::Unsure,
    /// Whether statuses bring back the `biz_opaque_callback_data` that we send along. Not a setting: an account where they do
    /// not only waits `bridges.unsure_wait_ms` in vain before an interrupted send is repeated, and that can be set.
    pub echoes: bool,
}

impl Account {
    /// As the configuration says.
    pub fn new(settings: &config::WhatsApp) -> Self {
        Self {
            phone_number_id: settings.phone_number_id.clone(),
            token: settings.token.clone(),
            app_secret: settings.app_secret.clone(),
            verify_token: settings.verify_token.clone(),
            api_base: settings.api_base.clone(),
            concurrency: settings.concurrency,
            rate_per_s: settings.rate_per_s,
            unsure: settings.unsure,
            echoes: true,
        }
    }
}

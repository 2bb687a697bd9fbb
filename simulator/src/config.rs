//! What the simulator is started with, and what can be changed while it runs.

use std::fmt;
use std::net::SocketAddr;

use serde::{Deserialize, Serialize};
use url::Url;

/// What the simulator is started with. In JSON every field may be left out; unknown fields are refused.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Where it listens, for the provider's API, the control API and the page alike. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// How many calls are kept, and how many messages on all phones together; three times as many webhooks. The oldest
    /// are dropped and counted. A message with its call and its webhooks takes about 2.3 KiB: 270 MB at the default.
    pub state_limit: usize,
    /// Seed of everything that is drawn for faults and receipts. None: drawn, and printed.
    pub seed: Option<u64>,
    /// The business numbers there are from the start.
    pub accounts: Vec<AccountConfig>,
    /// What can also be changed while it runs.
    pub settings: Settings,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            state_limit: 120_000,
            seed: None,
            accounts: Vec::new(),
            settings: Settings::default(),
        }
    }
}

/// One business number. `Debug` shows no secret.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountConfig {
    /// The id in the path of every call (`106540352242922`).
    pub phone_number_id: String,
    /// The number as people write it (`+49 30 123456`); webhooks carry its digits.
    pub display_phone_number: String,
    /// The WhatsApp Business Account the number belongs to: `entry[].id` of webhooks.
    pub waba_id: String,
    /// The bearer token that may send from it.
    pub token: String,
    /// Key of the signature of webhooks.
    pub app_secret: String,
    /// What the verify handshake has to present.
    pub verify_token: String,
    /// Where webhooks go. None: nowhere.
    #[serde(default)]
    pub webhook_url: Option<Url>,
    /// Repeat the verify handshake from the start until it succeeds; webhooks wait meanwhile. Otherwise nothing is sent
    /// until somebody asks for the handshake.
    #[serde(default = "yes")]
    pub auto_subscribe: bool,
}

fn yes() -> bool {
    true
}

impl fmt::Debug for AccountConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccountConfig")
            .field("phone_number_id", &self.phone_number_id)
            .field("waba_id", &self.waba_id)
            .field("auto_subscribe", &self.auto_subscribe)
            .finish_non_exhaustive()
    }
}

/// What can be changed while it runs, over the control API.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// From the answer to the `sent` webhook.
    pub sent_ms: Millis,
    /// From `sent` to `delivered`.
    pub delivered_ms: Millis,
    /// From `delivered` to `read`.
    pub read_ms: Millis,
    /// At most so many items go into one webhook call. Only what is due anyway is put together: nothing waits for company.
    pub batch_max: usize,
    /// How long our webhook may take to answer, in milliseconds.
    pub webhook_timeout_ms: u64,
    /// Wait before the first repeat of a webhook, in milliseconds; doubled each time.
    pub retry_first_ms: u64,
    /// Longest wait between two repeats, in milliseconds.
    pub retry_max_ms: u64,
    /// A webhook this old is given up, in milliseconds. The provider: seven days.
    pub retry_give_up_ms: u64,
    /// Multiplies the three waits above: 0.001 makes a second a millisecond.
    pub time_scale: f64,
    /// At most so many webhook items wait; what comes on top is dropped and counted.
    pub queue_limit: u64,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            sent_ms: Millis::between(5, 30),
            delivered_ms: Millis::between(20, 80),
            read_ms: Millis::between(100, 400),
            batch_max: 10,
            webhook_timeout_ms: 10_000,
            retry_first_ms: 1_000,
            retry_max_ms: 3_600_000,
            retry_give_up_ms: 7 * 24 * 3_600_000,
            time_scale: 1.0,
            queue_limit: 1_000_000,
        }
    }
}

impl Settings {
    /// # Errors
    /// A sentence that names the field and what would be right.
    pub(crate) fn validate(&self) -> Result<(), String> {
        if !(1..=1_000).contains(&self.batch_max) {
            return Err("batch_max: must be 1 to 1000".to_owned());
        }
        if !(self.time_scale > 0.0 && self.time_scale <= 1_000.0) {
            return Err("time_scale: must be above 0 and at most 1000".to_owned());
        }
        if self.webhook_timeout_ms == 0 || self.retry_first_ms == 0 {
            return Err("webhook_timeout_ms, retry_first_ms: must be above 0".to_owned());
        }
        Ok(())
    }
    /// A wait of the retry schedule, scaled.
    pub(crate) fn scaled_ms(&self, ms: u64) -> u64 {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "a float cast saturates, and a wait needs no more than 52 bits"
        )]
        let scaled = (ms as f64 * self.time_scale) as u64;
        scaled
    }
    /// Wait after the `attempts`-th attempt (1-based), in milliseconds.
    pub(crate) fn backoff_ms(&self, attempts: u32) -> u64 {
        let doubled = self
            .retry_first_ms
            .saturating_mul(1 << attempts.saturating_sub(1).min(40));
        self.scaled_ms(doubled.min(self.retry_max_ms)).max(1)
    }
}

/// A length of time in milliseconds, fixed (`50`) or drawn evenly from a range (`[20, 80]`), at most an hour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "MillisForm", into = "[u64; 2]")]
pub struct Millis {
    min: u64,
    max: u64,
}

#[derive(Deserialize)]
#[serde(untagged, expecting = "milliseconds must be a number or [min, max]")]
enum MillisForm {
    Fixed(u64),
    Range([u64; 2]),
}

impl TryFrom<MillisForm> for Millis {
    type Error = &'static str;
    fn try_from(form: MillisForm) -> Result<Self, Self::Error> {
        let (min, max) = match form {
            MillisForm::Fixed(ms) => (ms, ms),
            MillisForm::Range([min, max]) => (min, max),
        };
        if min > max || max > 3_600_000 {
            return Err("milliseconds must be [min, max] with min <= max <= 3600000");
        }
        Ok(Self { min, max })
    }
}

impl From<Millis> for [u64; 2] {
    fn from(millis: Millis) -> Self {
        [millis.min, millis.max]
    }
}

impl Millis {
    /// Drawn from `min` to `max`, both included. A `max` below `min` counts as `min`.
    pub const fn between(min: u64, max: u64) -> Self {
        let max = if max < min { min } else { max };
        Self { min, max }
    }
    pub(crate) fn draw(self, rng: &mut fastrand::Rng) -> u64 {
        rng.u64(self.min..=self.max)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_their_limit_and_scale() {
        let settings = Settings {
            retry_max_ms: 5_000,
            time_scale: 0.01,
            ..Settings::default()
        };
        let waits: Vec<_> = [1, 2, 3, 4, 60].map(|n| settings.backoff_ms(n)).into();
        assert_eq!(waits, [10, 20, 40, 50, 50]);
    }

    #[test]
    fn debug_of_an_account_shows_no_secret() {
        let account: AccountConfig = serde_json::from_value(serde_json::json!({
            "phone_number_id": "1", "display_phone_number": "49301", "waba_id": "2",
            "token": "hush-token", "app_secret": "hush-secret", "verify_token": "hush-verify",
        }))
        .unwrap();
        assert!(!format!("{account:?}").contains("hush"));
    }

    #[test]
    fn milliseconds_out_of_order_are_refused() {
        let error = serde_json::from_str::<Millis>("[9, 3]").unwrap_err();
        assert!(error.to_string().contains("min <= max"), "{error}");
        let error = serde_json::from_str::<Millis>("\"soon\"").unwrap_err();
        assert!(
            error.to_string().contains("a number or [min, max]"),
            "{error}"
        );
    }
}

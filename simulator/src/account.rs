//! The business numbers the simulator plays.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use serde::{Serialize, Serializer, ser::SerializeStruct};

use crate::config::AccountConfig;
use crate::webhook::Lanes;

/// Whether webhooks go out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Subscription {
    /// Nowhere to send: what happens is not reported.
    None = 0,
    /// The verify handshake is being repeated; webhooks wait for it.
    Pending = 1,
    /// The handshake has succeeded.
    Active = 2,
}

/// One business number, with its webhooks' lanes. Its configuration can change; its id cannot.
pub(crate) struct Account {
    pub(crate) id: Arc<str>,
    config: RwLock<Arc<AccountConfig>>,
    subscription: AtomicU8,
    pub(crate) lanes: Lanes,
}

impl Account {
    pub(crate) fn new(config: AccountConfig) -> Self {
        Self {
            id: config.phone_number_id.as_str().into(),
            subscription: AtomicU8::new(initial(&config) as u8),
            config: RwLock::new(Arc::new(config)),
            lanes: Lanes::new(),
        }
    }
    pub(crate) fn config(&self) -> Arc<AccountConfig> {
        self.config
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }
    /// Digits of the number.
    pub(crate) fn digits(&self) -> String {
        crate::graph::digits(&self.config().display_phone_number).unwrap_or_default()
    }
    pub(crate) fn subscription(&self) -> Subscription {
        match self.subscription.load(Ordering::Relaxed) {
            0 => Subscription::None,
            1 => Subscription::Pending,
            _ => Subscription::Active,
        }
    }
    pub(crate) fn set_subscription(&self, subscription: Subscription) {
        self.subscription
            .store(subscription as u8, Ordering::Relaxed);
        self.lanes.wake();
    }
    /// Takes a new configuration. Another webhook URL or verify token asks for a new handshake.
    pub(crate) fn reconfigure(&self, config: AccountConfig) {
        let config = Arc::new(config);
        let old = std::mem::replace(
            &mut *self.config.write().unwrap_or_else(PoisonError::into_inner),
            config.clone(),
        );
        if old.webhook_url != config.webhook_url || old.verify_token != config.verify_token {
            self.set_subscription(initial(&config));
        }
    }
}

fn initial(config: &AccountConfig) -> Subscription {
    if config.webhook_url.is_some() && config.auto_subscribe {
        Subscription::Pending
    } else {
        Subscription::None
    }
}

/// Secrets are left out.
impl Serialize for Account {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let config = self.config();
        let mut out = serializer.serialize_struct("Account", 6)?;
        out.serialize_field("phone_number_id", &*self.id)?;
        out.serialize_field("display_phone_number", &config.display_phone_number)?;
        out.serialize_field("waba_id", &config.waba_id)?;
        out.serialize_field("webhook_url", &config.webhook_url)?;
        out.serialize_field("auto_subscribe", &config.auto_subscribe)?;
        out.serialize_field("subscription", &self.subscription())?;
        out.end()
    }
}

/// All business numbers, by id.
#[derive(Default)]
pub(crate) struct Accounts(RwLock<BTreeMap<Arc<str>, Arc<Account>>>);

impl Accounts {
    pub(crate) fn get(&self, id: &str) -> Option<Arc<Account>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .get(id)
            .cloned()
    }
    pub(crate) fn all(&self) -> Vec<Arc<Account>> {
        self.0
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .values()
            .cloned()
            .collect()
    }
    /// Whether the token is anybody's.
    pub(crate) fn knows_token(&self, token: &str) -> bool {
        let accounts = self.0.read().unwrap_or_else(PoisonError::into_inner);
        accounts
            .values()
            .any(|account| account.config().token == token)
    }
    pub(crate) fn insert(&self, account: Arc<Account>) {
        self.0
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .insert(account.id.clone(), account);
    }
}

/// # Errors
/// A sentence that names the field and what would be right.
pub(crate) fn validate(config: &AccountConfig) -> Result<(), String> {
    let id = &config.phone_number_id;
    if id.is_empty() || id.len() > 32 || !id.bytes().all(|b| b.is_ascii_digit()) {
        return Err("phone_number_id: must be 1 to 32 digits".to_owned());
    }
    if crate::graph::digits(&config.display_phone_number).is_none() {
        return Err("display_phone_number: must be a phone number".to_owned());
    }
    for (name, value) in [
        ("waba_id", &config.waba_id),
        ("token", &config.token),
        ("app_secret", &config.app_secret),
        ("verify_token", &config.verify_token),
    ] {
        if value.is_empty() {
            return Err(format!("{name}: must not be empty"));
        }
    }
    match &config.webhook_url {
        Some(url) if !matches!(url.scheme(), "http" | "https") => {
            Err("webhook_url: must be an http or https URL".to_owned())
        }
        _ => Ok(()),
    }
}

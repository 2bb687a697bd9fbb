//! Everything the simulator is, shared by its handlers and its lanes.

use std::sync::{Arc, Mutex, PoisonError, RwLock};

use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::account::{Account, Accounts, Subscription};
use crate::calls::Calls;
use crate::clock::UnixMs;
use crate::config::{AccountConfig, Settings};
use crate::fault::Faults;
use crate::phone::{Draft, Message, Phones};
use crate::sync::lock;
use crate::wamid::{Direction, Ids};
use crate::webhook::{self, Log, What};

pub(crate) struct World {
    pub(crate) accounts: Accounts,
    pub(crate) faults: Mutex<Faults>,
    pub(crate) calls: Mutex<Calls>,
    pub(crate) phones: Mutex<Phones>,
    pub(crate) webhooks: Log,
    pub(crate) ids: Ids,
    settings: RwLock<Settings>,
    pub(crate) client: reqwest::Client,
    pub(crate) tracker: TaskTracker,
    pub(crate) shutdown: CancellationToken,
}

impl World {
    pub(crate) fn new(
        settings: Settings,
        state_limit: usize,
        seed: u64,
        client: reqwest::Client,
        shutdown: CancellationToken,
    ) -> Self {
        Self {
            accounts: Accounts::default(),
            faults: Mutex::new(Faults::new(seed, state_limit)),
            calls: Mutex::new(Calls::new(state_limit)),
            phones: Mutex::new(Phones::new(state_limit)),
            webhooks: Log::new(state_limit.saturating_mul(3)),
            ids: Ids::new(),
            settings: RwLock::new(settings),
            client,
            tracker: TaskTracker::new(),
            shutdown,
        }
    }

    pub(crate) fn settings(&self) -> Settings {
        *self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn set_settings(&self, settings: Settings) {
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = settings;
    }

    /// Adds a business number or changes one. True if it is new.
    pub(crate) fn put_account(self: &Arc<Self>, config: AccountConfig) -> bool {
        let (account, new) = match self.accounts.get(&config.phone_number_id) {
            Some(account) => {
                account.reconfigure(config);
                (account, false)
            }
            None => {
                let account = Arc::new(Account::new(config));
                self.accounts.insert(account.clone());
                webhook::start_lanes(self, &account);
                (account, true)
            }
        };
        if account.subscription() == Subscription::Pending {
            self.tracker
                .spawn(webhook::subscribe_until_active(self.clone(), account));
        }
        new
    }

    /// Something the customer writes on the phone: it stands there at once, and goes out as a webhook.
    pub(crate) fn write_in(
        &self,
        account: &Arc<Account>,
        number: &str,
        text: String,
        reply_to: Option<String>,
    ) -> Arc<Message> {
        lock(&self.faults).heard_from(&account.id, number);
        let message = lock(&self.phones).add(Draft {
            wamid: self.ids.wamid(number, Direction::FromCustomer),
            phone_number_id: account.id.clone(),
            number: number.to_owned(),
            direction: Direction::FromCustomer,
            text,
            at: UnixMs::now(),
            reply_to,
            callback_data: None,
            read_when_shown: false,
            read_unreported: false,
        });
        message.advance(crate::phone::Step::Sent);
        self.webhooks
            .enqueue(self, account, message.clone(), What::Message, 0);
        message
    }

    /// The page has been looked at: what waited for it is read now.
    pub(crate) fn show(&self, number: &str) -> usize {
        let shown = lock(&self.phones).show(number);
        for message in &shown {
            if let Some(account) = self.accounts.get(&message.phone_number_id) {
                let what = What::status(
                    crate::phone::Step::Read,
                    UnixMs::now(),
                    message.read_unreported,
                );
                self.webhooks
                    .enqueue(self, &account, message.clone(), what, 0);
            }
        }
        shown.len()
    }

    /// Forgets what was recorded and what waits; accounts and settings stay.
    pub(crate) fn forget(&self) {
        for account in self.accounts.all() {
            account.lanes.clear();
        }
        self.webhooks.clear();
        lock(&self.calls).clear();
        lock(&self.phones).clear();
    }
}

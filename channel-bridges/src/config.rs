//! What a bridge worker needs to know, taken from the whole configuration.

use std::collections::BTreeMap;
use std::time::Duration;

use chat4all_domain::channel::ParseAccountIdError;
use chat4all_domain::secret::ParseIdSecretError;
use chat4all_domain::{AccountId, ChannelKind, IdSecret};
use chat4all_service as service;
use secrecy::ExposeSecret;

use crate::gate::breaker::Breaker;
use crate::whatsapp;

pub use service::config::Unsure;

/// What a bridge worker needs to know.
#[derive(Clone, Debug)]
pub struct Config {
    /// This worker among others, `bridges/7f3a`: unique while it lives.
    pub worker: String,
    /// The secret behind derived ids.
    pub ids: IdSecret,
    /// Our accounts at providers.
    pub accounts: BTreeMap<AccountId, Account>,
    /// How calls, waits and retries go.
    pub pace: Pace,
    /// The largest body of a webhook call, in bytes.
    pub webhook_body_limit_bytes: usize,
}

/// How long things take, and what follows when they don't come.
#[derive(Clone, Debug)]
pub struct Pace {
    /// How long a provider may take to answer one call.
    pub provider_timeout: Duration,
    /// How long to wait for a receipt that tells whether an interrupted send went out, where receipts echo our id.
    pub unsure_wait: Duration,
    /// The waits between tries after a passing failure; the last one repeats. Not empty.
    pub transient: Vec<Duration>,
    /// How often a held account is tried with one message.
    pub probe_every: Duration,
    /// When an account's circuit breaker opens, and for how long.
    pub breaker: Breaker,
    /// How long a message that came in is worth handing to the others of a group.
    pub valid_for: Duration,
}

/// One account at a provider.
#[derive(Clone, Debug)]
pub enum Account {
    /// A phone number at the WhatsApp Cloud API.
    WhatsApp(whatsapp::Account),
}

impl Account {
    /// The channel's kind.
    pub const fn kind(&self) -> ChannelKind {
        match self {
            Self::WhatsApp(_) => ChannelKind::WhatsApp,
        }
    }
    /// Sends in flight at the same time, at most, all workers together.
    pub const fn concurrency(&self) -> usize {
        match self {
            Self::WhatsApp(account) => account.concurrency,
        }
    }
    /// Sends per second, at most, all workers together.
    pub const fn rate_per_s(&self) -> u64 {
        match self {
            Self::WhatsApp(account) => account.rate_per_s,
        }
    }
    /// What follows when it stays unknown whether a send went out.
    pub const fn unsure(&self) -> Unsure {
        match self {
            Self::WhatsApp(account) => account.unsure,
        }
    }
    /// Whether receipts bring back the reference we send along.
    pub const fn echoes(&self) -> bool {
        match self {
            Self::WhatsApp(account) => account.echoes,
        }
    }
}

/// The configuration cannot be used. The whole configuration is checked when it is loaded, so this is a fault of ours.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not an account id.
    #[error("the id of a channel account cannot be used")]
    Account(#[source] ParseAccountIdError),
    /// Not an id secret.
    #[error("the id secret cannot be used")]
    Secret(#[source] ParseIdSecretError),
}

impl Config {
    /// What `config` says, for the worker of that name.
    ///
    /// # Errors
    /// [`Error`], only for a configuration that was not checked.
    pub fn new(config: &service::Config, worker: String) -> Result<Self, Error> {
        let accounts = config.channels.iter().map(|(id, channel)| {
            let id = id.parse().map_err(Error::Account)?;
            let account = match channel {
                service::config::Channel::WhatsApp(settings) => {
                    Account::WhatsApp(whatsapp::Account::new(settings))
                }
            };
            Ok((id, account))
        });
        let bridges = &config.bridges;
        let secret = config.ids.secret.expose_secret();
        Ok(Self {
            worker,
            ids: IdSecret::from_hex(secret).map_err(Error::Secret)?,
            accounts: accounts.collect::<Result<_, _>>()?,
            pace: Pace {
                provider_timeout: bridges.provider_timeout_ms.duration(),
                unsure_wait: bridges.unsure_wait_ms.duration(),
                transient: bridges
                    .transient_schedule_ms
                    .iter()
                    .map(|wait| wait.duration())
                    .collect(),
                probe_every: bridges.probe_every_ms.duration(),
                breaker: Breaker {
                    calls: bridges.breaker_calls,
                    failing_percent: bridges.breaker_failing_percent,
                    within: bridges.breaker_within_ms.duration(),
                    open_for: bridges.breaker_open_ms.duration(),
                },
                valid_for: bridges.valid_for_s.duration(),
            },
            webhook_body_limit_bytes: bridges.webhook_body_limit_bytes,
        })
    }

    /// The kinds of channels that this installation has accounts on.
    pub fn kinds(&self) -> impl Iterator<Item = ChannelKind> {
        ChannelKind::ALL.into_iter().filter(|kind| {
            self.accounts
                .values()
                .any(|account| account.kind() == *kind)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The least that somebody has to say.
    const LEAST: &str = "
[auth]
hs256_secret = 'a-signing-secret-of-enough-characters'
[ids]
secret = '00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'
[channels.whatsapp-main]
kind = 'whatsapp'
phone_number_id = '106540352242922'
token = 'EAAG-token'
app_secret = 'app-secret-value'
verify_token = 'verify-token-value'
";

    #[test]
    fn what_nobody_says_is_as_documented() {
        let sources = service::config::Sources::new().with_file("chat4all.toml", LEAST);
        let loaded = service::Config::load(&sources).unwrap();
        let config = Config::new(&loaded.config, "bridges/1".to_owned()).unwrap();
        let second = Duration::from_secs(1);

        let pace = config.pace;
        assert_eq!(pace.probe_every, 60 * second);
        let breaker = pace.breaker;
        assert_eq!((breaker.calls, breaker.failing_percent), (20, 50));
        assert_eq!(breaker.within, 30 * second);
        assert_eq!(breaker.open_for, 30 * second);
        assert_eq!(pace.provider_timeout, 10 * second);
        assert_eq!(pace.unsure_wait, 15 * second);
        let waits = [1, 5, 30, 120, 600, 1_800, 3_600];
        assert_eq!(pace.transient, waits.map(Duration::from_secs));
        assert_eq!(pace.valid_for, 86_400 * second);

        let accounts: Vec<_> = config.accounts.into_values().collect();
        let [account] = &accounts[..] else {
            panic!("{} accounts", accounts.len())
        };
        assert_eq!((account.rate_per_s(), account.concurrency()), (80, 64));
        assert_eq!(account.unsure(), Unsure::Resend);
    }
}

//! What the lane engine and the inbound path know about a channel: one message out, one webhook call in.
//!
//! The engine never looks at a provider's codes: a refusal says which class it is of, and the class decides what follows.

use std::time::Duration;

use chat4all_domain::delivery::{FailureClass, Reason, Step, Words};
use chat4all_domain::message::Content;
use chat4all_domain::{Address, Text, Timestamp};

use crate::config::Account;
use crate::reference::Reference;
use crate::whatsapp;

/// One message to be handed to a provider.
#[derive(Debug)]
pub struct Outbound<'a> {
    /// To whom.
    pub to: &'a Address,
    /// What it says.
    pub text: &'a Text,
    /// Which delivery this is, for channels whose receipts bring it back.
    pub reference: Reference,
    /// W3C trace context of the message, sent along.
    pub traceparent: Option<&'a str>,
}

/// The provider took it. That is not to say that it arrived.
#[derive(Debug)]
pub struct Accepted {
    /// The provider's id of each part it was sent in; at least one.
    pub parts: Vec<String>,
}

/// Why a call did not end with the provider's yes.
#[derive(Debug, thiserror::Error)]
pub enum SendError {
    /// A clear no, or a call that surely never went out.
    #[error("the provider did not take it: {}", .0.class_name())]
    Refused(Refusal),
    /// It may have gone out: no answer in time, or one that cannot be read.
    #[error("the outcome of the call is not known: {0}")]
    Unsure(&'static str),
}

/// A provider's no.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// Decides what follows.
    pub class: FailureClass,
    /// Why, in our vocabulary.
    pub reason: Reason,
    /// The provider's own code.
    pub code: Option<String>,
    /// The provider's own words.
    pub text: Option<Words>,
    /// How long the provider asks us to wait.
    pub retry_after: Option<Duration>,
    /// After so many tries with this refusal it is final, whatever the class.
    pub tries: Option<u32>,
}

impl Refusal {
    /// The class, for metrics and log lines.
    pub const fn class_name(&self) -> &'static str {
        class_name(self.class)
    }
}

/// A class as it stands on the log, for metrics and log lines.
pub const fn class_name(class: FailureClass) -> &'static str {
    match class {
        FailureClass::Rate => "RATE",
        FailureClass::Pair => "PAIR",
        FailureClass::Transient => "TRANSIENT",
        FailureClass::Unsure => "UNSURE",
        FailureClass::Later24h => "LATER_24H",
        FailureClass::Operator => "OPERATOR",
        FailureClass::Permanent => "PERMANENT",
        FailureClass::Stopped => "STOPPED",
        FailureClass::Window => "WINDOW",
        FailureClass::Degrade => "DEGRADE",
    }
}

/// One thing a webhook call told us. Each can be dealt with, or put aside, without the others.
#[derive(Debug)]
pub struct Item {
    /// As it came, for whoever has to look at it.
    pub raw: String,
    /// What it says, or why that cannot be said.
    pub what: Result<What, Unreadable>,
}

/// What an item says.
#[derive(Debug)]
pub enum What {
    /// Somebody wrote to us.
    Message(Incoming),
    /// How it went with something we sent.
    Receipt(Report),
}

/// Why an item cannot be understood. Says no content.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unreadable(pub &'static str);

/// Somebody wrote to us.
#[derive(Debug)]
pub struct Incoming {
    /// The provider's id for it.
    pub provider_id: String,
    /// Who wrote.
    pub from: Address,
    /// What they call themselves.
    pub name: Option<Text>,
    /// What they wrote, or a placeholder for what we cannot show yet.
    pub content: Content,
    /// When, by the provider's clock.
    pub at: Timestamp,
    /// The provider's id of the message it answers.
    pub quotes: Option<String>,
}

/// How it went with something we sent.
#[derive(Debug)]
pub struct Report {
    /// The provider's id of what we sent.
    pub provider_id: String,
    /// What it reports; `None` for what changes nothing here.
    pub step: Option<Step>,
    /// When, by the provider's clock.
    pub at: Timestamp,
    /// The reference that we sent along.
    pub echoed: Option<Reference>,
}

/// A channel account with everything that calls need.
#[derive(Debug)]
pub enum Channel {
    /// WhatsApp Cloud API.
    WhatsApp(whatsapp::Api),
}

impl Channel {
    /// Makes the client of an account.
    ///
    /// # Errors
    /// When the HTTP client cannot be made.
    pub fn new(account: &Account, timeout: Duration) -> Result<Self, reqwest::Error> {
        match account {
            Account::WhatsApp(account) => {
                whatsapp::Api::new(account.clone(), timeout).map(Self::WhatsApp)
            }
        }
    }

    /// Hands one message to the provider.
    ///
    /// # Errors
    /// See [`SendError`].
    pub async fn send(&self, outbound: &Outbound<'_>) -> Result<Accepted, SendError> {
        match self {
            Self::WhatsApp(api) => api.send(outbound).await,
        }
    }
}

/// Reads one webhook call of `account`. Pure: what cannot be read is an item too.
pub fn read_webhook(account: &Account, body: &[u8]) -> Vec<Item> {
    match account {
        Account::WhatsApp(account) => whatsapp::read_webhook(account, body),
    }
}

/// Reads what was put aside: what [`Item::raw`] held, as it would be read today. Pure, as [`read_webhook`].
pub fn read_again(account: &Account, raw: &str) -> Vec<Item> {
    match account {
        Account::WhatsApp(account) => whatsapp::read_again(account, raw),
    }
}

/// Reads one receipt as it was put aside: what [`Item::raw`] held.
///
/// # Errors
/// [`Unreadable`], for what never was a receipt.
pub fn read_receipt(account: &Account, raw: &str) -> Result<Report, Unreadable> {
    match account {
        Account::WhatsApp(_) => whatsapp::read_receipt(raw),
    }
}

/// Whether `signature` was made over exactly these bytes by who knows the account's secret.
pub fn signed(account: &Account, signature: Option<&str>, body: &[u8]) -> bool {
    match account {
        Account::WhatsApp(account) => whatsapp::signed(account, signature, body),
    }
}

/// The header that brings the signature.
pub const fn signature_header(account: &Account) -> &'static str {
    match account {
        Account::WhatsApp(_) => whatsapp::SIGNATURE,
    }
}

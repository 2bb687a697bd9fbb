//! Accounts at providers: `[channels.<id>]`, one section per account.

use std::collections::BTreeMap;

use secrecy::SecretString;
use url::Url;

use super::reader::Reader;
use super::section::section;
use super::spec::{address, checked_text, count, one_of, secret, whole};
use super::types::{Unsure, unsure};

/// One account at a provider, by kind.
#[derive(Clone, Debug)]
pub enum Channel {
    /// WhatsApp Cloud API.
    WhatsApp(WhatsApp),
}

section! {
    /// A phone number at the WhatsApp Cloud API.
    pub struct WhatsApp {
        /// The provider's id of our phone number: digits, not the number itself.
        phone_number_id: String = checked_text("the digits of a phone number id", |text| text.bytes().all(|b| b.is_ascii_digit())),
        /// The access token for calls to the provider.
        token: SecretString = secret("text that is not empty", not_empty),
        /// The app's secret, which the provider signs its webhook calls with.
        app_secret: SecretString = secret("text that is not empty", not_empty),
        /// What the provider must say when it registers our webhook.
        verify_token: SecretString = secret("text that is not empty", not_empty),
        /// The provider's API with its version.
        api_base: Url = address("an address such as https://graph.facebook.com/v25.0", &["https", "http"]).or(graph_api()),
        /// Sends in flight at the same time, at most, all workers together.
        concurrency: usize = count(1, 10_000).or(64usize),
        /// Sends per second, at most, all workers together.
        rate_per_s: u64 = whole(1, 100_000).or(80u64),
        /// What follows when it stays unknown whether a send went out (a call that was cut off, a process that died): `resend` may give the recipient a message twice, `fail` may have given it to them although it shows as FAILED.
        unsure: Unsure = unsure().or(Unsure::Resend),
    }
}

fn not_empty(text: &str) -> bool {
    !text.is_empty()
}

fn graph_api() -> Url {
    Url::parse("https://graph.facebook.com/v25.0").expect("a constant that parses")
}

#[derive(Clone, Copy, PartialEq)]
enum Kind {
    WhatsApp,
}

/// Reads every account that somebody has set anything of.
pub(crate) fn read(reader: &mut Reader<'_>) -> Option<BTreeMap<String, Channel>> {
    let accounts: Vec<_> = reader
        .names()
        .into_iter()
        .map(|id| account(reader, id))
        .collect();
    let accounts: BTreeMap<_, _> = accounts.into_iter().collect::<Option<_>>()?;
    no_number_twice(reader, &accounts).then_some(accounts)
}

fn account(reader: &mut Reader<'_>, id: String) -> Option<(String, Channel)> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-' || b == b'_';
    let named = id.len() <= 64 && id.bytes().all(allowed);
    if !named {
        let found = format!("the account id \"{}\"", id.escape_debug());
        let expected = "1 to 64 lower-case letters, digits, hyphens and underscores";
        reader.mistaken(&id, found, expected);
    }
    let mut section = reader.section(&id);
    let kinds = one_of(&[("whatsapp", Kind::WhatsApp)]);
    let kind = section.field("kind", "Which provider the account is at.", kinds);
    let channel = match kind {
        Some(Kind::WhatsApp) => WhatsApp::read(&mut section).map(Channel::WhatsApp),
        None => {
            section.forget();
            None
        }
    };
    channel.filter(|_| named).map(|channel| (id, channel))
}

/// Two accounts with one number would each take the other's receipts.
fn no_number_twice(reader: &mut Reader<'_>, accounts: &BTreeMap<String, Channel>) -> bool {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut fine = true;
    for (id, channel) in accounts {
        let Channel::WhatsApp(whatsapp) = channel;
        if let Some(owner) = owners.insert(&whatsapp.phone_number_id, id) {
            let found = format!("the phone number id of `{owner}`");
            reader.mistaken(
                &format!("{id}.phone_number_id"),
                found,
                "one that no other account has",
            );
            fine = false;
        }
    }
    fine
}

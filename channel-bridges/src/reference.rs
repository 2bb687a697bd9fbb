//! Where a provider's id leads back to: one attempt of one delivery.

use std::fmt;
use std::str::FromStr;

use chat4all_domain::{AccountId, ChannelKind, ConversationId, MessageId, delivery};
use sha2::{Digest, Sha256};

/// One attempt of one delivery: `<conversation>.<message>.<n>.<attempt>` in buckets and in what channels echo.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Reference {
    /// The conversation of the message.
    pub conversation: ConversationId,
    /// The message.
    pub message: MessageId,
    /// Number of the delivery within the message.
    pub n: u16,
    /// The attempt that the provider's id belongs to.
    pub attempt: u32,
}

impl Reference {
    /// The deliveries it belongs to.
    pub const fn delivery(&self, kind: ChannelKind) -> delivery::Id {
        delivery::Id {
            kind,
            conversation: self.conversation,
            message: self.message,
        }
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            conversation,
            message,
            n,
            attempt,
        } = self;
        write!(f, "{conversation}.{message}.{n}.{attempt}")
    }
}

/// The text is not a reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a reference looks like `<conversation>.<message>.<n>.<attempt>`")]
pub struct ParseReferenceError;

impl FromStr for Reference {
    type Err = ParseReferenceError;
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        fn next<'a, T: FromStr>(tokens: &mut impl Iterator<Item = &'a str>) -> Option<T> {
            tokens.next()?.parse().ok()
        }
        let mut tokens = text.split('.');
        let mut read = || {
            Some(Self {
                conversation: next(&mut tokens)?,
                message: next(&mut tokens)?,
                n: next(&mut tokens)?,
                attempt: next(&mut tokens)?,
            })
        };
        let reference = read().ok_or(ParseReferenceError)?;
        match tokens.next() {
            None => Ok(reference),
            Some(_) => Err(ParseReferenceError),
        }
    }
}

/// A provider's id, shortened: the first 16 bytes of its SHA-256 in hexadecimal digits. The id itself may contain a phone
/// number and characters that keys cannot hold.
pub fn shortened(provider_id: &str) -> String {
    Sha256::digest(provider_id.as_bytes())[..16]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

/// The key of a provider's id in the bucket: `whatsapp.<account>.<shortened id>`.
pub fn key(kind: ChannelKind, account: &AccountId, provider_id: &str) -> String {
    format!("{kind}.{account}.{}", shortened(provider_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_reads_back_and_nothing_else_is_one() {
        let reference = Reference {
            conversation: "0191e2f4-7c1e-7a3b-8f00-000000000001".parse().unwrap(),
            message: "0191e2f4-7c1e-7a3b-8f00-000000000002".parse().unwrap(),
            n: 7,
            attempt: 3,
        };
        let text = reference.to_string();
        assert_eq!(text.parse(), Ok(reference));
        for wrong in ["", "a.b.1.2", &text[1..], &format!("{text}.1"), "x"] {
            assert_eq!(
                wrong.parse::<Reference>(),
                Err(ParseReferenceError),
                "{wrong}"
            );
        }
    }

    #[test]
    fn a_key_shows_nothing_of_the_provider_id() {
        let account: AccountId = "whatsapp-main".parse().unwrap();
        let key = key(
            ChannelKind::WhatsApp,
            &account,
            "wamid.HBgNNDkxNTExMjM0NTY3OA==",
        );
        let hash = key.strip_prefix("whatsapp.whatsapp-main.").unwrap();
        assert_eq!(hash.len(), 32);
        assert!(hash.bytes().all(|b| b.is_ascii_hexdigit()));
    }
}

//! Ids that nobody can guess back: HMAC-SHA-256 under the installation's id secret, shaped as UUIDv8.
//!
//! A phone number has so few digits that any plain hash of it can be tried out; a keyed one cannot without the secret.
//! The secret is made once, backed up with the configuration, and never rotated: ids depend on it.

#[cfg(test)]
mod tests;

use std::fmt;

use hmac::{Hmac, KeyInit, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use sha2::Sha256;
use uuid::Uuid;

use crate::channel::{AccountId, Address, ChannelKind};
use crate::id::{ConversationId, IdentityId, UserId};

/// The installation's id secret: 32 bytes, 64 hexadecimal digits in the configuration.
#[derive(Clone)]
pub struct IdSecret([u8; 32]);

/// The text is not an id secret. Never repeats it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an id secret is 64 hexadecimal digits (32 random bytes)")]
pub struct ParseIdSecretError;

impl IdSecret {
    /// Wraps 32 random bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }
    /// Reads 64 hexadecimal digits.
    ///
    /// # Errors
    /// Anything else.
    pub fn from_hex(text: &str) -> Result<Self, ParseIdSecretError> {
        hex_32(text).map(Self).ok_or(ParseIdSecretError)
    }

    /// The identity behind `address`. A phone number is the same person on every WhatsApp account.
    pub fn identity(&self, kind: ChannelKind, address: &Address) -> IdentityId {
        match kind {
            ChannelKind::WhatsApp => {
                IdentityId::new(self.uuid(&["identity", kind.as_str(), address.reveal()]))
            }
        }
    }
    /// The direct conversation with `address` over `account`.
    pub fn direct_with_address(&self, account: &AccountId, address: &Address) -> ConversationId {
        ConversationId::new(self.uuid(&["direct-address", account.as_str(), address.reveal()]))
    }
    /// The direct conversation of two users, whoever starts it.
    pub fn direct_of_users(&self, one: UserId, other: UserId) -> ConversationId {
        let (low, high) = if one <= other {
            (one, other)
        } else {
            (other, one)
        };
        ConversationId::new(self.uuid(&["direct-users", &low.to_string(), &high.to_string()]))
    }
    /// What tells a repeat from a different request under the same id: an HMAC of the author and the canonical request.
    pub fn fingerprint(&self, author: UserId, canonical_request: &str) -> Fingerprint {
        Fingerprint(self.mac(&["fingerprint", &author.to_string(), canonical_request]))
    }
    /// The fingerprint of a message that came in through a channel.
    pub fn fingerprint_inbound(&self, account: &AccountId, provider_id: &str) -> Fingerprint {
        Fingerprint(self.mac(&["fingerprint-inbound", account.as_str(), provider_id]))
    }
    /// Tells this secret from others without giving anything away about it: for a note in a backup.
    pub fn fingerprint_of_itself(&self) -> Fingerprint {
        Fingerprint(self.mac(&["id-secret"]))
    }

    fn uuid(&self, parts: &[&str]) -> Uuid {
        let mac = self.mac(parts);
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&mac[..16]);
        Uuid::new_v8(bytes)
    }

    fn mac(&self, parts: &[&str]) -> [u8; 32] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        for part in parts {
            // The length keeps ("a", "bc") and ("ab", "c") apart.
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part.as_bytes());
        }
        mac.finalize().into_bytes().into()
    }
}

impl fmt::Debug for IdSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdSecret(***)")
    }
}

/// Tells a repeated request from a different one under the same id; 64 hexadecimal digits in text.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint([u8; 32]);

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Fingerprint({self})")
    }
}

impl Serialize for Fingerprint {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Fingerprint {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        hex_32(&text)
            .map(Self)
            .ok_or_else(|| de::Error::custom("a fingerprint is 64 hexadecimal digits"))
    }
}

fn hex_32(text: &str) -> Option<[u8; 32]> {
    let digits = text.as_bytes();
    if digits.len() != 64 {
        return None;
    }
    let mut bytes = [0; 32];
    for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
        let digit = |b: u8| (b as char).to_digit(16).map(|value| value as u8);
        *byte = digit(pair[0])? << 4 | digit(pair[1])?;
    }
    Some(bytes)
}

//! Message ids in the provider's form: `wamid.` and base64 of a small record that holds the customer's number.
//!
//! Decoded, an id reads `1C 18 <length> <number> 15 02 00 <11 to the customer | 12 from them> 18 <length> <hex> 00`.

use std::sync::atomic::{AtomicU64, Ordering};

/// Which way the message went, seen from the business.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Direction {
    /// From the business to the customer.
    ToCustomer,
    /// From the customer to the business.
    FromCustomer,
}

/// Makes ids that differ within this process for sure, and from those of an earlier one with 32 random bits: whoever
/// stores them for months must not meet one twice. Independent of the seed of the faults for that reason.
pub(crate) struct Ids {
    process: u32,
    next: AtomicU64,
}

impl Ids {
    pub(crate) fn new() -> Self {
        Self {
            process: fastrand::u32(..),
            next: AtomicU64::new(1),
        }
    }
    /// A new id of a message to or from `number` (digits).
    pub(crate) fn wamid(&self, number: &str, direction: Direction) -> String {
        const ODD: u64 = 0x9E_3779_B97F; // Odd, hence a permutation of 40 bits: ids look drawn, and never collide.
        let count = self.next.fetch_add(1, Ordering::Relaxed).wrapping_mul(ODD) & 0xFF_FFFF_FFFF;
        let (marker, unique) = match direction {
            Direction::ToCustomer => (0x11, format!("{:08X}{count:010X}", self.process)),
            Direction::FromCustomer => (0x12, format!("3A{:08X}{count:010X}", self.process)),
        };
        let mut record = vec![0x1C, 0x18, byte_len(number)];
        record.extend_from_slice(number.as_bytes());
        record.extend_from_slice(&[0x15, 0x02, 0x00, marker, 0x18, byte_len(&unique)]);
        record.extend_from_slice(unique.as_bytes());
        record.push(0x00);
        format!("wamid.{}", base64(&record))
    }
}

fn byte_len(text: &str) -> u8 {
    u8::try_from(text.len()).unwrap_or(u8::MAX)
}

/// Standard base64 with padding (RFC 4648 §4).
fn base64(bytes: &[u8]) -> String {
    const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = String::with_capacity(bytes.len().div_ceil(3) * 4);
    for chunk in bytes.chunks(3) {
        let byte = |i: usize| u32::from(chunk.get(i).copied().unwrap_or(0));
        let group = byte(0) << 16 | byte(1) << 8 | byte(2);
        for i in 0..4 {
            if i > chunk.len() {
                text.push('=');
            } else {
                text.push(char::from(ALPHABET[(group >> (18 - 6 * i) & 63) as usize]));
            }
        }
    }
    text
}

/// A trace id as the Graph API puts one into errors and headers.
pub(crate) fn fbtrace_id() -> String {
    let tail = std::iter::repeat_with(fastrand::alphanumeric).take(22);
    std::iter::once('A').chain(tail).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_follows_the_vectors_of_the_rfc() {
        for (plain, encoded) in [
            ("", ""),
            ("f", "Zg=="),
            ("fo", "Zm8="),
            ("foo", "Zm9v"),
            ("foob", "Zm9vYg=="),
            ("fooba", "Zm9vYmE="),
            ("foobar", "Zm9vYmFy"),
        ] {
            assert_eq!(base64(plain.as_bytes()), encoded);
        }
    }

    #[test]
    fn an_id_has_the_form_the_provider_gives_it() {
        let ids = Ids::new();
        let out = ids.wamid("16505551234", Direction::ToCustomer);
        assert!(out.starts_with("wamid.HBgLMTY1MDU1NTEyMzQVAgARGB"), "{out}");
        let inbound = ids.wamid("16505551234", Direction::FromCustomer);
        assert!(
            inbound.starts_with("wamid.HBgLMTY1MDU1NTEyMzQVAgASGBQzQ"),
            "{inbound}"
        );
    }

    #[test]
    fn ids_differ() {
        let ids = Ids::new();
        let distinct: std::collections::HashSet<_> = (0..100_000)
            .map(|_| ids.wamid("4915112345678", Direction::ToCustomer))
            .collect();
        assert_eq!(distinct.len(), 100_000);
    }
}

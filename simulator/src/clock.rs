//! The wall clock, read in one place. The simulator is an edge of its own: it stands in for a system that has its own time.

use serde::{Serialize, Serializer};
use time::OffsetDateTime;
use time::macros::format_description;

/// Milliseconds since 1970, UTC. Serialised as RFC 3339 with milliseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct UnixMs(pub(crate) i64);

impl UnixMs {
    /// The time now.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the simulator's one clock; it depends on none of our crates"
    )]
    pub(crate) fn now() -> Self {
        let nanos = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000_000;
        Self(i64::try_from(nanos).unwrap_or(i64::MAX))
    }
    /// The time now in microseconds, for those who measure.
    #[expect(
        clippy::disallowed_methods,
        reason = "this is the simulator's one clock; it depends on none of our crates"
    )]
    pub(crate) fn now_us() -> u64 {
        let micros = OffsetDateTime::now_utc().unix_timestamp_nanos() / 1_000;
        u64::try_from(micros).unwrap_or_default()
    }
    pub(crate) const fn plus_ms(self, ms: u64) -> Self {
        Self(self.0.saturating_add_unsigned(ms))
    }
    /// Whole seconds, as the provider writes them: in a string.
    pub(crate) fn seconds_text(self) -> String {
        self.0.div_euclid(1000).to_string()
    }
}

impl Serialize for UnixMs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        const FORMAT: &[time::format_description::BorrowedFormatItem<'static>] = format_description!(
            "[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z"
        );
        OffsetDateTime::from_unix_timestamp_nanos(i128::from(self.0) * 1_000_000)
            .map_err(serde::ser::Error::custom)?
            .format(FORMAT)
            .map_err(serde::ser::Error::custom)?
            .serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::UnixMs;

    #[test]
    fn times_are_rfc_3339_with_milliseconds() {
        let json = serde_json::to_string(&UnixMs(1_700_000_000_007)).unwrap();
        assert_eq!(json, "\"2023-11-14T22:13:20.007Z\"");
        assert_eq!(UnixMs(1_700_000_000_999).seconds_text(), "1700000000");
    }
}

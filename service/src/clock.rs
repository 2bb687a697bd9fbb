//! The one place that asks the system what time it is.
//!
//! Everything else takes time as an argument, so that decisions can be repeated and tested.

use time::OffsetDateTime;

/// The present moment in UTC. For the edges only: a request handler, a bridge's loop, `main`.
#[expect(
    clippy::disallowed_methods,
    reason = "this is the replacement that clippy.toml names"
)]
pub fn now() -> OffsetDateTime {
    OffsetDateTime::now_utc()
}

#[cfg(test)]
mod tests {
    use super::now;

    #[test]
    fn time_is_utc_and_does_not_stand_still_in_the_past() {
        let first = now();
        assert!(first.offset().is_utc());
        assert!(
            first.unix_timestamp() > 1_700_000_000,
            "{first} is before this was written"
        );
        assert!(now() >= first);
    }
}

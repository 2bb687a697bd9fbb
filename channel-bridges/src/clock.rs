//! The time, for the edges of this crate.

use chat4all_domain::Timestamp;
use std::time::Duration;

/// Now.
pub fn now() -> Timestamp {
    chat4all_service::clock::now().into()
}

/// How long it is until `moment`; nothing when it has passed.
pub fn until(moment: Timestamp) -> Duration {
    let ms = moment.unix_ms().saturating_sub(now().unix_ms());
    Duration::from_millis(u64::try_from(ms).unwrap_or(0))
}

/// Waits until `moment`.
pub async fn sleep_until(moment: Timestamp) {
    // Looked at again from time to time: the system's clock may be set meanwhile.
    while until(moment) > Duration::ZERO {
        tokio::time::sleep(until(moment).min(Duration::from_secs(30))).await;
    }
}

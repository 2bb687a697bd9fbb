//! What roles and tools need to know about this installation, as variables.

use std::time::Duration;

use anyhow::Context as _;
use chat4all_service::auth::{Grant, Scope, mint};
use chat4all_service::config::Sources;
use chat4all_service::{Config, clock};
use secrecy::SecretString;
use serde_json::{Value, json};

use super::secrets::Secrets;
use super::servers::Servers;

/// The account's section of the configuration: it is `whatsapp-main`.
const ACCOUNT: &str = "CHAT4ALL_CHANNELS__WHATSAPP_MAIN";
/// The account's number at the simulated provider.
pub const PHONE_NUMBER_ID: &str = "100000000000001";
/// How long the development token in `env` counts.
const TOKEN_TTL: Duration = Duration::from_secs(7 * 86_400);
/// Whom it is for.
pub const DEVELOPER: &str = "dev";

/// The variables that make any `chat4all` command work on this installation.
pub fn variables(servers: &Servers, simulator: &str, secrets: &Secrets) -> Vec<(String, String)> {
    let mut variables = vec![
        ("CHAT4ALL_NATS__URL".to_owned(), servers.nats_url.clone()),
        (
            "CHAT4ALL_POSTGRES__URL".to_owned(),
            servers.postgres_url.clone(),
        ),
        (
            "CHAT4ALL_AUTH__HS256_SECRET".to_owned(),
            secrets.auth.clone(),
        ),
        ("CHAT4ALL_IDS__SECRET".to_owned(), secrets.ids.clone()),
    ];
    variables.extend(account(secrets, simulator));
    let monitor = servers.nats_monitor.clone();
    variables.extend(monitor.map(|url| ("CHAT4ALL_NATS__MONITOR_URL".to_owned(), url)));
    variables
}

/// One account, at the simulated provider.
fn account(secrets: &Secrets, simulator: &str) -> impl Iterator<Item = (String, String)> {
    let [token, app_secret, verify_token] = provider_secrets(secrets);
    let settings = [
        ("KIND", "whatsapp".to_owned()),
        ("PHONE_NUMBER_ID", PHONE_NUMBER_ID.to_owned()),
        ("TOKEN", token.to_owned()),
        ("APP_SECRET", app_secret.to_owned()),
        ("VERIFY_TOKEN", verify_token.to_owned()),
        ("API_BASE", format!("{simulator}/v25.0")),
    ];
    let variable = |(name, value)| (format!("{ACCOUNT}__{name}"), value);
    settings.map(variable).into_iter()
}

/// The same account as the simulated provider knows it; `bridges` takes its calls.
pub fn simulated_account(secrets: &Secrets, bridges: &str) -> Value {
    let [token, app_secret, verify_token] = provider_secrets(secrets);
    json!({
        "phone_number_id": PHONE_NUMBER_ID,
        "display_phone_number": "+49 30 123456",
        "waba_id": "100000000000002",
        "token": token,
        "app_secret": app_secret,
        "verify_token": verify_token,
        "webhook_url": format!("{bridges}/webhooks/whatsapp/whatsapp-main"),
    })
}

/// Token, app secret, verify token.
fn provider_secrets(secrets: &Secrets) -> [&str; 3] {
    let (token, rest) = secrets.provider.split_at(24);
    let (app_secret, verify_token) = rest.split_at(24);
    [token, app_secret, verify_token]
}

/// The configuration that roles will have, for what `up` itself does.
///
/// # Errors
/// All mistakes at once: variables of the surrounding shell count too.
pub fn config(variables: &[(String, String)]) -> anyhow::Result<Config> {
    let sources = Sources::of_process(None)?;
    let sources = variables.iter().fold(sources, |sources, (name, value)| {
        sources.with_variable(name, value)
    });
    Ok(Config::load(&sources)
        .context("the configuration is not usable")?
        .config)
}

/// A token that may do everything, for the developer at this machine.
pub fn token(config: &Config, secrets: &Secrets) -> String {
    let grant = Grant {
        sub: DEVELOPER,
        scopes: Scope::ALL,
        ttl: TOKEN_TTL,
    };
    let (auth, secret) = (&config.auth, SecretString::from(secrets.auth.clone()));
    mint(
        &secret,
        &auth.issuer,
        auth.audience.as_deref(),
        &grant,
        clock::now(),
    )
}

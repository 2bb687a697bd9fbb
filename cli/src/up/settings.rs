//! What roles and tools need to know about this installation, as variables.

use std::time::Duration;

use anyhow::Context as _;
use chat4all_service::auth::{Grant, Scope, mint};
use chat4all_service::config::Sources;
use chat4all_service::{Config, clock};
use secrecy::SecretString;

use super::secrets::Secrets;
use super::servers::Servers;

/// The account's section of the configuration: it is `whatsapp-main`.
const ACCOUNT: &str = "CHAT4ALL_CHANNELS__WHATSAPP_MAIN";
/// How long the development token in `env` counts.
const TOKEN_TTL: Duration = Duration::from_secs(7 * 86_400);
/// Whom it is for.
pub const DEVELOPER: &str = "dev";

/// The variables that make any `chat4all` command work on this installation.
pub fn variables(servers: &Servers, secrets: &Secrets) -> Vec<(String, String)> {
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
    variables.extend(account(secrets));
    let monitor = servers.nats_monitor.clone();
    variables.extend(monitor.map(|url| ("CHAT4ALL_NATS__MONITOR_URL".to_owned(), url)));
    variables
}

/// One account, so that there is a channel to write to.
fn account(secrets: &Secrets) -> impl Iterator<Item = (String, String)> {
    let (token, rest) = secrets.provider.split_at(24);
    let (app_secret, verify_token) = rest.split_at(24);
    let settings = [
        ("KIND", "whatsapp"),
        ("PHONE_NUMBER_ID", "100000000000001"),
        ("TOKEN", token),
        ("APP_SECRET", app_secret),
        ("VERIFY_TOKEN", verify_token),
    ];
    settings
        .map(|(name, value)| (format!("{ACCOUNT}__{name}"), value.to_owned()))
        .into_iter()
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

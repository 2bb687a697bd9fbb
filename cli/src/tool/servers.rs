//! The servers that a command talks to: as the configuration says, and named when they do not answer.

use anyhow::Context as _;
use chat4all_domain::PartitionCount;
use chat4all_nats::connect::{self, Login};
use chat4all_nats::streams::Layout;
use chat4all_nats::{Client, Log};
use chat4all_postgres as postgres;
use chat4all_service::Config;
use secrecy::ExposeSecret as _;

/// For whoever has just begun: what a configuration lacks, and where everything is.
pub const FROM_UP: &str = "after `chat4all up`, `. .chat4all/env` sets all of this";

/// How the log is laid out, as the configuration says.
pub fn layout(config: &Config) -> Layout {
    let partitions = u8::try_from(config.log.partitions)
        .ok()
        .and_then(PartitionCount::new);
    Layout {
        partitions: partitions.expect("the configuration has checked 1 to 64"),
        replicas: config.nats.replicas,
        max_bytes: config.nats.max_bytes,
    }
}

/// A connection to the broker under `name`.
///
/// # Errors
/// Nobody answers.
pub async fn broker(config: &Config, name: &str) -> anyhow::Result<Client> {
    let connected = connect::connect(&broker_config(config, name)).await;
    connected.with_context(|| {
        format!(
            "cannot use the broker at {}; is nats-server up there? nats.url (CHAT4ALL_NATS__URL) says where it is; {FROM_UP}",
            nats_place(config)
        )
    })
}

/// A connection to the broker under `name`, made as soon as somebody answers there.
///
/// # Errors
/// The configuration cannot be used; never that nobody answers.
pub async fn broker_later(config: &Config, name: &str) -> anyhow::Result<Client> {
    Ok(connect::connect_later(&broker_config(config, name)).await?)
}

/// Where the broker is and who we are there: `name`, among what connects.
pub fn broker_config(config: &Config, name: &str) -> connect::Config {
    let nats = &config.nats;
    let urls: Vec<_> = nats.url.iter().map(url::Url::as_str).collect();
    let login = match (&nats.credentials_file, &nats.user, &nats.password) {
        (Some(file), ..) => Login::CredentialsFile(file.clone()),
        (None, Some(user), Some(password)) => {
            let (user, password) = (user.clone(), password.expose_secret().to_owned());
            Login::Password { user, password }
        }
        (None, ..) => Login::None,
    };
    let (ping_interval, name) = (
        nats.ping_interval_ms.duration(),
        format!("{}/{name}", nats.name),
    );
    connect::Config {
        login,
        ping_interval,
        ..connect::Config::new(urls.join(","), name)
    }
}

/// Where the broker is, for people: hosts and ports, since a URL may hold more than should be shown.
pub fn nats_place(config: &Config) -> String {
    let each = config.nats.url.iter().map(|url| {
        let (host, port) = (url.host_str().unwrap_or("?"), url.port().unwrap_or(4222));
        format!("{}://{host}:{port}", url.scheme())
    });
    each.collect::<Vec<_>>().join(",")
}

/// The log, opened.
///
/// # Errors
/// The broker is away, or the log is not there or another.
pub async fn open_log(config: &Config, name: &str) -> anyhow::Result<Log> {
    Ok(Log::open(broker(config, name).await?, &layout(config)).await?)
}

/// The read models' database, as `name` sees it.
///
/// # Errors
/// The URL is not one of a database.
pub fn database(config: &Config, name: &str) -> anyhow::Result<postgres::Config> {
    let url = config.postgres.url.expose_secret();
    Ok(postgres::Config::new(
        url,
        postgres::Schema::default(),
        &format!("chat4all {name}"),
    )?)
}

/// What to say when the database does not do what it was asked for.
pub fn about(database: &postgres::Config) -> String {
    format!(
        "cannot use Postgres at {}; is it up there? postgres.url (CHAT4ALL_POSTGRES__URL) says where it is; {FROM_UP}",
        database.place()
    )
}

#[cfg(test)]
mod tests {
    use chat4all_service::config::Sources;

    use super::*;

    #[test]
    fn every_place_is_named_with_its_port() {
        let text = "
            [nats]
            url = ['nats://a.example:4333', 'nats://b.example']
            [auth]
            hs256_secret = 'a-signing-secret-of-enough-characters'
            [ids]
            secret = '00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff'";
        let config = Config::load(&Sources::new().with_file("c.toml", text));
        let place = nats_place(&config.unwrap().config);
        assert_eq!(place, "nats://a.example:4333,nats://b.example:4222");
    }
}

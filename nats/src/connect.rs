//! One connection, with a name an operator recognises in `nats server report connections`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{Client, ConnectOptions, Event, ServerAddr};
use tracing::{info, warn};

/// What the broker must be able to take in one message: webhook bodies of up to 5 MiB and room to spare.
pub const MIN_MAX_PAYLOAD: usize = 8 * 1024 * 1024;
/// How often the connection is probed. A silent one is noticed after two.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);
/// How long one request to the broker may take.
pub const REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

/// Where the broker is and who we are there.
#[derive(Clone, Debug)]
pub struct Config {
    /// One URL or several with commas between them: `nats://127.0.0.1:4222`.
    pub url: String,
    /// The name shown on the broker: role and instance, `command-api/7f3a`.
    pub name: String,
    /// Who we are, if the broker asks.
    pub login: Login,
    /// How often the connection is probed; [`PING_INTERVAL`] unless there is a reason.
    pub ping_interval: Duration,
}

/// How a client shows who it is.
#[derive(Clone, Default)]
pub enum Login {
    /// The broker does not ask.
    #[default]
    None,
    /// User name and password.
    Password {
        /// The user.
        user: String,
        /// The password.
        password: String,
    },
    /// A credentials file: JWT and key.
    CredentialsFile(PathBuf),
}

impl fmt::Debug for Login {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Login(***)")
    }
}

impl Config {
    /// Without a login, probed as often as usual.
    pub fn new(url: impl Into<String>, name: impl Into<String>) -> Self {
        let (url, name) = (url.into(), name.into());
        Self {
            url,
            name,
            login: Login::None,
            ping_interval: PING_INTERVAL,
        }
    }
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Not the address of a server.
    #[error("a NATS URL looks like `nats://127.0.0.1:4222`, several are separated by commas")]
    Url(#[source] std::io::Error),
    /// The credentials file cannot be read.
    #[error("failed to read the credentials file")]
    Credentials(#[source] std::io::Error),
    /// Nobody answers there, or the answer is no.
    #[error("failed to connect to NATS")]
    Connect(#[source] async_nats::ConnectError),
    /// The server was started with too small a limit.
    #[error(
        "the NATS server takes messages of {found} bytes at most, {wanted} are needed: set `max_payload: 8MB` in its configuration"
    )]
    MaxPayload {
        /// The server's limit in bytes.
        found: usize,
        /// What is needed, in bytes.
        wanted: usize,
    },
}

impl Error {
    /// Whether waiting may mend it: nobody answers there *yet*. Wrong credentials, a wrong address or too small a limit stay
    /// wrong until somebody changes them.
    pub fn passes(&self) -> bool {
        use async_nats::ConnectErrorKind as Kind;
        match self {
            Self::Connect(source) => matches!(
                source.kind(),
                Kind::Dns | Kind::TimedOut | Kind::Io | Kind::MaxReconnects
            ),
            Self::Url(_) | Self::Credentials(_) | Self::MaxPayload { .. } => false,
        }
    }
}

/// Connects, and keeps reconnecting for as long as the client lives.
///
/// # Errors
/// [`Error::Connect`] when nobody answers; [`Error::MaxPayload`] when the server's
/// `max_payload` is too small.
pub async fn connect(config: &Config) -> Result<Client, Error> {
    let (options, servers) = options(config).await?;
    let client = options.connect(servers).await.map_err(Error::Connect)?;
    let found = client.server_info().max_payload;
    if found < MIN_MAX_PAYLOAD {
        return Err(Error::MaxPayload {
            found,
            wanted: MIN_MAX_PAYLOAD,
        });
    }
    Ok(client)
}

/// A client whose connection is made as soon as somebody answers there: for a process whose main work needs no broker, and
/// which never publishes anything large.
///
/// # Errors
/// The URL or the credentials file cannot be read; never that nobody answers.
pub async fn connect_later(config: &Config) -> Result<Client, Error> {
    let (options, servers) = options(config).await?;
    let options = options.retry_on_initial_connect();
    options.connect(servers).await.map_err(Error::Connect)
}

async fn options(config: &Config) -> Result<(ConnectOptions, Vec<ServerAddr>), Error> {
    let options = match &config.login {
        Login::None => ConnectOptions::new(),
        Login::Password { user, password } => {
            ConnectOptions::with_user_and_password(user.clone(), password.clone())
        }
        Login::CredentialsFile(path) => ConnectOptions::with_credentials_file(path)
            .await
            .map_err(Error::Credentials)?,
    };
    let options = options
        .name(&config.name)
        .ping_interval(config.ping_interval)
        .connection_timeout(Duration::from_secs(5))
        .request_timeout(Some(REQUEST_TIMEOUT))
        .event_callback(|event| async move { report(event) });
    let servers = config
        .url
        .split(',')
        .map(|url| url.trim().parse::<ServerAddr>())
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::Url)?;
    Ok((options, servers))
}

/// A denied publish looks like a timeout to its caller; only here it has a reason.
fn report(event: Event) {
    match event {
        Event::Connected => info!("connected to NATS"),
        Event::Disconnected => warn!("lost the connection to NATS, reconnecting"),
        Event::ServerError(error) => warn!(%error, "NATS refused something"),
        Event::SlowConsumer(id) => warn!(subscription = id, "a subscription is too slow"),
        other => info!(event = %other, "NATS connection event"),
    }
}

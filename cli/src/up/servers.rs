//! The servers `up` works with, its own or somebody else's by URL, and the roles on them.

use std::process::ExitStatus;

use super::directory::Directory;
use super::part::PartProcess;
use super::tell::Tell;
use super::{Addresses, Up};
use crate::embedded::{Nats, NatsOptions, Port, Postgres, PostgresOptions, StartError, StopError};

/// Both servers; `None` for one that is not ours.
#[derive(Debug)]
pub struct Servers {
    /// Clients of NATS connect here.
    pub nats_url: String,
    /// Monitoring of the NATS server that we started.
    pub nats_monitor: Option<String>,
    /// The database.
    pub postgres_url: String,
    /// Those we started, in the order in which they are to be stopped.
    pub own: Vec<Server>,
}

/// A server that we started.
#[derive(Debug)]
pub enum Server {
    /// The broker.
    Nats(Nats),
    /// The read models.
    Postgres(Postgres),
    /// A part of Chat4All.
    Part(PartProcess),
}

impl Servers {
    /// Starts, both at once, what was not given by URL.
    pub async fn start(up: &Up, directory: &Directory) -> Result<Self, StartError> {
        let nats = async {
            if own_or_absent(up.nats_url.as_deref(), &up.started) {
                let options = NatsOptions {
                    log: directory.join("log/nats-server.log"),
                    port: Port::From(up.nats_port),
                    ..NatsOptions::in_dir(directory.join("nats"))
                };
                Nats::start(options).await.map(Some)
            } else {
                Ok(None)
            }
        };
        let postgres = async {
            if own_or_absent(up.postgres_url.as_deref(), &up.started) {
                let options = PostgresOptions {
                    log: directory.join("log/postgres.log"),
                    ..PostgresOptions::in_dir(directory.join("postgres"))
                };
                Postgres::start(options).await.map(Some)
            } else {
                Ok(None)
            }
        };
        let (nats, postgres) = tokio::try_join!(nats, postgres)?;
        let given = |url: &Option<String>| url.clone().unwrap_or_default();
        let nats_url = nats.as_ref().map_or_else(|| given(&up.nats_url), Nats::url);
        let nats_monitor = nats.as_ref().map(Nats::monitor_url);
        let postgres_url = postgres
            .as_ref()
            .map_or_else(|| given(&up.postgres_url), Postgres::url);
        let own = postgres
            .map(Server::Postgres)
            .into_iter()
            .chain(nats.map(Server::Nats))
            .collect();
        Ok(Self {
            nats_url,
            nats_monitor,
            postgres_url,
            own,
        })
    }

    /// Where they are, and where the roles will be.
    pub fn addresses(&self, commands: String, queries: String, simulator: String) -> Addresses {
        Addresses {
            nats: self.nats_url.clone(),
            commands,
            queries,
            simulator,
            postgres: self.postgres_url.clone(),
            started: self.own.iter().filter_map(Server::url).collect(),
        }
    }
}

/// Whether to start a server: there is no URL, or it is one that an earlier `up` here had started.
fn own_or_absent(url: Option<&str>, started: &str) -> bool {
    url.is_none_or(|url| url.is_empty() || started.split(' ').any(|own| own == url))
}

impl Server {
    /// What it is called in messages and in the name of its log.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Nats(_) => "nats-server",
            Self::Postgres(_) => "postgres",
            Self::Part(part) => part.name(),
        }
    }

    /// What others would take for a server of their own.
    fn url(&self) -> Option<String> {
        match self {
            Self::Nats(nats) => Some(nats.url()),
            Self::Postgres(postgres) => Some(postgres.url()),
            Self::Part(_) => None,
        }
    }

    /// Ends when it has ended by itself.
    pub async fn exited(&self) -> Option<ExitStatus> {
        match self {
            Self::Nats(nats) => nats.exited().await,
            Self::Postgres(postgres) => postgres.exited().await,
            Self::Part(part) => part.exited().await,
        }
    }

    /// Starts it again.
    pub async fn restart(&mut self) -> Result<(), StartError> {
        match self {
            Self::Nats(nats) => nats.restart().await,
            Self::Postgres(postgres) => postgres.restart().await,
            Self::Part(part) => part.restart().await,
        }
    }

    /// Stops it gracefully.
    pub async fn stop(&mut self, tell: Tell) -> Result<(), StopError> {
        let stopped = match self {
            Self::Nats(nats) => nats.stop().await,
            Self::Postgres(postgres) => postgres.stop().await,
            Self::Part(part) => part.stop().await,
        };
        let name = self.name();
        let more = serde_json::json!({ "name": name });
        tell.step("stopped", more, format_args!("{name} stopped"));
        stopped
    }
}

#[cfg(test)]
mod tests {
    use super::own_or_absent;

    #[test]
    fn a_url_of_ones_own_means_nothing_is_started() {
        assert!(own_or_absent(None, ""));
        assert!(own_or_absent(Some(""), ""));
        assert!(!own_or_absent(Some("nats://a"), ""));
        assert!(!own_or_absent(Some("nats://a"), "nats://b postgres://c"));
    }

    #[test]
    fn a_url_from_the_env_file_of_an_earlier_up_is_not_ones_own() {
        assert!(own_or_absent(Some("nats://a"), "postgres://c nats://a"));
    }
}

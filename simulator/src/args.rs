//! The command line of `chat4all simulator`.

use std::net::SocketAddr;
use std::path::PathBuf;

use crate::Config;

/// Plays the WhatsApp Cloud API, with fault knobs and a phone page.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    /// Where to listen; port 0 takes a free one. [default: the configuration's, else 127.0.0.1:0]
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub listen: Option<SocketAddr>,
    /// How many calls to keep; the oldest are dropped and counted. [default: 120000]
    #[arg(long, value_name = "CALLS")]
    pub state_limit: Option<usize>,
    /// Seed of everything that is drawn. [default: drawn and printed]
    #[arg(long)]
    pub seed: Option<u64>,
    /// A JSON file with accounts and settings.
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
}

/// The command line gives no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ArgsError {
    /// The file cannot be read.
    #[error("failed to read the simulator's configuration {path}", path = .path.display())]
    Read {
        /// Which file.
        path: PathBuf,
        /// Why not.
        #[source]
        source: std::io::Error,
    },
    /// The file is not a configuration.
    #[error("{path} is not a configuration of the simulator", path = .path.display())]
    Parse {
        /// Which file.
        path: PathBuf,
        /// Where and why.
        #[source]
        source: serde_json::Error,
    },
}

impl Args {
    /// The configuration: that of the file, if one is named, with the flags on top.
    ///
    /// # Errors
    /// [`ArgsError`] names the file. Reads it with a blocking call: meant for a program's start.
    pub fn into_config(self) -> Result<Config, ArgsError> {
        let mut config = match self.config {
            None => Config::default(),
            Some(path) => {
                let text = std::fs::read(&path).map_err(|source| ArgsError::Read {
                    path: path.clone(),
                    source,
                })?;
                serde_json::from_slice(&text).map_err(|source| ArgsError::Parse { path, source })?
            }
        };
        config.listen = self.listen.unwrap_or(config.listen);
        config.state_limit = self.state_limit.unwrap_or(config.state_limit);
        config.seed = self.seed.or(config.seed);
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args(config: Option<PathBuf>) -> Args {
        Args {
            listen: None,
            state_limit: None,
            seed: Some(5),
            config,
        }
    }

    #[test]
    fn flags_stand_above_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(
            file.path(),
            r#"{"seed": 3, "state_limit": 10, "settings": {"read_ms": 7}}"#,
        )
        .unwrap();
        let config = args(Some(file.path().to_owned())).into_config().unwrap();
        assert_eq!((config.seed, config.state_limit), (Some(5), 10));
        assert_eq!(config.settings.read_ms, crate::Millis::between(7, 7));
    }

    #[test]
    fn the_file_of_the_readme_is_one() {
        let (_, file) = include_str!("../README.md")
            .split_once("```json\n")
            .unwrap();
        let (file, _) = file.split_once("```").unwrap();
        let config: Config = serde_json::from_str(file).unwrap();
        assert!(config.accounts[0].webhook_url.is_some());
    }

    #[test]
    fn a_file_with_an_unknown_field_is_refused_by_name() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), r#"{"sead": 3}"#).unwrap();
        let error = args(Some(file.path().to_owned()))
            .into_config()
            .unwrap_err();
        let cause = std::error::Error::source(&error).unwrap().to_string();
        assert!(cause.contains("sead"), "{cause}");
    }
}

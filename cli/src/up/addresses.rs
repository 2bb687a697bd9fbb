//! Where the running servers are.

/// Addresses of the servers, and which of them are ours.
#[derive(Clone, PartialEq, Eq)]
pub struct Addresses {
    /// Clients of NATS connect here: `nats://127.0.0.1:4222`, or several with commas.
    pub nats: String,
    /// Commands are posted here: `http://127.0.0.1:8080`.
    pub commands: String,
    /// Queries are asked here; the same place unless every role has a process of its own.
    pub queries: String,
    /// The database: `postgres://chat4all@127.0.0.1:5432/chat4all`. May hold a password.
    pub postgres: String,
    /// Those of the two that `up` started, and will stop.
    pub started: Vec<String>,
}

impl Addresses {
    /// The database's address as it may be shown.
    pub fn postgres_without_password(&self) -> String {
        without_password(&self.postgres)
    }
}

/// Lines for a shell to source. Values are quoted; a quote inside a value stays a quote.
pub fn as_shell(variables: &[(String, String)]) -> String {
    let lines = variables.iter().map(|(name, value)| {
        let quoted = value.replace('\'', r"'\''");
        format!("export {name}='{quoted}'\n")
    });
    lines.collect()
}

impl std::fmt::Debug for Addresses {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Addresses")
            .field("nats", &without_password(&self.nats))
            .field("commands", &self.commands)
            .field("queries", &self.queries)
            .field("postgres", &self.postgres_without_password())
            .field("started", &self.started.len())
            .finish()
    }
}

/// What is no URL is not shown at all: it may be anything.
pub fn without_password(url: &str) -> String {
    let one = |url: &str| match url::Url::parse(url) {
        Ok(mut parsed) if parsed.has_host() => {
            if parsed.password().is_some() {
                let _ = parsed.set_password(Some("***"));
            }
            // NATS takes a token in the place of the user.
            if parsed.scheme() != "postgres" && !parsed.username().is_empty() {
                let _ = parsed.set_username("***");
            }
            parsed.set_query(None);
            parsed.to_string()
        }
        _ => "***".to_owned(),
    };
    url.split(',').map(one).collect::<Vec<_>>().join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shell_reads_back_what_was_written() {
        let nats = "nats://user:it's $HOME `x` \"y\"@127.0.0.1:4222";
        let variables = [("ADDRESS", nats), ("STARTED", "a b")];
        let variables = variables.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let script = format!(
            "{}printf '%s|%s' \"$ADDRESS\" \"$STARTED\"",
            as_shell(&variables)
        );
        let output = std::process::Command::new("sh")
            .args(["-c", &script])
            .output()
            .unwrap();
        assert_eq!(
            String::from_utf8(output.stdout).unwrap(),
            format!("{nats}|a b")
        );
    }

    #[test]
    fn passwords_and_tokens_are_not_shown() {
        for (url, shown) in [
            (
                "postgres://chat4all@127.0.0.1:5432/chat4all",
                "postgres://chat4all@127.0.0.1:5432/chat4all",
            ),
            (
                "postgres://me:secret@db/x?password=secret",
                "postgres://me:***@db/x",
            ),
            (
                "nats://token@a:4222,nats://u:p@b:4222",
                "nats://***@a:4222,nats://***:***@b:4222",
            ),
            ("secret", "***"),
        ] {
            assert_eq!(without_password(url), shown);
        }
    }
}

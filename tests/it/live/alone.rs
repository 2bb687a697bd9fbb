//! `query-api` alone, on a broker that somebody else has: what follows the log needs no Postgres.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use chat4all_cli::embedded::chat4all_program;
use chat4all_service::auth::{Grant, Scope, mint};
use chat4all_service::clock;

const SECRET: &str = "0123456789abcdef0123456789abcdef";

pub struct QueryApi {
    child: Child,
    pub base: String,
}

impl QueryApi {
    /// Without Postgres. It may not follow yet.
    pub fn start(nats: &str) -> Self {
        Self::between(nats, "postgres://nobody@127.0.0.1:1/none")
    }

    /// With these servers, which need not be there. It may not listen yet.
    pub fn between(nats: &str, postgres: &str) -> Self {
        let port = TcpListener::bind("127.0.0.1:0").unwrap();
        let listen = port.local_addr().unwrap();
        drop(port);
        let mut command = Command::new(chat4all_program().unwrap());
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("CHAT4ALL_") {
                command.env_remove(name);
            }
        }
        let child = command
            .arg("query-api")
            .env("CHAT4ALL_NATS__URL", nats)
            .env("CHAT4ALL_POSTGRES__URL", postgres)
            .env("CHAT4ALL_AUTH__HS256_SECRET", SECRET)
            .env("CHAT4ALL_IDS__SECRET", "07".repeat(32))
            .env("CHAT4ALL_HTTP__LISTEN", listen.to_string())
            .stdin(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let base = format!("http://{listen}");
        Self { child, base }
    }
}

impl Drop for QueryApi {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The token of somebody who may do everything.
pub fn operator() -> String {
    let grant = Grant {
        sub: "op",
        scopes: Scope::ALL,
        ttl: Duration::from_secs(3_600),
    };
    let secret = SECRET.to_owned().into();
    mint(&secret, "chat4all", None, &grant, clock::now())
}

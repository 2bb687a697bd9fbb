//! `chat4all rebuild` as an operator has it: a process.

use std::process::Stdio;

use chat4all_cli::embedded::chat4all_program;
use serde_json::Value;
use tokio::process::{Child, Command};
use tokio::time::timeout;

use super::scene::LIVE;
use crate::projector::stack::{PATIENCE, Stack};

/// How it ended, and what it said.
pub struct Said {
    pub code: Option<i32>,
    pub output: String,
    pub errors: String,
}

impl Said {
    /// Each line of its output.
    pub fn json(&self) -> Vec<Value> {
        let each = self.output.lines();
        each.map(|line| serde_json::from_str(line).expect("a line of JSON"))
            .collect()
    }
}

/// The tables in which a row differs, each with the rows that are named.
pub fn differing(outcome: &Value) -> Vec<(&str, &Value)> {
    let tables = outcome["tables"].as_array().unwrap().iter();
    tables
        .filter(|table| table["differing"] != 0)
        .map(|table| (table["table"].as_str().unwrap(), &table["differences"]))
        .collect()
}

/// Starts it, with nothing of the surrounding shell.
pub fn start(stack: &Stack, flags: &[&str]) -> Child {
    typed(stack, &[&["rebuild"], flags].concat())
}

/// Starts any command of ours.
pub fn typed(stack: &Stack, words: &[&str]) -> Child {
    let layout = crate::support::log::layout(1);
    let mut command = Command::new(chat4all_program().expect("it is built"));
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHAT4ALL_") {
            command.env_remove(name);
        }
    }
    command
        .args(words)
        .env("CHAT4ALL_NATS__URL", stack.node.nats.url())
        .env("CHAT4ALL_NATS__MAX_BYTES", layout.max_bytes.to_string())
        .env(
            "CHAT4ALL_LOG__PARTITIONS",
            layout.partitions.get().to_string(),
        )
        .env("CHAT4ALL_POSTGRES__URL", stack.postgres.url())
        .env(
            "CHAT4ALL_AUTH__HS256_SECRET",
            "a secret that is long enough to be one",
        )
        .env("CHAT4ALL_IDS__SECRET", "07".repeat(32))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true);
    command.spawn().expect("it starts")
}

pub async fn ended(child: Child) -> Said {
    let output = timeout(PATIENCE, child.wait_with_output()).await;
    let output = output.expect("it ends").expect("it can be waited for");
    Said {
        code: output.status.code(),
        output: String::from_utf8(output.stdout).expect("text"),
        errors: String::from_utf8(output.stderr).expect("text"),
    }
}

pub async fn run(stack: &Stack, flags: &[&str]) -> Said {
    ended(start(stack, flags)).await
}

/// How many events are in the tables that are being folded; `None` while there are none.
pub async fn folded(stack: &Stack) -> Option<i64> {
    let sum = format!("select sum(sequence)::bigint from {LIVE}_rebuild.projector_checkpoint");
    let pool = stack.pool(LIVE);
    let found = sqlx::query_scalar(sqlx::AssertSqlSafe(sum)).fetch_one(&pool);
    found.await.ok().flatten()
}

//! The commands as an operator runs them, and brokers compared message by message.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use async_nats::jetstream::stream::RawMessageErrorKind;
use async_nats::jetstream::{self, Context};
use chat4all_cli::embedded::chat4all_program;
use futures::TryStreamExt as _;

/// 64 hexadecimal digits.
pub const IDS: &str = "0707070707070707070707070707070707070707070707070707070707070707";

/// `chat4all <arguments>` for the broker at `nats`, with nothing of the surrounding shell.
pub fn chat4all(nats: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new(chat4all_program().unwrap());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("CHAT4ALL_") {
            command.env_remove(name);
        }
    }
    command
        .args(arguments)
        .env("CHAT4ALL_NATS__URL", nats)
        .env("CHAT4ALL_IDS__SECRET", IDS)
        .env("CHAT4ALL_AUTH__HS256_SECRET", "x".repeat(32))
        .stdin(Stdio::null());
    command
}

pub fn backup(nats: &str, dir: &Path) -> Command {
    chat4all(nats, &["backup", dir.to_str().unwrap()])
}

pub fn restore(nats: &str, dir: &Path) -> Command {
    chat4all(nats, &["restore", dir.to_str().unwrap()])
}

/// Runs it; gives what it printed.
#[track_caller]
pub fn done(command: &mut Command) -> String {
    let (output, text) = ran(command);
    assert!(output.status.success(), "{command:?}: {text}");
    text
}

/// Runs it; it must fail with exit code 1; gives what it said.
#[track_caller]
pub fn refused(command: &mut Command) -> String {
    let (output, text) = ran(command);
    assert_eq!(output.status.code(), Some(1), "{command:?}: {text}");
    text
}

fn ran(command: &mut Command) -> (Output, String) {
    let output = command.output().unwrap();
    let text = [&output.stdout, &output.stderr].map(|bytes| String::from_utf8_lossy(bytes));
    let text = text.concat();
    (output, text)
}

/// A copy of a backup, to be damaged.
pub fn copy(from: &Path, to: &Path) {
    std::fs::create_dir(to).unwrap();
    for file in std::fs::read_dir(from).unwrap() {
        let file = file.unwrap();
        std::fs::copy(file.path(), to.join(file.file_name())).unwrap();
    }
}

pub fn js(log: &chat4all_nats::Log) -> Context {
    jetstream::new(log.client().clone())
}

/// The names of all streams.
pub async fn streams(js: &Context) -> Vec<String> {
    let mut all: Vec<String> = js.stream_names().try_collect().await.unwrap();
    all.sort();
    all
}

/// One stream: counts, and every message; `None` where there is a hole.
pub type Content = (u64, u64, u64, BTreeMap<u64, Option<String>>);

/// Everything in a stream, with times and headers.
pub async fn content(js: &Context, stream: &str) -> Content {
    let stream = js.get_stream(stream).await.unwrap();
    let state = stream.cached_info().state.clone();
    let mut messages = BTreeMap::new();
    for sequence in state.first_sequence.max(1)..=state.last_sequence {
        let message = match stream.get_raw_message(sequence).await {
            Ok(message) => {
                let headers: BTreeMap<_, _> = message
                    .headers
                    .iter()
                    .map(|(name, values)| (name.to_string(), format!("{values:?}")))
                    .collect();
                Some(format!(
                    "{} {} {headers:?} {:?}",
                    message.subject, message.time, message.payload
                ))
            }
            Err(error) if error.kind() == RawMessageErrorKind::NoMessageFound => None,
            Err(error) => panic!("{sequence}: {error}"),
        };
        messages.insert(sequence, message);
    }
    (
        state.messages,
        state.first_sequence.max(1),
        state.last_sequence,
        messages,
    )
}

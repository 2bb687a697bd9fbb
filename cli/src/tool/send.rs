//! `chat4all send`: one message over the public API, as any client would.

use std::io::Write as _;
use std::time::Duration;

use anyhow::{Context as _, bail};
use clap::{ArgGroup, Args};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{FROM_UP, line, parse_id};

/// How long one request may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// How often a watched message is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Flags of `chat4all send`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all send --to whatsapp:+4915112345678 'Your parcel is here'
  chat4all send --conversation 0193… hello --watch
  chat4all send --to whatsapp:+4915112345678 --key order-4711 hello    may be repeated: sent once

The address of the API and the token come from CHAT4ALL_URL and CHAT4ALL_TOKEN (`. .chat4all/env` sets both).")]
#[command(group(ArgGroup::new("target").required(true).args(["conversation", "to"])))]
pub struct SendCommand {
    /// Where the command API is.
    #[arg(long, env = "CHAT4ALL_URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// Where the query API is, if it is another place; used by --watch.
    #[arg(long, env = "CHAT4ALL_QUERY_URL")]
    query_url: Option<String>,
    /// A bearer token with messages:write, and conversations:read for --watch.
    #[arg(long, env = "CHAT4ALL_TOKEN", hide_env_values = true)]
    token: Option<String>,
    /// The conversation to write into.
    #[arg(long, value_name = "ID", value_parser = parse_id::<Uuid>)]
    conversation: Option<Uuid>,
    /// The address to write to: CHANNEL:ADDRESS.
    #[arg(long, value_name = "CHANNEL:ADDRESS", value_parser = parse_to)]
    to: Option<To>,
    /// Makes repeating safe: the same key in the same conversation is the same message.
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// Print the message's status whenever it is another one when looked at (ten times a second), and why it waits or has failed, until
    /// READ or FAILED, for at most this many seconds, 30 if none are said. Exit code 0 says that it was accepted.
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, require_equals = true, default_missing_value = "30")]
    watch: Option<u64>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
    /// What to say.
    text: String,
}

/// Whom to write to; the API says whether there is such a channel and address.
#[derive(Clone, Debug)]
struct To {
    channel: String,
    address: String,
}

fn parse_to(text: &str) -> Result<To, String> {
    let wrong = || "must be CHANNEL:ADDRESS, such as whatsapp:+4915112345678".to_owned();
    let (channel, address) = text.split_once(':').ok_or_else(wrong)?;
    if channel.is_empty() || address.is_empty() {
        return Err(wrong());
    }
    let (channel, address) = (channel.to_owned(), address.to_owned());
    Ok(To { channel, address })
}

/// Sends, and prints the answer.
///
/// # Errors
/// The API refuses or does not answer; what it said is shown.
pub async fn run(command: &SendCommand) -> anyhow::Result<()> {
    let token = command.token.as_deref();
    let token = token.with_context(|| {
        format!("there is no token; --token (CHAT4ALL_TOKEN) is one with messages:write; {FROM_UP}")
    })?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .build()?;
    let mut body = json!({ "content": { "type": "text", "text": command.text } });
    match (&command.to, command.conversation) {
        (Some(To { channel, address }), _) => {
            body["to"] = json!({ "channel": channel, "address": address });
        }
        (None, Some(conversation)) => body["conversation_id"] = json!(conversation),
        (None, None) => bail!("either --conversation or --to is needed"),
    }
    let request = client
        .post(format!("{}/v1/messages", command.url))
        .bearer_auth(token);
    let request = match &command.key {
        Some(key) => request.header("Idempotency-Key", key),
        None => request,
    };
    let accepted = answer(&command.url, request.json(&body)).await?;
    if command.json {
        line(&accepted)?;
    } else {
        line(format_args!(
            "accepted   message {} in conversation {} at {}",
            text(&accepted, "message_id"),
            text(&accepted, "conversation_id"),
            text(&accepted, "position"),
        ))?;
    }
    match command.watch {
        Some(seconds) => {
            let patience = Duration::from_secs(seconds);
            watch(command, (&client, token), &accepted, patience).await
        }
        None => Ok(()),
    }
}

async fn watch(
    command: &SendCommand,
    (client, token): (&reqwest::Client, &str),
    accepted: &Value,
    patience: Duration,
) -> anyhow::Result<()> {
    let base = command.query_url.as_deref().unwrap_or(&command.url);
    let (conversation, message) = (
        text(accepted, "conversation_id"),
        text(accepted, "message_id"),
    );
    let url = format!("{base}/v1/conversations/{conversation}/messages/{message}");
    let (begun, mut seen, mut why) = (Instant::now(), String::new(), String::new());
    while begun.elapsed() < patience {
        let position = text(accepted, "position");
        let request = client
            .get(&url)
            .query(&[("at_least", position)])
            .bearer_auth(token);
        let shown = answer(base, request).await?;
        // A message that nobody outside gets has no status: being shown is all there is to see.
        let status = shown["status"].as_str().unwrap_or("SHOWN").to_owned();
        let because = because(&shown);
        if (&status, &because) != (&seen, &why) {
            if command.json {
                line(&shown)?;
            } else {
                let ms = begun.elapsed().as_millis();
                line(format_args!("{status:<10} after {ms} ms{because}"))?;
            }
            (seen, why) = (status, because);
        }
        if matches!(seen.as_str(), "READ" | "FAILED") || shown["deliveries"] == json!([]) {
            return Ok(());
        }
        sleep(LOOK_EVERY).await;
    }
    let is = if seen.is_empty() {
        "not looked at"
    } else {
        &seen
    };
    let _ = writeln!(
        std::io::stderr().lock(),
        "{is} after {} s, and not watched any longer; it goes on by itself, and `chat4all doctor` says what may hold it (but for an \
         earlier message to the same recipient, whose call has no answer yet)",
        patience.as_secs()
    );
    Ok(())
}

/// Why the message has failed, or waits: `: RECIPIENT_NOT_REACHABLE, provider code 131026`, of the first delivery that does. Empty if none
/// does.
fn because(shown: &Value) -> String {
    let mut deliveries = shown["deliveries"].as_array().into_iter().flatten();
    let moment = match shown["status"].as_str() {
        Some("FAILED") => "failed_at",
        Some(_) | None => "waiting_until",
    };
    let Some(delivery) = deliveries.find(|delivery| delivery[moment].is_string()) else {
        return String::new();
    };
    let reason = text(delivery, "failure_reason");
    let code = delivery["provider_code"].as_str();
    let code = code.map_or_else(String::new, |code| format!(", provider code {code}"));
    let until = delivery["waiting_until"].as_str();
    let until = until.map_or_else(String::new, |until| format!(", tried again at {until}"));
    format!(": {reason}{code}{until}")
}

async fn answer(base: &str, request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    // Without the URL that the library repeats: a path names a conversation, and the place is said once.
    let response = request.send().await.map_err(reqwest::Error::without_url);
    let response = response.with_context(|| {
        format!(
            "nobody answers at {base}; is the system up? --url (CHAT4ALL_URL) says where it is, --query-url \
             (CHAT4ALL_QUERY_URL) where it is read; {FROM_UP}"
        )
    })?;
    let status = response.status();
    let body: Value = response
        .json()
        .await
        .with_context(|| format!("{status}, and no JSON"))?;
    if status.is_success() {
        return Ok(body);
    }
    let mut said = format!("{status}: {}", text(&body, "detail"));
    for error in body["errors"].as_array().into_iter().flatten() {
        said.push_str(&format!(
            "\n  {}: {}",
            text(error, "pointer"),
            text(error, "detail")
        ));
    }
    said.push_str(&format!("\n  trace id {}", text(&body, "trace_id")));
    bail!(said)
}

fn text<'a>(body: &'a Value, field: &str) -> &'a str {
    body[field].as_str().unwrap_or("?")
}

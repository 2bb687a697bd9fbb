//! The first message: proof that everything works together, and something to look at.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::{Addresses, Tell};

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The simulated customer.
const PHONE: &str = "+4915112345678";
/// From which account: the one of [`super::settings`], by its id, since there may be others of its kind.
const ACCOUNT: &str = "whatsapp-main";
/// What happens to a message, and where its time stands.
const STEPS: [(&str, &str); 3] = [
    ("sent", "sent_at"),
    ("delivered", "delivered_at"),
    ("read", "read_at"),
];
/// How long the first message may take until it is read.
const ARRIVES_WITHIN: Duration = Duration::from_secs(30);
/// After this long somebody who looks is told that it has not been, and where to ask why.
const LATE_AFTER: Duration = Duration::from_secs(5);
/// How often it is looked at meanwhile.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// Sends a message to the simulated phone and watches it arrive, saying when. Returns the conversation's id.
///
/// # Errors
/// A step failed or did not come: the system does not do its main job now. It may have been told to: an account that an
/// operator has paused stays paused, and its queue comes first.
pub async fn message(
    addresses: &Addresses,
    token: &str,
    env: &Path,
    tell: Tell,
) -> anyhow::Result<String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .build()?;
    let begun = Instant::now();
    let body = json!({
        "to": { "channel": ACCOUNT, "address": PHONE },
        "content": { "type": "text", "text": "Hello from Chat4All" },
    });
    let request = client
        .post(format!("{}/v1/messages", addresses.commands))
        .bearer_auth(token);
    let accepted = answer(request.json(&body)).await?;
    let (conversation, message) = (
        text(&accepted, "conversation_id")?,
        text(&accepted, "message_id")?,
    );
    let position = text(&accepted, "position")?;
    let ms = ms_since(begun);
    let more = json!({
        "ms": ms, "conversation_id": conversation, "message_id": message, "position": position,
    });
    let detail = format!("message {message} at {position}, on disk");
    tell.step("accepted", more, line("accepted", ms, &detail));

    let url = format!(
        "{}/v1/conversations/{conversation}/messages/{message}",
        addresses.queries
    );
    let mut seen = BTreeSet::new();
    let mut late = false;
    while begun.elapsed() < ARRIVES_WITHIN {
        let request = client
            .get(&url)
            .query(&[("at_least", &position)])
            .bearer_auth(token);
        let shown = answer(request).await?;
        let delivery = &shown["deliveries"][0];
        for (step, field) in STEPS {
            if let Some(at) = delivery[field].as_str()
                && seen.insert(step)
            {
                let ms = ms_since(begun);
                tell.step(step, json!({"ms": ms, "at": at}), line(step, ms, at));
            }
        }
        if seen.len() == STEPS.len() {
            return Ok(conversation);
        }
        let failed = delivery["status"] == "FAILED";
        ensure!(!failed, "the first message was not delivered: {delivery}");
        if !late && begun.elapsed() >= LATE_AFTER {
            late = true;
            let (ms, status) = (ms_since(begun), delivery["status"].as_str());
            let detail = format!(
                "it is {}; what holds it is said, in another shell, by\n  . {} && {} doctor",
                status.unwrap_or("not shown yet"),
                env.display(),
                program(),
            );
            let more = json!({"ms": ms, "status": status});
            tell.step("late", more, line("late", ms, &detail));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
    bail!(
        "the first message has not been read after {} s",
        ARRIVES_WITHIN.as_secs()
    )
}

fn ms_since(begun: Instant) -> f64 {
    (begun.elapsed().as_secs_f64() * 1e4).round() / 10.0
}

fn line(step: &str, ms: f64, detail: &str) -> String {
    format!("{step:<10} {ms:>7.1} ms  {detail}")
}

/// Where everything is, and three commands to paste: for people.
pub fn what_to_try(addresses: &Addresses, env: &Path, conversation: Option<&str>) {
    let program = program();
    let say = |line: std::fmt::Arguments<'_>| Tell { json: false }.step("", Value::Null, line);
    say(format_args!(
        "\ncommands   {}/v1/messages, described by /v1/openapi.json",
        addresses.commands
    ));
    say(format_args!(
        "queries    {}/graphql (in a browser: an explorer)",
        addresses.queries
    ));
    say(format_args!(
        "phone      {} (in a browser: the customer's phone, with a box to answer)",
        addresses.simulator
    ));
    say(format_args!("NATS       {}", addresses.nats));
    say(format_args!(
        "Postgres   {}",
        addresses.postgres_without_password()
    ));
    say(format_args!(
        "token      in {} as CHAT4ALL_TOKEN, with every address",
        env.display()
    ));
    say(format_args!(
        "\nTry, in another shell:\n  . {}",
        env.display()
    ));
    say(format_args!(
        "  {program} send --to {ACCOUNT}:{PHONE} 'hello again' --watch"
    ));
    match conversation {
        Some(id) => say(format_args!("  {program} log --conversation {id}")),
        None => say(format_args!("  {program} doctor")),
    }
    say(format_args!("  {program} lag\n"));
}

/// What to type to run this program.
fn program() -> String {
    let program = std::env::current_exe().unwrap_or_else(|_| "chat4all".into());
    program.display().to_string()
}

async fn answer(request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let response = request.send().await.context("the API does not answer")?;
    let status = response.status();
    let body: Value = response
        .json()
        .await
        .with_context(|| format!("{status}, and no JSON"))?;
    ensure!(status.is_success(), "{status}: {body}");
    Ok(body)
}

fn text(body: &Value, field: &str) -> anyhow::Result<String> {
    let value = body[field]
        .as_str()
        .with_context(|| format!("the answer has no {field}: {body}"))?;
    Ok(value.to_owned())
}

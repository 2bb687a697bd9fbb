//! The first message: proof that everything works together, and something to look at.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use chat4all_domain::UserId;
use serde_json::{Value, json};

use super::{Addresses, say};

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(20);
/// The `sub` of who is written to: nobody signs in as this.
const FRIEND: &str = "friend";

/// Starts a conversation, posts a message and reads it back, saying how long each took. Returns the conversation's id.
///
/// # Errors
/// A step failed: the system does not do its main job.
pub async fn message(addresses: &Addresses, token: &str) -> anyhow::Result<String> {
    let client = reqwest::Client::builder()
        .no_proxy()
        .timeout(TIMEOUT)
        .build()?;
    let post = |path: &str, body: Value| {
        let request = client
            .post(format!("{}{path}", addresses.commands))
            .bearer_auth(token);
        async move { answer(request.json(&body)).await }
    };
    let other = UserId::derive("chat4all", FRIEND);
    let start = json!({
        "kind": "group", "title": "First conversation", "participants": [{ "user_id": other.to_string() }],
    });
    let conversation = text(&post("/v1/conversations", start).await?, "conversation_id")?;
    let begun = Instant::now();
    let body = json!({
        "conversation_id": conversation, "content": { "type": "text", "text": "Hello from Chat4All" },
    });
    let accepted = post("/v1/messages", body).await?;
    let accepted_ms = begun.elapsed().as_secs_f64() * 1e3;
    let (message, position) = (text(&accepted, "message_id")?, text(&accepted, "position")?);
    say(format_args!(
        "accepted   {accepted_ms:.1} ms  message {message} at {position}, on disk"
    ));

    let query = "query($c: ID!, $m: ID!, $p: Position!) {\
        message(conversationId: $c, messageId: $m, atLeast: $p) { messageId } }";
    let body =
        json!({ "query": query, "variables": { "c": conversation, "m": message, "p": position } });
    let request = client
        .post(format!("{}/graphql", addresses.queries))
        .bearer_auth(token);
    let shown = answer(request.json(&body)).await?;
    ensure!(
        shown["data"]["message"]["messageId"] == message.as_str(),
        "the message is not shown: {shown}"
    );
    let shown_ms = begun.elapsed().as_secs_f64() * 1e3;
    say(format_args!("shown      {shown_ms:.1} ms  by GraphQL"));
    Ok(conversation)
}

/// Where everything is, and three commands to paste.
pub fn what_to_try(addresses: &Addresses, env: &Path, conversation: &str) {
    let program = std::env::current_exe().unwrap_or_else(|_| "chat4all".into());
    let program = program.display();
    say(format_args!(
        "\ncommands   {}/v1/messages, described by /v1/openapi.json",
        addresses.commands
    ));
    say(format_args!(
        "queries    {}/graphql (in a browser: an explorer)",
        addresses.queries
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
        "  {program} send --conversation {conversation} 'hello again' --watch"
    ));
    say(format_args!(
        "  {program} log --conversation {conversation}"
    ));
    say(format_args!("  {program} lag\n"));
}

async fn answer(request: reqwest::RequestBuilder) -> anyhow::Result<Value> {
    let response = request.send().await.context("the API does not answer")?;
    let status = response.status();
    let body: Value = response
        .json()
        .await
        .with_context(|| format!("{status}, and no JSON"))?;
    ensure!(status.is_success(), "{status}: {body}");
    if !body["errors"].is_null() {
        bail!("GraphQL: {}", body["errors"]);
    }
    Ok(body)
}

fn text(body: &Value, field: &str) -> anyhow::Result<String> {
    let value = body[field]
        .as_str()
        .with_context(|| format!("the answer has no {field}: {body}"))?;
    Ok(value.to_owned())
}

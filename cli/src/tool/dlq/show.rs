//! `chat4all dlq show`: everything about one dead letter.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chat4all_domain::Position;
use chat4all_nats::range::Range;
use chat4all_nats::{Log, streams};
use chat4all_postgres::read::failed_deliveries;
use chat4all_service::Config;
use clap::Args;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::id::Id;
use super::stores::Stores;
use crate::tool::{line, open_log};

/// How long one read of the log may take.
const READ_WITHIN: Duration = Duration::from_secs(10);

/// Flags of `chat4all dlq show`.
#[derive(Debug, Args)]
pub struct Show {
    /// The dead letter, as `ls` shows it.
    #[arg(value_name = "ID")]
    id: Id,
    /// Show what it says, too: the message, the raw item, the event. It has texts and addresses in it.
    #[arg(long)]
    personal: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Prints it.
///
/// # Errors
/// It is no dead letter (any more), or its store does not answer.
pub async fn run(config: &Config, show: &Show) -> anyhow::Result<ExitCode> {
    let stores = Stores::open(config).await?;
    let Some(letter) = stores.get(show.id).await? else {
        bail!(
            "{} is no dead letter, or not any more; `chat4all dlq ls` lists them",
            show.id
        );
    };
    let mut fields = serde_json::to_value(&letter).context("a struct of words and numbers")?;
    fields["next_step"] = json!(match show.id {
        Id::PoisonEvent(_) => "upgrade or repair the projector, then `chat4all rebuild`".to_owned(),
        Id::ParkedInbound(_) | Id::FailedDelivery(..) =>
            format!("chat4all dlq redrive {}", show.id),
    });
    if show.personal {
        fields["personal"] = personal(config, &stores, show.id).await?;
    }
    if show.json {
        line(&fields)?;
        return Ok(ExitCode::SUCCESS);
    }
    for (name, value) in fields.as_object().into_iter().flatten() {
        match value {
            Value::String(text) => line(format_args!("{name:<14}  {text}"))?,
            other => line(format_args!("{name:<14}  {other}"))?,
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What it says, as it stands on its stream.
async fn personal(config: &Config, stores: &Stores, id: Id) -> anyhow::Result<Value> {
    let log = open_log(config, "dlq").await?;
    match id {
        Id::PoisonEvent(position) => event(&log, position).await,
        Id::ParkedInbound(sequence) => {
            stored(&log, streams::PARKED, "chat.parked.>", sequence).await
        }
        Id::FailedDelivery(conversation, message, _) => {
            let key = (conversation, message);
            let found = failed_deliveries::messages_at(&stores.reads, &[key]).await;
            let found =
                found.context("the read models cannot be asked where the message stands")?;
            match found.get(&key) {
                Some(position) => event(&log, *position).await,
                None => Ok(Value::Null),
            }
        }
    }
}

async fn event(log: &Log, position: Position) -> anyhow::Result<Value> {
    let stream = streams::name(position.partition);
    stored(log, &stream, "chat.evt.>", position.sequence).await
}

/// As JSON if it is that, else as text.
async fn stored(log: &Log, stream: &str, subject: &str, sequence: u64) -> anyhow::Result<Value> {
    let range = Range {
        stream,
        subject,
        from: sequence,
        up_to: sequence,
    };
    let found = log.read_range(range, Instant::now() + READ_WITHIN).await;
    let found = found.with_context(|| format!("stream {stream} cannot be read"))?;
    Ok(found.first().map_or(Value::Null, |stored| {
        let text = || Value::from(String::from_utf8_lossy(&stored.payload));
        serde_json::from_slice(&stored.payload).unwrap_or_else(|_| text())
    }))
}

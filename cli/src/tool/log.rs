//! `chat4all log`: what is on the log, readable, for whoever is woken at night.

use std::time::Duration;

use anyhow::bail;
use chat4all_domain::{
    ConversationId, Event as _, MessageId, Partition, Position, Timestamp, conversation, delivery,
    identity, message, reader,
};
use chat4all_nats::reader::{Feed, Keep, Spec};
use chat4all_nats::{Log, Stored, streams, subject};
use chat4all_service::telemetry::trace::TRACEPARENT;
use clap::Args;
use clap::builder::PossibleValuesParser;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio::time::Instant;
use tokio_util::task::TaskTracker;
use uuid::Uuid;

use super::{Common, line, note, open_log, parse_id, parse_limit};

/// How long one read of the log may take.
const READ_TIMEOUT: Duration = Duration::from_secs(10);

/// Flags of `chat4all log`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all log --conversation 0193…              everything that happened in it, oldest first
  chat4all log --conversation 0193… --message 0194…   one message and its deliveries
  chat4all log --follow --type DeliveryFailed    failures as they happen, from now on
  chat4all log --from 07-1200 --limit 20         what stands behind a position

Message texts, names and addresses are shown only with --personal.
The same with the nats CLI: nats stream view EVT-07 --subject 'chat.evt.*.message.<conversation>.>'")]
pub struct LogCommand {
    #[command(flatten)]
    common: Common,
    /// Only this conversation.
    #[arg(long, value_name = "ID", value_parser = parse_id::<ConversationId>)]
    conversation: Option<ConversationId>,
    /// Only this message and its deliveries.
    #[arg(long, value_name = "ID", requires = "conversation", value_parser = parse_id::<MessageId>)]
    message: Option<MessageId>,
    /// Only envelopes with an event of this type, such as MessageAccepted.
    #[arg(long = "type", value_name = "TYPE", value_parser = PossibleValuesParser::new(event_types()))]
    event_type: Option<String>,
    /// Begin behind this position instead of at the beginning: 07-1200.
    #[arg(long, value_name = "POSITION")]
    from: Option<Position>,
    /// Go on as new events come, until Ctrl-C. Without --from: from now on.
    #[arg(long, short)]
    follow: bool,
    /// Stop after so many events.
    #[arg(long, value_name = "N", default_value_t = usize::MAX, hide_default_value = true, value_parser = parse_limit)]
    limit: usize,
    /// Show texts, names and addresses too.
    #[arg(long)]
    personal: bool,
    /// Print one JSON object per event.
    #[arg(long)]
    json: bool,
}

/// Prints events.
///
/// # Errors
/// The log cannot be read, or the flags contradict each other.
pub async fn run(command: &LogCommand) -> anyhow::Result<()> {
    let config = command.common.load()?.config;
    let log = open_log(&config, "log").await?;
    let partitions = command.partitions(&log)?;
    let mut printed = 0;
    if command.follow {
        return follow(command, &log, partitions, &mut printed).await;
    }
    for partition in partitions {
        let mut after = command.after(partition);
        loop {
            let batch = log
                .read(partition, after + 1, Instant::now() + READ_TIMEOUT)
                .await?;
            let Some(last) = batch.last() else { break };
            after = last.sequence;
            for stored in &batch {
                if !command.print(partition, stored, &mut printed)? {
                    return Ok(());
                }
            }
        }
    }
    if printed == 0 {
        note(command.nothing());
    }
    Ok(())
}

async fn follow(
    command: &LogCommand,
    log: &Log,
    partitions: Vec<Partition>,
    printed: &mut usize,
) -> anyhow::Result<()> {
    let (found, mut events) = mpsc::channel(64);
    let tasks = TaskTracker::new();
    let name = Uuid::now_v7().simple();
    for partition in partitions {
        let after = match command.from {
            Some(from) if from.partition == partition => from.sequence,
            Some(_) | None => {
                log.last_sequence(partition, Instant::now() + READ_TIMEOUT)
                    .await?
            }
        };
        let spec = Spec {
            stream: streams::name(partition),
            durable: format!("log-{partition}-{name}"),
            description: "chat4all log --follow".to_owned(),
            filter: None,
            keep: Keep::WhileFollowed,
        };
        let mut feed = Feed::open(log.clone(), spec, after).await?;
        let found = found.clone();
        tasks.spawn(async move {
            loop {
                let next = feed.next().await;
                let failed = next.is_err();
                if found.send((partition, next)).await.is_err() || failed {
                    return;
                }
            }
        });
    }
    drop(found);
    while let Some((partition, stored)) = events.recv().await {
        if !command.print(partition, &stored?, printed)? {
            return Ok(());
        }
    }
    Ok(())
}

impl LogCommand {
    fn partitions(&self, log: &Log) -> anyhow::Result<Vec<Partition>> {
        let of_conversation = self.conversation.map(|id| log.partition_of(&id));
        match (self.from, of_conversation) {
            (Some(from), Some(partition)) if from.partition != partition => {
                bail!(
                    "--from is in partition {}, the conversation is in {partition}",
                    from.partition
                )
            }
            (Some(from), _) if from.partition.number() >= log.partitions().get() => {
                bail!(
                    "there is no partition {}; this log has {}",
                    from.partition,
                    log.partitions().get()
                )
            }
            (Some(from), _) => Ok(vec![from.partition]),
            (None, Some(partition)) => Ok(vec![partition]),
            (None, None) => Ok(log.partitions().all().collect()),
        }
    }

    fn after(&self, partition: Partition) -> u64 {
        self.from
            .filter(|from| from.partition == partition)
            .map_or(0, |from| from.sequence)
    }

    /// That there is nothing of what was asked for.
    fn nothing(&self) -> String {
        let said = [
            ("conversation", self.conversation.map(|id| id.to_string())),
            ("message", self.message.map(|id| id.to_string())),
            ("type", self.event_type.clone()),
            ("behind", self.from.map(|from| from.to_string())),
        ];
        let said = said.into_iter();
        let words = said.filter_map(|(name, value)| Some(format!("{name} {}", value?)));
        let words: Vec<String> = words.collect();
        match words[..] {
            [] => "chat4all log: nothing is on the log yet".to_owned(),
            _ => format!("chat4all log: nothing on it matches: {}", words.join(", ")),
        }
    }

    fn wants(&self, stored: &Stored) -> bool {
        let of = |id: String| stored.subject.split('.').any(|token| token == id);
        self.conversation.is_none_or(|id| of(id.to_string()))
            && self.message.is_none_or(|id| of(id.to_string()))
    }

    /// Prints the events of one envelope; `false` when there were enough.
    fn print(
        &self,
        partition: Partition,
        stored: &Stored,
        printed: &mut usize,
    ) -> anyhow::Result<bool> {
        if !self.wants(stored) {
            return Ok(true);
        }
        let position = Position::new(partition, stored.sequence);
        let envelope: Value = match serde_json::from_slice(&stored.payload) {
            Ok(envelope) => envelope,
            Err(error) => {
                *printed += 1;
                line(format_args!("{position}  not an envelope: {error}"))?;
                return Ok(*printed < self.limit);
            }
        };
        for event in envelope["events"].as_array().into_iter().flatten() {
            if self
                .event_type
                .as_deref()
                .is_some_and(|wanted| event["type"] != wanted)
            {
                continue;
            }
            if *printed >= self.limit {
                return Ok(false);
            }
            *printed += 1;
            if self.json {
                line(self.as_json(position, stored, &envelope, event))?;
            } else {
                line(self.as_text(position, stored, event))?;
            }
        }
        Ok(*printed < self.limit)
    }

    fn as_json(
        &self,
        position: Position,
        stored: &Stored,
        envelope: &Value,
        event: &Value,
    ) -> Value {
        let mut event = event.clone();
        if !self.personal
            && let Some(fields) = event.as_object_mut()
        {
            fields.remove("personal");
        }
        serde_json::json!({
            "position": position,
            "subject": stored.subject,
            "stored_at": stored_at(stored),
            "command_id": envelope["command_id"],
            "traceparent": stored.headers.get(TRACEPARENT).map(|value| value.as_str()),
            "event": event,
        })
    }

    fn as_text(&self, position: Position, stored: &Stored, event: &Value) -> String {
        let path =
            subject::parse(&stored.subject).map_or(stored.subject.as_str(), |(_, path)| path);
        let name = event["type"].as_str().unwrap_or("?");
        let mut text = format!(
            "{position:<9} {}  {name:<20} {path}\n          {}",
            stored_at(stored),
            event["facts"]
        );
        if self.personal && !event["personal"].is_null() {
            text.push_str(&format!("\n          {}", event["personal"]));
        }
        text
    }
}

/// The broker's time of storing, RFC 3339 to the millisecond.
fn stored_at(stored: &Stored) -> Timestamp {
    let ms = stored.stored_at_ns.div_euclid(1_000_000);
    Timestamp::from_unix_ms(i64::try_from(ms).unwrap_or_default())
}

/// Every type of event that this release knows.
fn event_types() -> Vec<&'static str> {
    let all = [
        conversation::Event::TYPES,
        message::Event::TYPES,
        delivery::Event::TYPES,
        reader::Event::TYPES,
        identity::Event::TYPES,
    ];
    all.concat().into_iter().map(|(name, _)| name).collect()
}

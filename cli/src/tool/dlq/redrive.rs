//! `chat4all dlq redrive`: makes the list, hands it over, and looks on.

use std::collections::BTreeMap;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use chat4all_channel_bridges::redrive::{Item, Jobs, MAX_ITEMS, MAX_RATE, NewJob};
use chat4all_domain::{ConversationId, MessageId, Position, UserId};
use chat4all_postgres::read::failed_deliveries;
use chat4all_service::{Config, clock};
use clap::Args;
use serde_json::json;

use super::filter::{Kind, Which};
use super::id::Id;
use super::jobs;
use super::letter::Letter;
use super::say_nothing_found;
use super::stores::Stores;
use crate::tool::{line, note, open_log, parse_name, who};

/// Places asked of Postgres at a time.
const AT_A_TIME: usize = 1_000;

/// Flags of `chat4all dlq redrive`.
#[derive(Debug, Args)]
pub struct Redrive {
    /// These dead letters, as `ls` shows them.
    #[arg(value_name = "ID", conflicts_with_all = ["all", "kinds", "account", "conversation", "reason", "since", "until"])]
    ids: Vec<Id>,
    #[command(flatten)]
    which: Which,
    /// All that there are now.
    #[arg(long, conflicts_with_all = ["kinds", "account", "conversation", "reason", "since", "until"])]
    all: bool,
    /// At most so many per second, 1/s to 1000/s.
    #[arg(long, value_name = "N/s", default_value = "20/s", value_parser = rate)]
    rate: u32,
    /// Show what would be tried again, in its order, and do nothing.
    #[arg(long)]
    dry_run: bool,
    /// Hand the job over and do not look on.
    #[arg(long)]
    detach: bool,
    /// Who you are, for history; without it, who is logged in.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    by: Option<String>,
    /// Print JSON: a line per second, the job at the end.
    #[arg(long)]
    json: bool,
}

/// Has dead letters tried again.
///
/// # Errors
/// A store is away, an id is no dead letter, or is a poison event.
pub async fn run(config: &Config, redrive: &Redrive) -> anyhow::Result<ExitCode> {
    if redrive.ids.is_empty() && redrive.which.is_everything() && !redrive.all {
        bail!(
            "say which: ids, flags such as --account or --reason, or --all; --dry-run shows what that is"
        );
    }
    let stores = Stores::open(config).await?;
    let found = match redrive.ids[..] {
        [] => everything(&stores, &redrive.which).await?,
        _ => named(&stores, &redrive.ids).await?,
    };
    let (poison, rest): (Vec<_>, Vec<_>) = found
        .into_iter()
        .partition(|letter| letter.kind == Kind::Poison);
    if !poison.is_empty() {
        say_poison(&poison, rest.is_empty() || !redrive.ids.is_empty())?;
    }
    let letters = in_order(&stores, rest).await?;
    if letters.is_empty() {
        say_nothing_found(config, &redrive.which);
    }
    if redrive.dry_run {
        return tell(&letters, redrive.json);
    }
    let items: Vec<Item> = letters.iter().filter_map(|letter| letter.item).collect();
    if items.is_empty() {
        line(if redrive.json {
            json!({ "id": null, "total": 0 }).to_string()
        } else {
            "nothing to redrive".to_owned()
        })?;
        return Ok(ExitCode::SUCCESS);
    }
    if items.len() > MAX_ITEMS {
        bail!(
            "{} dead letters are more than the {MAX_ITEMS} that one job takes; say less, with --account or --until",
            items.len()
        );
    }
    let by_name = who(redrive.by.as_deref());
    let jobs = Jobs::new(&open_log(config, "dlq").await?);
    let id = jobs
        .add(NewJob {
            by: UserId::derive(&config.auth.issuer, &by_name),
            by_name,
            at: clock::now().into(),
            what: match redrive.ids.len() {
                0 => redrive.which.words(),
                1 => redrive.ids[0].to_string(),
                several => format!("{several} by id"),
            },
            rate_per_s: redrive.rate,
            items,
        })
        .await
        .context("the redrive could not be handed over, and nothing was redriven")?;
    if redrive.detach {
        return jobs::print(&jobs.get(id).await?, redrive.json);
    }
    note(format_args!(
        "redrive {id} is handed over; Ctrl-C ends this view, `chat4all dlq cancel {id}` the job"
    ));
    jobs::follow(&jobs, id, redrive.json).await
}

/// Everything that the flags let through; all of it or an error.
async fn everything(stores: &Stores, which: &Which) -> anyhow::Result<Vec<Letter>> {
    let found = stores.page(which, None, usize::MAX).await?;
    if let Some(left_out) = found.left_out.first() {
        let kind = left_out.kind.as_str();
        bail!(
            "dead letters of the kind {kind} cannot be read now, so the list would not be complete; --kind asks for the others: {}",
            left_out.why
        );
    }
    Ok(found.letters)
}

async fn named(stores: &Stores, ids: &[Id]) -> anyhow::Result<Vec<Letter>> {
    let mut found = BTreeMap::new();
    for id in ids {
        let letter = stores.get(*id).await?;
        let letter = letter.with_context(|| {
            format!("{id} is no dead letter, or not any more; nothing was redriven")
        })?;
        found.insert(id.to_string(), letter);
    }
    Ok(found.into_values().collect())
}

/// Poison events are not tried alone; who asked for them has to know the way.
fn say_poison(poison: &[Letter], alone: bool) -> anyhow::Result<()> {
    let ids: Vec<_> = poison.iter().map(|letter| letter.id.to_string()).collect();
    let ids = ids.join(", ");
    let why = "a poison event cannot be folded after its successors: repair or upgrade the projector, then `chat4all rebuild`";
    if alone {
        bail!("{why}; nothing was redriven: {ids}");
    }
    note(format_args!("chat4all dlq: {why}; left out: {ids}"));
    Ok(())
}

/// What was parked as it came in; then what failed, in the order of its messages on the log. So within a lane nothing
/// overtakes.
async fn in_order(stores: &Stores, letters: Vec<Letter>) -> anyhow::Result<Vec<Letter>> {
    let messages = letters
        .iter()
        .filter_map(|letter| letter.conversation.zip(letter.message));
    let messages: Vec<(ConversationId, MessageId)> = messages.collect();
    let mut places = BTreeMap::new();
    for part in messages.chunks(AT_A_TIME) {
        let found = failed_deliveries::messages_at(&stores.reads, part).await;
        places.extend(found.context("the read models cannot be asked where messages stand")?);
    }
    let mut placed = Vec::new();
    for letter in letters {
        let place: (Option<Position>, u64) = match letter.id {
            Id::FailedDelivery(conversation, message, n) => {
                let place = places.get(&(conversation, message)).copied();
                let place = place.with_context(|| {
                    format!(
                        "the message of {} is not in the read models, so its order is not known; `chat4all rebuild` first",
                        letter.id
                    )
                })?;
                (Some(place), u64::from(n))
            }
            Id::ParkedInbound(sequence) => (None, sequence),
            Id::PoisonEvent(_) => continue,
        };
        placed.push((place, letter));
    }
    placed.sort_by_key(|((at, n), _)| (at.map(|at| (at.partition, at.sequence)), *n));
    Ok(placed.into_iter().map(|(_, letter)| letter).collect())
}

fn tell(letters: &[Letter], as_json: bool) -> anyhow::Result<ExitCode> {
    if as_json {
        line(json!({ "total": letters.len(), "dead_letters": letters }))?;
        return Ok(ExitCode::SUCCESS);
    }
    for letter in letters {
        line(letter)?;
    }
    line(format_args!(
        "{} would be redriven, in this order",
        letters.len()
    ))?;
    Ok(ExitCode::SUCCESS)
}

fn rate(text: &str) -> Result<u32, String> {
    let number = text.strip_suffix("/s").unwrap_or(text).parse().ok();
    let number = number.filter(|rate| (1..=MAX_RATE).contains(rate));
    number.ok_or_else(|| format!("a rate is 1/s to {MAX_RATE}/s, such as 20/s"))
}

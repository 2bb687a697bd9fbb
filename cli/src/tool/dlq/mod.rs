//! `chat4all dlq`: dead letters of all three kinds, and trying them again.

mod filter;
mod id;
mod jobs;
mod letter;
mod redrive;
mod show;
mod stores;

use std::process::ExitCode;

use chat4all_service::Config;
use clap::{Args, Subcommand};
use serde_json::json;

use super::{Common, line, note, parse_limit};
use filter::Which;
use stores::{Cursor, LeftOut, Stores};

/// A store was away: what is shown is not all.
const INCOMPLETE: u8 = 3;

/// Flags of `chat4all dlq`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all dlq ls                                        what needs a look, newest first of each kind
  chat4all dlq ls --kind failed-delivery --account whatsapp-main --since 2h
  chat4all dlq show failed-delivery:0193…:0194…:0
  chat4all dlq redrive --account whatsapp-main --reason RECIPIENT_NOT_REACHABLE --dry-run
  chat4all dlq redrive --all --rate 50/s
  chat4all dlq jobs                                      redrives and how far they are
  chat4all dlq cancel 0195…

A redrive is a job on the broker that bridges work off: it goes on without this command, and after kill -9 of anybody.
No text, address or provider's word is shown but by `show --personal`. GraphQL has the same list: deadLetters.")]
pub struct DlqCommand {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// List dead letters: kind behind kind, each newest first.
    #[command(after_help = "\
Examples:
  chat4all dlq ls
  chat4all dlq ls --kind parked --limit 200
  chat4all dlq ls --conversation 0193… --since 2026-11-28T12:00:00Z --until 1h
  chat4all dlq ls --json | jq -r '.dead_letters[].id'

More than --limit: --after with the place shown in the last line goes on.
Exit code: 0 all were asked for, 1 nothing could be read, 3 a store is away and its kinds are left out.")]
    Ls(Ls),
    /// Show everything about one dead letter.
    #[command(after_help = "\
Examples:
  chat4all dlq show failed-delivery:0193…:0194…:0
  chat4all dlq show parked-inbound:17 --personal     the raw item, which is a customer's")]
    Show(show::Show),
    /// Try dead letters again: those named, those that flags let through, or all.
    #[command(after_help = "\
Examples:
  chat4all dlq redrive failed-delivery:0193…:0194…:0
  chat4all dlq redrive --account whatsapp-main --reason RECIPIENT_NOT_REACHABLE --dry-run
  chat4all dlq redrive --kind parked --rate 5/s
  chat4all dlq redrive --all --detach --json

What failed is sent again, in the order of its messages on the log; what was parked is taken in again, as it came. What
needs nothing any more is skipped. Ctrl-C ends this view and not the job. Poison events cannot be tried alone: an event
folded after its successors would be another order; `chat4all rebuild` folds them.
Exit code: 0 done, or handed over with --detach; 3 some could not be tried again, and are named.")]
    Redrive(redrive::Redrive),
    /// Show redrives and how far they are.
    #[command(after_help = "\
Examples:
  chat4all dlq jobs
  chat4all dlq jobs 0195… --watch
  chat4all dlq jobs --json | jq '.[] | select(.state == \"running\")'")]
    Jobs(jobs::List),
    /// Stop a redrive where it is. What it has not come to stays a dead letter.
    #[command(after_help = "\
Examples:
  chat4all dlq cancel 0195…
  chat4all dlq cancel 0195… --by anna --json")]
    Cancel(jobs::Word),
    /// Let a redrive that was stopped go on from where it is.
    #[command(after_help = "\
Examples:
  chat4all dlq resume 0195…
  chat4all dlq resume 0195… --by anna --json")]
    Resume(jobs::Word),
}

/// Which dead letters, and how many.
#[derive(Debug, Args)]
struct Ls {
    #[command(flatten)]
    which: Which,
    /// At most so many.
    #[arg(long, value_name = "N", default_value_t = 50, value_parser = parse_limit)]
    limit: usize,
    /// Go on behind this place, as the last page showed it.
    #[arg(long, value_name = "PLACE")]
    after: Option<Cursor>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Shows dead letters, or has them tried again.
///
/// # Errors
/// The stores do not answer, or the flags name nothing that there is.
pub async fn run(command: &DlqCommand) -> anyhow::Result<ExitCode> {
    let config = command.common.load()?.config;
    match &command.what {
        What::Ls(ls) => list(&config, ls).await,
        What::Show(show) => show::run(&config, show).await,
        What::Redrive(redrive) => redrive::run(&config, redrive).await,
        What::Jobs(list) => jobs::list(&config, list).await,
        What::Cancel(word) => jobs::say(&config, word, true).await,
        What::Resume(word) => jobs::say(&config, word, false).await,
    }
}

async fn list(config: &Config, ls: &Ls) -> anyhow::Result<ExitCode> {
    let stores = Stores::open(config).await?;
    let found = stores.page(&ls.which, ls.after.as_ref(), ls.limit).await?;
    if found.letters.is_empty() && found.left_out.is_empty() {
        say_nothing_found(config, &ls.which);
    }
    if ls.json {
        let next = found.next.as_ref().map(ToString::to_string);
        line(json!({ "dead_letters": found.letters, "next": next, "left_out": found.left_out }))?;
    } else {
        for letter in &found.letters {
            line(letter)?;
        }
        if found.letters.is_empty() && found.left_out.is_empty() {
            line("no dead letters")?;
        }
        if let Some(next) = &found.next {
            line(format_args!("there are more: --after {next}"))?;
        }
    }
    Ok(say_left_out(&found.left_out))
}

/// Says what was asked for when flags let nothing through.
fn say_nothing_found(config: &Config, which: &Which) {
    if which.is_everything() {
        return;
    }
    let accounts: Vec<_> = config.channels.keys().map(String::as_str).collect();
    let said = which.nothing_found(&accounts);
    note(format_args!("chat4all dlq: {said}"));
}

fn say_left_out(left_out: &[LeftOut]) -> ExitCode {
    for one in left_out {
        note(format_args!(
            "chat4all dlq: {} left out: {}",
            one.kind.as_str(),
            one.why
        ));
    }
    match left_out {
        [] => ExitCode::SUCCESS,
        _ => ExitCode::from(INCOMPLETE),
    }
}

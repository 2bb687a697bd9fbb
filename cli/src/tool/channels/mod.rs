//! `chat4all channels`: how the accounts are doing, and an operator's word to one.

mod row;

pub use row::wait_for_another_try;

use std::collections::BTreeMap;

use anyhow::{Context as _, bail};
use chat4all_channel_bridges::accounts::Accounts;
use chat4all_channel_bridges::state::{Decision, State};
use chat4all_domain::{AccountId, ChannelKind, Timestamp};
use chat4all_service::{Config, clock, config::Channel};
use clap::{Args, Subcommand};

use super::{Common, line, open_log, parse_name, who};
use row::Row;

/// Flags of `chat4all channels`.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  chat4all channels ls
  chat4all channels ls --json | jq '.[] | select(.state != \"active\")'
  chat4all channels pause whatsapp-main --reason 'number moves to another provider'
  chat4all channels resume whatsapp-main --reason 'moved'

A paused account holds its queue and fails nothing; it stays paused whatever restarts. The same with the nats CLI:
nats kv get CHANNEL_STATE whatsapp.<account>")]
pub struct ChannelsCommand {
    #[command(flatten)]
    common: Common,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Show each account's state, what waits for it, and why.
    #[command(after_help = "\
States: active; paused (by an operator); held (the account must be repaired: one message a minute tries it); breaker open
(its provider fails too often: one message tries it at the time shown); throttled (the provider wants fewer calls until
then). Deliveries waiting are as of a second ago, while bridges run; of an active account, `why` says which recipients wait
for another try.

Examples:
  chat4all channels ls
  chat4all channels ls --json | jq 'map(.waiting) | add'")]
    Ls {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Stop an account: its queue waits until somebody resumes it.
    #[command(after_help = "\
Calls under way are finished. Nothing fails because of it; only what is not worth sending any more (valid_until) expires.

Examples:
  chat4all channels pause whatsapp-main --reason 'wrong template in campaign 7'
  chat4all channels pause whatsapp-main --reason 'incident 4711' --by anna --json")]
    Pause(Word),
    /// Let an account go on. One that is held, or whose breaker is open, is tried at once instead of at its time.
    #[command(after_help = "\
Examples:
  chat4all channels resume whatsapp-main --reason 'campaign stopped'
  chat4all channels resume whatsapp-main --reason 'new token is in place'")]
    Resume(Word),
}

/// An operator's word to one account.
#[derive(Debug, Args)]
struct Word {
    /// The account, by its name in `[channels]`.
    #[arg(value_name = "ACCOUNT")]
    account: AccountId,
    /// Why, for whoever looks at it next.
    #[arg(long, value_name = "TEXT", value_parser = reason)]
    reason: String,
    /// Who you are; without it, who is logged in.
    #[arg(long, value_name = "NAME", value_parser = parse_name)]
    by: Option<String>,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Shows the accounts, or changes how one is treated.
///
/// # Errors
/// The configuration names no such account, or the broker does not answer.
pub async fn run(command: &ChannelsCommand) -> anyhow::Result<()> {
    let config = command.common.load()?.config;
    let kinds = kinds(&config)?;
    let accounts = Accounts::new(&open_log(&config, "channels").await?);
    match &command.what {
        What::Ls { json } => list(&accounts, &kinds, *json).await,
        What::Pause(word) => say(&accounts, &kinds, word, &PAUSE).await,
        What::Resume(word) => say(&accounts, &kinds, word, &RESUME).await,
    }
}

/// What an operator can decide, and how it is told.
struct Decide {
    /// `false` when it changes nothing.
    how: fn(&mut State, Decision) -> bool,
    done: &'static str,
    nothing_to_do: &'static str,
}

const PAUSE: Decide = Decide {
    how: State::pause,
    done: "is paused",
    nothing_to_do: "is paused already: what was said first stays, this reason is not kept",
};
const RESUME: Decide = Decide {
    how: State::resume,
    done: "is resumed",
    nothing_to_do: "is held by nothing that can be resumed: this reason is not kept",
};

/// Accounts, by their ids.
pub type Kinds = BTreeMap<AccountId, ChannelKind>;

/// The accounts of a configuration, and at which kind of provider each is.
///
/// # Errors
/// An id that is none.
pub fn kinds(config: &Config) -> anyhow::Result<Kinds> {
    let kind = |(id, channel): (&String, &Channel)| {
        let kind = match channel {
            Channel::WhatsApp(_) => ChannelKind::WhatsApp,
        };
        Ok((id.parse().context("the id of an account")?, kind))
    };
    config.channels.iter().map(kind).collect()
}

async fn list(accounts: &Accounts, kinds: &Kinds, json: bool) -> anyhow::Result<()> {
    let mut rows = Vec::new();
    for (id, kind) in kinds {
        rows.push(row(accounts, *kind, id).await?);
    }
    if json {
        return Ok(line(serde_json::to_string(&rows)?)?);
    }
    line(Row::HEAD)?;
    for row in rows {
        line(row)?;
    }
    Ok(())
}

async fn row(accounts: &Accounts, kind: ChannelKind, id: &AccountId) -> anyhow::Result<Row> {
    let state = accounts.state(kind, id).await?;
    let waiting = accounts.waiting(kind).await?;
    let waiting = waiting.map(|all| all.get(id).copied().unwrap_or_default());
    Ok(Row::new((kind, id), state, waiting, now()))
}

async fn say(
    accounts: &Accounts,
    kinds: &Kinds,
    word: &Word,
    decide: &Decide,
) -> anyhow::Result<()> {
    let id = &word.account;
    let Some(kind) = kinds.get(id) else {
        let known: Vec<_> = kinds.keys().map(AccountId::as_str).collect();
        bail!(
            "no account `{id}` in the configuration; there is {}",
            match known[..] {
                [] => "none".to_owned(),
                _ => known.join(", "),
            }
        );
    };
    let decision = word.decision();
    let fold = |state: &mut State| (decide.how)(state, decision.clone());
    let (_, changed) = accounts.change((*kind, id), fold).await?;
    let row = row(accounts, *kind, id).await?;
    if word.json {
        let mut row = serde_json::to_value(&row)?;
        row["changed"] = changed.into();
        return Ok(line(row)?);
    }
    let told = if changed {
        decide.done
    } else {
        decide.nothing_to_do
    };
    line(format_args!("account `{id}` {told}"))?;
    line(Row::HEAD)?;
    Ok(line(row)?)
}

impl Word {
    fn decision(&self) -> Decision {
        Decision {
            since: now(),
            by: who(self.by.as_deref()),
            reason: self.reason.clone(),
        }
    }
}

fn now() -> Timestamp {
    clock::now().into()
}

fn reason(text: &str) -> Result<String, &'static str> {
    let text = text.trim();
    match text.chars().count() {
        1..=500 => Ok(text.to_owned()),
        _ => Err("1 to 500 characters"),
    }
}

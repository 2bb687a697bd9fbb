//! The accounts at providers, by what the bridges have learnt about them.

use std::collections::BTreeSet;
use std::time::Duration;

use chat4all_channel_bridges::accounts::{Accounts, Retrying};
use chat4all_domain::{AccountId, Timestamp};
use chat4all_nats::{Client, Log, streams};
use chat4all_service::{Config, clock};
use futures::TryStreamExt as _;
use serde_json::Value;
use tokio::time::timeout;

use super::finding::{Area, Finding};
use crate::tool::channels::{self, wait_for_another_try};

/// How long each of the two looks may take: without a leader the list of keys may begin and not end.
const PATIENCE: Duration = Duration::from_secs(10);

/// Looks at what stands in the bucket about each account, and, where there is a log, at who waits for another try.
pub async fn look(config: &Config, client: &Client, log: Option<&Log>) -> Vec<Finding> {
    let mut found = states(config, client).await;
    let Some(log) = log else {
        return found;
    };
    match timeout(PATIENCE, retrying(config, log)).await {
        Ok(Ok(retrying)) => {
            let told = retrying.iter();
            found.extend(told.map(|(account, retrying)| retries(account, retrying)));
        }
        Ok(Err(error)) => found.push(unread("what waits for another try", &error)),
        Err(late) => found.push(unread("what waits for another try", &late.into())),
    }
    found
}

fn unread(what: &str, error: &anyhow::Error) -> Finding {
    Finding::wrong(
        Area::Channels,
        format!("{what} cannot be read: {error:#}"),
        "the buckets CHANNEL_STATE and LANES",
        "`chat4all provision` makes them; otherwise look at the broker",
    )
}

/// What the bridges said last of the accounts of this configuration.
async fn retrying(config: &Config, log: &Log) -> anyhow::Result<Vec<(AccountId, Retrying)>> {
    let accounts = Accounts::new(log);
    let kinds = channels::kinds(config)?;
    let mut all = Vec::new();
    for kind in kinds.values().collect::<BTreeSet<_>>() {
        let waiting = accounts.waiting(*kind).await?.unwrap_or_default();
        let known = waiting.into_iter().filter(|(id, _)| kinds.contains_key(id));
        all.extend(known.filter_map(|(id, waiting)| Some((id, waiting.retrying?))));
    }
    Ok(all)
}

fn retries(account: &AccountId, retrying: &Retrying) -> Finding {
    Finding::notice(
        Area::Channels,
        format!("account `{account}`: {}", wait_for_another_try(retrying)),
        "a provider that takes a message at the first try",
        "nothing, if it is few and passes: each is tried again by itself, ever later, and nothing is lost; `chat4all log \
         --follow --type DeliveryDeferred` says why. If many wait: is the provider down (its status page), is the network?",
    )
}

async fn states(config: &Config, client: &Client) -> Vec<Finding> {
    let entries = timeout(PATIENCE, entries(config, client)).await;
    let entries = match entries.unwrap_or_else(|late| Err(late.into())) {
        Ok(entries) => entries,
        Err(error) => {
            return vec![unread("the accounts' states", &error)];
        }
    };
    let now = Timestamp::from(clock::now());
    let found = entries
        .iter()
        .flat_map(|(account, state)| state_findings(account, state, now));
    found.collect()
}

/// The accounts of this configuration, and what is known of each. Their keys are `<kind>.<account>`; those of single
/// customers are longer, and there may be many.
async fn entries(config: &Config, client: &Client) -> anyhow::Result<Vec<(String, Value)>> {
    let bucket = Log::context(client)
        .get_key_value(streams::CHANNEL_STATE)
        .await?;
    let keys: Vec<String> = bucket.keys().await?.try_collect().await?;
    let mut entries = Vec::new();
    for key in keys {
        let account = key.split_once('.').map_or(&*key, |(_, account)| account);
        if config.channels.contains_key(account)
            && let Some(value) = bucket.get(&key).await?
        {
            entries.push((account.to_owned(), serde_json::from_slice(&value)?));
        }
    }
    Ok(entries)
}

fn state_findings(account: &str, state: &Value, now: Timestamp) -> Vec<Finding> {
    let word = |of: &Value, name: &str| of[name].as_str().unwrap_or("?").to_owned();
    let mut found = Vec::new();
    let held = &state["held"];
    if held.is_object() {
        let code = held["code"]
            .as_str()
            .map(|code| format!(", the provider's code is {code}"));
        found.push(Finding::wrong(
            Area::Channels,
            format!(
                "account `{account}` is held since {}: {}{}; its messages wait, none fails",
                word(held, "since"),
                word(held, "reason"),
                code.unwrap_or_default()
            ),
            "an account that the provider lets send",
            format!(
                "repair it at the provider, or its settings (CHAT4ALL_CHANNELS__{}__TOKEN and the like) and restart the \
                 bridges; one message a minute tries, `chat4all channels resume {account} --reason …` tries at once, and the queue \
                 drains by itself",
                account.replace('-', "_").to_uppercase()
            ),
        ));
    }
    let broken = &state["broken"];
    if broken.is_object() {
        found.push(Finding::wrong(
            Area::Channels,
            format!("the provider of account `{account}` fails too often since {}: its breaker is open", word(broken, "since")),
            "a provider that answers",
            "look at the provider's status page; one message tries it from time to time, and then everything goes on",
        ));
    }
    let paused = &state["paused"];
    if paused.is_object() {
        found.push(Finding::notice(
            Area::Channels,
            format!(
                "{} has stopped account `{account}` since {} ({}): nothing goes out",
                word(paused, "by"),
                word(paused, "since"),
                word(paused, "reason")
            ),
            "running, unless it was meant",
            format!("`chat4all channels resume {account} --reason …` lets it go on"),
        ));
    }
    let until = serde_json::from_value(state["throttled_until"].clone());
    let until: Option<Timestamp> = until.ok();
    if let Some(until) = until.filter(|until| *until > now) {
        found.push(Finding::notice(
            Area::Channels,
            format!("the provider throttles account `{account}`: no calls before {until}"),
            "fewer calls than the provider allows",
            format!(
                "lower CHAT4ALL_CHANNELS__{}__RATE_PER_S if it lasts",
                account.replace('-', "_").to_uppercase()
            ),
        ));
    }
    found
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::tool::doctor::Weight;

    #[test]
    fn each_state_has_its_sentence_and_a_past_one_has_none() {
        let now = Timestamp::from_unix_ms(1_700_000_000_000);
        let soon = serde_json::to_value(now.plus(std::time::Duration::from_secs(60))).unwrap();
        let past = serde_json::to_value(Timestamp::from_unix_ms(1_600_000_000_000)).unwrap();
        let says = |state: Value| -> Vec<String> {
            let found = state_findings("main-1", &state, now);
            found.into_iter().map(|finding| finding.what).collect()
        };
        assert_eq!(says(json!({})), Vec::<String>::new());
        assert_eq!(
            says(json!({ "throttled_until": past })),
            Vec::<String>::new()
        );
        let throttled = says(json!({ "throttled_until": soon }));
        assert!(
            throttled[0].contains("throttles account `main-1`"),
            "{throttled:?}"
        );
        let state = json!({ "held": { "since": past, "reason": "INACTIVE_CREDENTIAL", "code": "190", "probe_at": soon } });
        let held = says(state);
        assert!(
            held[0].contains("INACTIVE_CREDENTIAL, the provider's code is 190"),
            "{held:?}"
        );
    }

    #[test]
    fn an_open_breaker_is_wrong_a_pause_is_a_notice_and_both_are_said() {
        let now = Timestamp::from_unix_ms(1_700_000_000_000);
        let broken = json!({
            "since": "2026-11-22T00:00:00.000Z", "failed": 10, "of": 20, "probe_at": "2026-11-22T00:00:30.000Z",
        });
        let paused =
            json!({"since": "2026-11-22T01:00:00.000Z", "by": "anna", "reason": "incident 4711"});
        let found = |state: Value| -> Vec<(Weight, String, String)> {
            let found = state_findings("main-1", &state, now).into_iter();
            found.map(|one| (one.weight, one.what, one.mend)).collect()
        };
        let only = |state: Value| {
            let mut all = found(state);
            assert_eq!(all.len(), 1, "{all:?}");
            all.remove(0)
        };
        let breaker = only(json!({ "broken": broken }));
        assert_eq!(breaker.0, Weight::Wrong);
        assert_eq!(
            breaker.1,
            "the provider of account `main-1` fails too often since 2026-11-22T00:00:00.000Z: its breaker is open"
        );
        assert!(breaker.2.contains("provider's status page"), "{breaker:?}");
        let pause = only(json!({ "paused": paused }));
        assert_eq!(pause.0, Weight::Notice);
        assert_eq!(
            pause.1,
            "anna has stopped account `main-1` since 2026-11-22T01:00:00.000Z (incident 4711): nothing goes out"
        );
        let resume = "`chat4all channels resume main-1 --reason …`";
        assert!(pause.2.contains(resume), "{pause:?}");
        let both = found(json!({ "broken": broken, "paused": paused }));
        assert_eq!(both, [breaker, pause]);
        // Who let it go on is no news.
        assert_eq!(found(json!({ "resumed": paused })), []);
    }
}

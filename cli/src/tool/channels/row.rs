//! One account, for people and for programs.

use std::fmt;

use chat4all_channel_bridges::accounts::{Retrying, Waiting};
use chat4all_channel_bridges::state::{Broken, Decision, Held, State};
use chat4all_domain::{AccountId, ChannelKind, Timestamp};
use serde::Serialize;

/// How one account is doing.
#[derive(Debug, Serialize)]
pub struct Row {
    account: AccountId,
    channel: ChannelKind,
    state: &'static str,
    /// Since when it is in that state, where that is known.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    /// Deliveries that are not handed over yet, as of about a second ago; null while no bridge ever ran.
    waiting: Option<usize>,
    /// Recipients whose next delivery waits for another try, of those.
    #[serde(skip_serializing_if = "Option::is_none")]
    retrying: Option<Retrying>,
    #[serde(skip_serializing_if = "Option::is_none")]
    paused: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    resumed: Option<Decision>,
    #[serde(skip_serializing_if = "Option::is_none")]
    held: Option<Held>,
    #[serde(skip_serializing_if = "Option::is_none")]
    breaker: Option<Broken>,
    #[serde(skip_serializing_if = "Option::is_none")]
    throttled_until: Option<Timestamp>,
    /// Why, in a sentence.
    why: String,
}

impl Row {
    /// The heads of the columns.
    pub const HEAD: &'static str =
        "account                   channel   state         since                      waiting  why";

    /// What `state` says about an account at `now`.
    pub fn new(
        (channel, account): (ChannelKind, &AccountId),
        state: State,
        waiting: Option<Waiting>,
        now: Timestamp,
    ) -> Self {
        let throttled_until = state.throttled_until.filter(|until| *until > now);
        let (word, since, mut why) = said(&state, throttled_until, now);
        let retrying = waiting.and_then(|waiting| waiting.retrying);
        if let Some(retrying) = retrying.filter(|_| why.is_empty()) {
            why = wait_for_another_try(&retrying);
        }
        Self {
            account: account.clone(),
            channel,
            state: word,
            since,
            waiting: waiting.map(|waiting| waiting.deliveries),
            retrying,
            paused: state.paused,
            resumed: state.resumed,
            held: state.held,
            breaker: state.broken,
            throttled_until,
            why,
        }
    }
}

/// `6 recipients wait for another try, the first (TRANSIENT) at 2026-…`
pub fn wait_for_another_try(retrying: &Retrying) -> String {
    let Retrying {
        recipients, next, ..
    } = retrying;
    let class = serde_json::to_value(retrying.class).unwrap_or_default();
    let class = class.as_str().unwrap_or("unknown");
    match recipients {
        1 => format!("1 recipient waits for another try ({class}) at {next}"),
        _ => format!("{recipients} recipients wait for another try, the first ({class}) at {next}"),
    }
}

/// What holds it most: an operator, its own fault, its provider.
fn said(
    state: &State,
    throttled_until: Option<Timestamp>,
    now: Timestamp,
) -> (&'static str, Option<Timestamp>, String) {
    let next = |probe_at: Timestamp| {
        if probe_at > now {
            format!("next try {probe_at}")
        } else {
            "the next message tries it".to_owned()
        }
    };
    if let Some(paused) = &state.paused {
        let why = format!("by {}: {}", paused.by, paused.reason);
        ("paused", Some(paused.since), why)
    } else if let Some(held) = &state.held {
        let reason = serde_json::to_value(held.reason).unwrap_or_default();
        let reason = reason.as_str().unwrap_or("unknown").to_owned();
        let code = held.code.as_ref();
        let code = code.map_or_else(String::new, |code| format!(", provider code {code}"));
        let why = format!("{reason}{code}; {}", next(held.probe_at));
        ("held", Some(held.since), why)
    } else if let Some(broken) = &state.broken {
        let Broken { failed, of, .. } = broken;
        let why = format!("{failed} of {of} calls failed; {}", next(broken.probe_at));
        ("breaker open", Some(broken.since), why)
    } else if let Some(until) = throttled_until {
        let why = format!("the provider wants no calls before {until}");
        ("throttled", None, why)
    } else {
        ("active", None, String::new())
    }
}

impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let or_dash = |text: Option<String>| text.unwrap_or_else(|| "-".to_owned());
        let (since, waiting) = (
            or_dash(self.since.map(|since| since.to_string())),
            or_dash(self.waiting.map(|waiting| waiting.to_string())),
        );
        let line = format!(
            "{:<24}  {:<8}  {:<12}  {since:<24}  {waiting:>8}  {}",
            self.account.as_str(),
            self.channel.as_str(),
            self.state,
            self.why,
        );
        f.write_str(line.trim_end())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use chat4all_domain::delivery::{FailureClass, Reason};
    use serde_json::json;
    use std::time::Duration;

    fn at(seconds: u64) -> Timestamp {
        Timestamp::from_unix_ms(1_790_000_000_000).plus(Duration::from_secs(seconds))
    }

    fn shown(state: State) -> Row {
        let account = "whatsapp-main".parse().unwrap();
        let waiting = Waiting {
            deliveries: 311,
            retrying: None,
        };
        Row::new(
            (ChannelKind::WhatsApp, &account),
            state,
            Some(waiting),
            at(100),
        )
    }

    fn held(probe_at: u64) -> Option<Held> {
        Some(Held {
            since: at(10),
            reason: Reason::InactiveCredential,
            code: Some("190".to_owned()),
            probe_at: at(probe_at),
        })
    }

    #[test]
    fn every_state_is_a_line_that_says_why() {
        let paused = Some(Decision {
            since: at(20),
            by: "anna".to_owned(),
            reason: "incident 4711".to_owned(),
        });
        let broken = Some(Broken {
            since: at(90),
            failed: 11,
            of: 20,
            probe_at: at(120),
        });
        let states = [
            State::default(),
            State {
                throttled_until: Some(at(101)),
                ..State::default()
            },
            State {
                throttled_until: Some(at(99)),
                ..State::default()
            },
            State {
                broken: broken.clone(),
                ..State::default()
            },
            State {
                held: held(160),
                broken: broken.clone(),
                ..State::default()
            },
            State {
                held: held(99),
                ..State::default()
            },
            State {
                paused,
                held: held(160),
                broken,
                ..State::default()
            },
        ];
        let lines = states.map(|state| shown(state).to_string());
        insta::assert_snapshot!([&[Row::HEAD.to_owned()], &lines[..]].concat().join("\n"));
    }

    #[test]
    fn an_active_account_says_who_waits_for_another_try_and_one_that_is_held_says_that() {
        let account = "whatsapp-main".parse().unwrap();
        let row = |state: State, recipients| {
            let retrying = Some(Retrying {
                recipients,
                next: at(130),
                class: FailureClass::Transient,
            });
            let waiting = Waiting {
                deliveries: 26,
                retrying,
            };
            let row = Row::new(
                (ChannelKind::WhatsApp, &account),
                state,
                Some(waiting),
                at(100),
            );
            serde_json::to_value(row).unwrap()
        };
        let [one, six] = [1, 6].map(|recipients| row(State::default(), recipients));
        let moment = at(130);
        let waits = format!("1 recipient waits for another try (TRANSIENT) at {moment}");
        assert_eq!(
            (&one["state"], &one["why"]),
            (&"active".into(), &waits.into())
        );
        let wait = format!("6 recipients wait for another try, the first (TRANSIENT) at {moment}");
        assert_eq!(six["why"], wait);
        let expected = json!({"recipients": 6, "next": moment, "class": "TRANSIENT"});
        assert_eq!((&six["waiting"], &six["retrying"]), (&26.into(), &expected));
        let held = State {
            held: held(160),
            ..State::default()
        };
        let held = row(held, 6);
        assert!(
            held["why"]
                .as_str()
                .unwrap()
                .contains("INACTIVE_CREDENTIAL")
        );
        assert_eq!(held["retrying"], expected);
    }

    #[test]
    fn programs_get_the_state_and_all_that_holds_it() {
        let row = shown(State {
            held: held(160),
            ..State::default()
        });
        let json = serde_json::to_value(row).unwrap();
        assert_eq!(json["state"], "held");
        assert_eq!(json["waiting"], 311);
        assert_eq!(json["held"]["reason"], "INACTIVE_CREDENTIAL");
        assert_eq!(json["held"]["code"], "190");
        assert_eq!(json["held"]["probe_at"], at(160).to_string());
    }
}

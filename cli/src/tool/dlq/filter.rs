//! Which dead letters: the flags that `ls` and `redrive` share, so that what is listed is what is tried again.

use chat4all_domain::{AccountId, ConversationId, Timestamp};
use chat4all_service::clock;
use clap::{Args, ValueEnum};
use serde::Serialize;
use serde_json::Value;

use super::letter::Letter;
use crate::tool::parse_id;

/// What kind of dead letter it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// An event that the projector could not fold.
    Poison,
    /// Something that came in and could not be understood, or placed.
    Parked,
    /// A delivery that has failed.
    FailedDelivery,
}

impl Kind {
    /// All, in the order in which they are listed: that which should never be first.
    pub const ALL: [Self; 3] = [Self::Poison, Self::Parked, Self::FailedDelivery];

    /// As flags have it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Poison => "poison",
            Self::Parked => "parked",
            Self::FailedDelivery => "failed-delivery",
        }
    }
}

/// Flags that say which dead letters.
#[derive(Clone, Debug, Default, Args)]
pub struct Which {
    /// Only of this kind; may be repeated.
    #[arg(long = "kind", value_name = "KIND", value_enum)]
    pub kinds: Vec<Kind>,
    /// Only those of this account: no poison events, which have none.
    #[arg(long, value_name = "ACCOUNT")]
    pub account: Option<AccountId>,
    /// Only those of this conversation: nothing that was parked, which has none yet.
    #[arg(long, value_name = "ID", value_parser = parse_id::<ConversationId>)]
    pub conversation: Option<ConversationId>,
    /// Only with this reason or provider's code; of parked and poison, with this in the reason.
    #[arg(long, value_name = "TEXT")]
    pub reason: Option<String>,
    /// Only from this moment on: a time like 2026-11-28T12:00:00Z, or how long ago, such as 90m, 2h, 3d.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Only before this moment.
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
}

impl Which {
    /// Whether nothing is said.
    pub fn is_everything(&self) -> bool {
        let Self {
            kinds,
            account,
            conversation,
            reason,
            since,
            until,
        } = self;
        let times = since.is_none() && until.is_none();
        let ids = account.is_none() && conversation.is_none();
        kinds.is_empty() && ids && reason.is_none() && times
    }

    /// The kinds that there can be.
    pub fn kinds(&self) -> Vec<Kind> {
        let may_have = |kind: &Kind| match kind {
            Kind::Poison => self.account.is_none(),
            Kind::Parked => self.conversation.is_none(),
            Kind::FailedDelivery => true,
        };
        let wanted = |kind: &Kind| self.kinds.is_empty() || self.kinds.contains(kind);
        let all = Kind::ALL.into_iter();
        all.filter(|kind| wanted(kind) && may_have(kind)).collect()
    }

    /// Whether `letter` is one of them, as far as its reason and time go.
    pub fn lets_through(&self, letter: &Letter) -> bool {
        let since = self.since.is_none_or(|since| letter.at >= since);
        let until = self.until.is_none_or(|until| letter.at < until);
        let reason = self.reason.as_deref();
        since && until && reason.is_none_or(|reason| letter.has_reason(reason))
    }

    /// That there is nothing, in words; and the accounts that there are, if one was asked for that is none of them.
    pub fn nothing_found(&self, accounts: &[&str]) -> String {
        let nothing = format!("no open dead letter matches: {}", self.words());
        match &self.account {
            Some(account) if !accounts.contains(&account.as_str()) => {
                let known = match accounts {
                    [] => "none".to_owned(),
                    _ => accounts.join(", "),
                };
                format!("{nothing}; accounts in the configuration: {known}")
            }
            Some(_) | None => nothing,
        }
    }

    /// In words, for whoever looks at the job later.
    pub fn words(&self) -> String {
        let kinds = self.kinds.iter().map(|kind| kind.as_str().to_owned());
        let mut words: Vec<String> = kinds.collect();
        let said = [
            ("account", self.account.as_ref().map(ToString::to_string)),
            ("conversation", self.conversation.map(|id| id.to_string())),
            ("reason", self.reason.clone()),
            ("since", self.since.map(|at| at.to_string())),
            ("until", self.until.map(|at| at.to_string())),
        ];
        let said = said.into_iter();
        words.extend(said.filter_map(|(name, value)| Some(format!("{name} {}", value?))));
        match words[..] {
            [] => "all".to_owned(),
            _ => words.join(", "),
        }
    }
}

fn moment(text: &str) -> Result<Timestamp, String> {
    if let Ok(at) = serde_json::from_value(Value::from(text)) {
        return Ok(at);
    }
    ago(text)
        .map(|seconds| {
            let ms = seconds.saturating_mul(1_000);
            let now: Timestamp = clock::now().into();
            Timestamp::from_unix_ms(now.unix_ms().saturating_sub(ms))
        })
        .ok_or_else(|| {
            "a time is like 2026-11-28T12:00:00Z, or how long ago: a number and s, m, h or d"
                .to_owned()
        })
}

fn ago(text: &str) -> Option<i64> {
    let unit = text.chars().last()?;
    let seconds = match unit {
        's' => 1,
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let number: u32 = text[..text.len() - 1].parse().ok()?;
    Some(i64::from(number) * seconds)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_absolute_or_how_long_ago() {
        assert_eq!(ago("90m"), Some(5_400));
        assert_eq!(ago("3d"), Some(259_200));
        let at = moment("2026-11-28T12:00:00Z").unwrap();
        assert_eq!(at.to_string(), "2026-11-28T12:00:00.000Z");
        for bad in ["", "h", "-1h", "1w", "yesterday", "1µ"] {
            assert!(moment(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_kind_that_cannot_have_what_is_asked_for_is_not_asked() {
        let which = Which {
            conversation: Some(ConversationId::new(uuid::Uuid::nil())),
            account: Some("main".parse().unwrap()),
            ..Which::default()
        };
        assert_eq!(which.kinds(), [Kind::FailedDelivery]);
        assert_eq!(Which::default().kinds(), Kind::ALL);
        assert_eq!(Which::default().words(), "all");
    }

    #[test]
    fn who_asks_for_an_account_that_is_none_is_told_those_there_are() {
        let which = Which {
            account: Some("nope".parse().unwrap()),
            ..Which::default()
        };
        let nothing = "no open dead letter matches: account nope";
        assert_eq!(which.nothing_found(&["nope", "main"]), nothing);
        assert_eq!(
            which.nothing_found(&["main", "shop"]),
            format!("{nothing}; accounts in the configuration: main, shop")
        );
        assert!(which.nothing_found(&[]).ends_with("configuration: none"));
    }
}

//! Settings that make no sense together. A rule is a row of a table; it speaks only when both values are right by themselves.

use serde_json::Value;

use super::mistake::Mistake;
use super::reader::Entry;

/// `one` must be less than `other`.
struct Less {
    one: &'static str,
    other: &'static str,
    rule: &'static str,
}

const LESS: &[Less] = &[
    Less {
        one: "bridges.provider_timeout_ms",
        other: "shutdown.grace_ms",
        rule: "the provider's timeout must be shorter than the grace, or a stop cuts off calls whose outcome is then unsure",
    },
    Less {
        one: "http.command_deadline_ms",
        other: "http.request_timeout_ms",
        rule: "the command deadline must be shorter than the request timeout, or a client is cut off before it hears that the outcome is unknown",
    },
    Less {
        one: "http.request_timeout_ms",
        other: "shutdown.grace_ms",
        rule: "the request timeout must be shorter than the grace, or a stop cuts off requests that would have been answered",
    },
    Less {
        one: "postgres.acquire_timeout_ms",
        other: "http.request_timeout_ms",
        rule: "the wait for a connection must be shorter than the request timeout, or a busy database looks like a slow server",
    },
    Less {
        one: "postgres.statement_timeout_ms",
        other: "http.request_timeout_ms",
        rule: "the statement timeout must be shorter than the request timeout, or abandoned statements go on running",
    },
];

/// Everything two settings disagree about.
pub(crate) fn check(entries: &[Entry]) -> Vec<Mistake> {
    let found = |key: &str| {
        entries
            .iter()
            .find(|entry| entry.key == key)?
            .value
            .as_ref()
    };
    let number = |key: &str| found(key).and_then(Value::as_u64);
    let mut mistakes = Vec::new();
    for Less { one, other, rule } in LESS {
        if let (Some(a), Some(b)) = (number(one), number(other))
            && a >= b
        {
            mistakes.push(pair((*one, a.to_string()), (*other, b.to_string()), rule));
        }
    }
    let set = |key: &str| found(key).map(|value| !value.is_null());
    let word = |set: bool| if set { "set" } else { "not set" }.to_owned();
    if let (Some(user), Some(password)) = (set("nats.user"), set("nats.password"))
        && user != password
    {
        mistakes.push(pair(
            ("nats.user", word(user)),
            ("nats.password", word(password)),
            "user and password go together",
        ));
    }
    if let (Some(true), Some(true)) = (set("nats.user"), set("nats.credentials_file")) {
        mistakes.push(pair(
            ("nats.user", word(true)),
            ("nats.credentials_file", word(true)),
            "one way to sign in, not two",
        ));
    }
    mistakes
}

fn pair(one: (&str, String), other: (&str, String), rule: &'static str) -> Mistake {
    Mistake::Pair {
        one: (one.0.to_owned(), one.1),
        other: (other.0.to_owned(), other.1),
        rule,
    }
}

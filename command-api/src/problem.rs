//! The one table from what the domain refuses and the log cannot do to problem details.
//!
//! A refusal says what would be right. A failure says whether anything was stored, because that decides what the client
//! does next. Causes go to the log, once, here.

use std::time::Duration;

use chat4all_domain::{conversation, delivery, identity, message, reader};
use chat4all_nats::streams::MAX_EVENT_BYTES;
use chat4all_nats::{execute, load};
use chat4all_service::Chain;
use chat4all_service::problem::{Code, Problem};
use tracing::error;

/// When to try again after the log was out of reach.
const AFTER_OUTAGE: Duration = Duration::from_secs(1);

/// Whether the same request may be sent again without doing it twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Repeat {
    /// Its ids are derived, or it changes nothing the second time.
    Safe,
    /// Under the message id that the answer names.
    Named,
    /// It acts on what is FAILED at that moment.
    WhatFailed,
    /// It has neither idempotency key nor id.
    Unsafe,
}

/// What a domain's refusal means to a client.
pub(crate) trait Explain: std::error::Error + 'static {
    fn explain(&self) -> Problem;
}

/// The problem behind a command that was not carried out.
pub(crate) fn of_execute<R: Explain>(error: execute::Error<R>, repeat: Repeat) -> Problem {
    match error {
        execute::Error::Rejected(rejection) => rejection.explain(),
        execute::Error::Conflict => Problem::new(
            Code::Conflict,
            "Too many others are changing the same thing. The command was not stored; try again.",
        )
        .retry_after(AFTER_OUTAGE),
        execute::Error::Full => Problem::new(
            Code::LogFull,
            "The log takes nothing new until its operator makes room. The command was not stored.",
        ),
        execute::Error::TooLarge { bytes } => Problem::new(
            Code::PayloadTooLarge,
            format!("As an event this has {bytes} bytes, the log takes {MAX_EVENT_BYTES} at most."),
        ),
        execute::Error::Unavailable => unavailable(),
        execute::Error::Unknown => unknown(repeat),
        execute::Error::Broken(reason) => {
            error!(
                reason,
                "the history of an aggregate cannot be read: {reason}"
            );
            Problem::internal()
        }
    }
}

/// The problem behind a state that could not be read.
pub(crate) fn of_load(error: &load::Error) -> Problem {
    match error {
        load::Error::Read { .. } => unavailable(),
        load::Error::Decode { .. } | load::Error::Hole { .. } => {
            error!(error = %Chain(error), "the history of an aggregate cannot be read");
            Problem::internal()
        }
    }
}

/// Does not exist, or not for this caller: the same words for both.
pub(crate) fn no_such_conversation() -> Problem {
    Problem::new(
        Code::NotFound,
        "There is no such conversation, or you are not in it.",
    )
}

/// The id was used before for something else.
pub(crate) fn mismatch() -> Problem {
    Problem::new(
        Code::IdempotencyMismatch,
        "The same idempotency key or message id came before with another content or from somebody else; \
         use a fresh one for something new.",
    )
}

fn unavailable() -> Problem {
    let detail = "The log is out of reach. The command was not stored; try again.";
    Problem::new(Code::Unavailable, detail).retry_after(AFTER_OUTAGE)
}

fn unknown(repeat: Repeat) -> Problem {
    let detail = match repeat {
        Repeat::Safe => {
            "The log did not confirm in time; it may have been stored. Send the same request again: it is done once."
        }
        Repeat::Named => {
            "The log did not confirm in time; it may have been stored. Send it again with this `message_id` in the body: \
             it is done once."
        }
        Repeat::WhatFailed => {
            "The log did not confirm in time; it may have been stored. Send the same request again: it tries again only \
             what is FAILED by then."
        }
        Repeat::Unsafe => {
            "The log did not confirm in time; it may have been stored. Sending it again may do it twice: look first, \
             and use an idempotency key next time."
        }
    };
    Problem::new(Code::UnknownOutcome, detail).retry_after(AFTER_OUTAGE)
}

impl Explain for message::Rejection {
    fn explain(&self) -> Problem {
        match self {
            Self::NotAParticipant => no_such_conversation(),
            Self::DifferentContent => mismatch(),
        }
    }
}

impl Explain for conversation::Rejection {
    fn explain(&self) -> Problem {
        match self {
            Self::NotFound | Self::NotAParticipant => no_such_conversation(),
            Self::DifferentContent => mismatch(),
            Self::Empty => Problem::field(
                "/participants",
                "a conversation needs at least one participant besides who starts it",
            ),
            Self::Full { max } => Problem::new(
                Code::Conflict,
                format!(
                    "The conversation has {max} participants already, and more are not possible."
                ),
            ),
            Self::NotDirect => Problem::field(
                "/participants",
                "a direct conversation is with one outside address, or between two users; start a group instead",
            ),
            Self::DirectIsFixed => Problem::new(
                Code::Conflict,
                "A direct conversation keeps its parties; start a group instead.",
            ),
        }
    }
}

impl Explain for identity::Rejection {
    fn explain(&self) -> Problem {
        match *self {}
    }
}

impl Explain for delivery::Rejection {
    fn explain(&self) -> Problem {
        match self {
            Self::NothingFailed => Problem::new(
                Code::Conflict,
                "None of these deliveries is FAILED; only what has failed can be tried again.",
            ),
            // No client attempts anything: only the bridge of the channel does.
            Self::NotNext { .. } | Self::NotPending { .. } => {
                error!(rejection = %self, "a refusal that only a bridge can meet");
                Problem::internal()
            }
        }
    }
}

impl Explain for reader::Rejection {
    fn explain(&self) -> Problem {
        match *self {}
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_client_is_told_about_each_failure() {
        type Error = execute::Error<conversation::Rejection>;
        let rejections = [
            conversation::Rejection::NotFound,
            conversation::Rejection::NotAParticipant,
            conversation::Rejection::DifferentContent,
            conversation::Rejection::Empty,
            conversation::Rejection::Full { max: 1_000 },
            conversation::Rejection::NotDirect,
            conversation::Rejection::DirectIsFixed,
        ];
        let failures = [
            (Error::Conflict, Repeat::Safe),
            (Error::Full, Repeat::Safe),
            (Error::TooLarge { bytes: 300_000 }, Repeat::Safe),
            (Error::Unavailable, Repeat::Safe),
            (Error::Unknown, Repeat::Safe),
            (Error::Unknown, Repeat::Named),
            (Error::Unknown, Repeat::WhatFailed),
            (Error::Unknown, Repeat::Unsafe),
            (
                Error::Broken("what the operator reads".to_owned()),
                Repeat::Safe,
            ),
        ];
        let rejected = rejections.map(|rejection| (Error::Rejected(rejection), Repeat::Safe));
        let all = rejected.into_iter().chain(failures);
        let told: Vec<_> = all
            .map(|(error, repeat)| of_execute(error, repeat).to_json())
            .collect();
        insta::assert_json_snapshot!(told);
    }
}

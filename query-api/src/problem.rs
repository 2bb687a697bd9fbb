//! What failed, in the words that clients get. Causes go to the log here, once, and never into an answer.

use std::time::Duration;

use chat4all_nats::ReadError;
use chat4all_postgres::{projected, read};
use chat4all_service::problem::Code;
use chat4all_service::{Chain, Problem};
use tracing::{error, warn};

/// The member of a problem that says what an answer lacks.
pub const LEFT_OUT: &str = "left_out";
/// When trying again makes sense.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A read that gave no rows.
pub fn of_read(failed: &read::Error) -> Problem {
    match failed {
        read::Error::Away(_) | read::Error::Silent { .. } => away(failed),
        read::Error::Broken(_) => {
            error!(error = %Chain(failed), "the read models do not hold what this version expects");
            Problem::internal()
        }
    }
}

/// A position that reads did not reach.
pub fn of_waiting(failed: projected::Error) -> Problem {
    match failed {
        projected::Error::NotYet { wanted, reached } => {
            let detail = format!(
                "Reads have come to {reached} and not to {wanted} within the time there is; ask again."
            );
            Problem::new(Code::NotYetProjected, detail)
                .with("position", reached.to_string())
                .retry_after(RETRY_AFTER)
        }
        projected::Error::Look(source) => of_read(&read::Error::from(source)),
    }
}

/// Parked items that could not be read.
pub fn of_parked(failed: &ReadError) -> Problem {
    warn!(error = %Chain(failed), "a query found the parked items out of reach");
    let detail =
        "Parked inbound items cannot be read now; other reads are not affected. Ask again.";
    Problem::new(Code::Unavailable, detail).retry_after(RETRY_AFTER)
}

/// Says that an answer lacks one kind of dead letters, and why. What is in it is right.
pub fn left_out(kind: &'static str, why: &Problem) -> Problem {
    let detail = format!(
        "Dead letters of the kind {kind} are left out: {}",
        why.detail()
    );
    Problem::new(why.code(), detail).with(LEFT_OUT, kind)
}

fn away(failed: &read::Error) -> Problem {
    warn!(error = %Chain(failed), "a query found the read models away");
    let detail = "Reads are not possible now; commands are not affected. Ask again.";
    Problem::new(Code::Unavailable, detail).retry_after(RETRY_AFTER)
}

/// What is not there, or not for this caller: the two are not to be told apart.
pub fn not_found(what: &'static str) -> Problem {
    Problem::new(
        Code::NotFound,
        format!("There is no such {what}, or it is not yours to see."),
    )
}

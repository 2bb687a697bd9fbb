//! What can be measured, and with what.

use std::fmt;
use std::time::Duration;

use clap::ValueEnum;

use super::plan::Plan;
use super::report::Report;
use super::{accept, deliver, idle, pages, rebuild, see, subscribers, webhooks, workers};

/// One file each.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Measurement {
    /// How long a start takes and how much memory the idle stack has.
    Idle,
    /// Messages accepted over HTTP that go to nobody outside, against bare publishes of the same bytes.
    Accept,
    /// From a request to the answer of a GraphQL query, to a subscriber's WebSocket and to the provider's call, at a steady
    /// rate.
    See,
    /// Messages to WhatsApp recipients, through the simulated provider, until they are READ.
    Deliver,
    /// The read models made anew, against `COPY` of the same rows.
    Rebuild,
    /// Pages of a conversation with ten thousand and with a million messages, against the same SQL.
    Pages,
    /// One to eight bridge workers against a slow provider.
    Workers,
    /// Webhooks taken in.
    Webhooks,
    /// Thousands of idle WebSocket subscribers, and one message to many of them.
    Subscribers,
}

impl Measurement {
    /// In the order in which they are made.
    pub fn all() -> impl Iterator<Item = Self> {
        Self::value_variants().iter().copied()
    }

    /// As on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Accept => "accept",
            Self::See => "see",
            Self::Deliver => "deliver",
            Self::Rebuild => "rebuild",
            Self::Pages => "pages",
            Self::Workers => "workers",
            Self::Webhooks => "webhooks",
            Self::Subscribers => "subscribers",
        }
    }

    /// Why it cannot be made on a system that runs already, if it cannot.
    pub const fn needs_its_own(self) -> Option<&'static str> {
        match self {
            Self::Idle => Some("it starts and stops a stack"),
            Self::Deliver => Some(
                "it sets the accounts' rates and the simulated provider's speed, and counts what is on the log",
            ),
            Self::Rebuild => {
                Some("it fills a log of its own, and swaps the read models again and again")
            }
            Self::Pages => {
                Some("it loads rows that are on no log, and restarts Postgres between pages")
            }
            Self::Workers => {
                Some("it sets the account's concurrency, and starts and stops bridges")
            }
            Self::Accept | Self::See | Self::Webhooks | Self::Subscribers => None,
        }
    }

    /// Roughly how long it takes.
    pub fn takes(self, plan: &Plan) -> Duration {
        match self {
            Self::Idle => idle::takes(plan),
            Self::Accept => accept::takes(plan),
            Self::See => see::takes(plan),
            Self::Deliver => deliver::takes(plan),
            Self::Rebuild => rebuild::takes(plan),
            Self::Pages => pages::takes(plan),
            Self::Workers => workers::takes(plan),
            Self::Webhooks => webhooks::takes(plan),
            Self::Subscribers => subscribers::takes(plan),
        }
    }

    /// # Errors
    /// It came to no end.
    pub async fn measure(self, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
        match self {
            Self::Idle => Box::pin(idle::measure(plan, report)).await,
            Self::Accept => Box::pin(accept::measure(plan, report)).await,
            Self::See => Box::pin(see::measure(plan, report)).await,
            Self::Deliver => Box::pin(deliver::measure(plan, report)).await,
            Self::Rebuild => Box::pin(rebuild::measure(plan, report)).await,
            Self::Pages => Box::pin(pages::measure(plan, report)).await,
            Self::Workers => Box::pin(workers::measure(plan, report)).await,
            Self::Webhooks => Box::pin(webhooks::measure(plan, report)).await,
            Self::Subscribers => Box::pin(subscribers::measure(plan, report)).await,
        }
    }
}

impl fmt::Display for Measurement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_measurement_is_called_as_on_the_command_line() {
        for one in Measurement::all() {
            assert_eq!(Measurement::from_str(one.name(), false), Ok(one));
        }
    }
}

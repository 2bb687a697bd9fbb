use crate::Timestamp;
use crate::delivery::{
    Attempted, Command, Deferred, DeliveredOrRead, Delivery, Entry, Event, Failed, FailedPersonal,
    FailureClass, Id, Operation, Reason, Receipt, Redriven, Rejection, Sent, SentPersonal, Status,
    Step, Words,
};

impl Delivery {
    /// What `command` means for these deliveries now. Same inputs, same answer; what changes nothing gives no event.
    ///
    /// # Errors
    /// A [`Rejection`].
    pub fn decide(&self, command: &Command) -> Result<Vec<Event>, Rejection> {
        match command {
            Command::Attempt {
                n,
                op,
                attempt,
                owner,
                at,
            } => {
                let facts = Attempted {
                    n: *n,
                    op: *op,
                    attempt: *attempt,
                    owner: owner.clone(),
                    occurred_at: *at,
                };
                attempt_next(&self.entry(*n, *op), facts)
            }
            Command::RecordSent {
                n,
                op,
                attempt,
                parts,
                at,
            } => Ok(sent(
                &self.entry(*n, *op),
                (*n, *op),
                *attempt,
                parts.clone(),
                *at,
            )),
            Command::RecordReceipt(receipt) => Ok(self.receipt(receipt)),
            Command::Fail {
                n,
                op,
                generation,
                attempt,
                class,
                reason,
                provider_code,
                provider_text,
                at,
            } => {
                let entry = self.entry(*n, *op);
                if *generation != entry.generation {
                    return Ok(vec![]);
                }
                let why = Why {
                    class: *class,
                    reason: *reason,
                    provider_code,
                    provider_text,
                };
                Ok(failed(&entry, (*n, *op), *attempt, why, *at))
            }
            Command::Defer {
                n,
                op,
                generation,
                attempt,
                until,
                class,
                reason,
            } => {
                let entry = self.entry(*n, *op);
                let current = *generation == entry.generation && *attempt == entry.attempts;
                let waits_already = entry.deferred_until == Some(*until);
                if entry.status() != Status::Pending || !current || waits_already {
                    return Ok(vec![]);
                }
                let (attempt, until, class, reason) = (*attempt, *until, *class, *reason);
                Ok(vec![Event::Deferred {
                    facts: Deferred {
                        n: *n,
                        op: *op,
                        attempt,
                        until,
                        class,
                        reason,
                    },
                }])
            }
            Command::Redrive { only, by, at } => {
                self.redrive(|n, _| only.is_empty() || only.contains(&n), *by, *at)
            }
            Command::RedriveFailure {
                n,
                generation,
                by,
                at,
            } => self.redrive(
                |number, entry| number == *n && entry.generation == *generation,
                *by,
                *at,
            ),
        }
    }

    fn receipt(&self, receipt: &Receipt) -> Vec<Event> {
        let Receipt {
            n,
            op,
            attempt,
            step,
            at,
        } = receipt;
        let entry = self.entry(*n, *op);
        let facts = DeliveredOrRead {
            n: *n,
            op: *op,
            attempt: *attempt,
            occurred_at: *at,
        };
        match step {
            Step::Sent => sent(&entry, (*n, *op), *attempt, SentPersonal::default(), *at),
            Step::Delivered if entry.delivered_at.is_none() => vec![Event::Delivered { facts }],
            Step::Read if entry.read_at.is_none() => vec![Event::Read { facts }],
            Step::Delivered | Step::Read => vec![],
            // An attempt of an earlier generation has had its say when that generation failed.
            Step::Failed { .. } if *attempt < entry.first_attempt => vec![],
            Step::Failed {
                class,
                reason,
                provider_code,
                provider_text,
            } => {
                let why = Why {
                    class: *class,
                    reason: *reason,
                    provider_code,
                    provider_text,
                };
                failed(&entry, (*n, *op), *attempt, why, *at)
            }
        }
    }

    fn redrive(
        &self,
        wanted: impl Fn(u16, &Entry) -> bool,
        by: crate::UserId,
        at: Timestamp,
    ) -> Result<Vec<Event>, Rejection> {
        let redriven: Vec<Event> = self
            .entries()
            .filter(|(n, _, entry)| wanted(*n, entry) && entry.status() == Status::Failed)
            .map(|(n, op, entry)| Event::Redriven {
                facts: Redriven {
                    n,
                    op,
                    generation: entry.generation.saturating_add(1),
                    by,
                    occurred_at: at,
                },
            })
            .collect();
        if redriven.is_empty() {
            Err(Rejection::NothingFailed)
        } else {
            Ok(redriven)
        }
    }
}

fn attempt_next(entry: &Entry, facts: Attempted) -> Result<Vec<Event>, Rejection> {
    let n = facts.n;
    match entry.status() {
        Status::Pending if Some(facts.attempt) == entry.attempts.checked_add(1) => {
            Ok(vec![Event::Attempted { facts }])
        }
        Status::Pending => Err(Rejection::NotNext {
            n,
            last: entry.attempts,
            asked: facts.attempt,
        }),
        status @ (Status::Sent | Status::Failed | Status::Delivered | Status::Read) => {
            Err(Rejection::NotPending { n, status })
        }
    }
}

/// Sent is news when its time is unknown in this generation, or when it brings provider ids that are not on the log yet:
/// receipts that come for those ids could not be placed after a rebuild.
fn sent(
    entry: &Entry,
    (n, op): (u16, Operation),
    attempt: u32,
    personal: SentPersonal,
    at: Timestamp,
) -> Vec<Event> {
    let of_this_generation = attempt >= entry.first_attempt;
    let new_time = entry.sent_at.is_none() && of_this_generation;
    let new_parts = !personal.parts.is_empty() && !entry.referenced.contains(&attempt);
    if !new_time && !new_parts {
        return vec![];
    }
    vec![Event::Sent {
        facts: Sent {
            n,
            op,
            attempt,
            occurred_at: at,
        },
        personal,
    }]
}

struct Why<'a> {
    class: FailureClass,
    reason: Reason,
    provider_code: &'a Option<String>,
    provider_text: &'a Option<Words>,
}

/// Only the attempt that counts can fail a delivery: once one is known to have got through that one, otherwise the last. A
/// late failure of an earlier attempt says nothing about the one that is under way; a failure of a needless repetition
/// says nothing about the attempt that got through. Nothing fails after an arrival.
fn failed(
    entry: &Entry,
    (n, op): (u16, Operation),
    attempt: u32,
    why: Why<'_>,
    at: Timestamp,
) -> Vec<Event> {
    if attempt != entry.counts() || entry.status() >= Status::Failed {
        return vec![];
    }
    let Why {
        class,
        reason,
        provider_code,
        provider_text,
    } = why;
    let provider_text = provider_text.as_ref().map(|words| words.0.clone());
    vec![Event::Failed {
        facts: Failed {
            n,
            op,
            attempt,
            class,
            reason,
            provider_code: provider_code.clone(),
            occurred_at: at,
        },
        personal: FailedPersonal { provider_text },
    }]
}

crate::event::aggregate!(Delivery, Id, Command, Event, Rejection, "delivery");

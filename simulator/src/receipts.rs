//! What becomes of an accepted message: which steps, when each is reported, and how often.

use crate::clock::UnixMs;
use crate::config::Settings;
use crate::fault::ReceiptFaults;
use crate::phone::Step;
use crate::webhook::What;

/// Copies come at most this much after the first.
const COPY_WITHIN_MS: u64 = 20;

/// One webhook to come.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Receipt {
    pub(crate) what: What,
    pub(crate) after_ms: u64,
    /// Due before the call is answered.
    pub(crate) early: bool,
}

/// The receipts of a message that is answered `latency_ms` from now, in the order things happen.
pub(crate) fn schedule(
    rng: &mut fastrand::Rng,
    settings: &Settings,
    faults: &ReceiptFaults,
    latency_ms: u64,
    now: UnixMs,
) -> Vec<Receipt> {
    let mut receipts = Vec::new();
    let mut happens_ms = latency_ms;
    for (step, error) in steps(faults) {
        let takes = match step {
            Step::Sent | Step::Failed => settings.sent_ms,
            Step::Delivered => settings.delivered_ms,
            Step::Read => settings.read_ms,
        };
        happens_ms += takes.draw(rng);
        let early = faults.early.contains(&step);
        let after_ms = if early { 0 } else { happens_ms };
        let unreported = faults.missing.contains(&step);
        let what = What::Status {
            step,
            at: now.plus_ms(after_ms),
            error,
            unreported,
        };
        receipts.push(Receipt {
            what,
            after_ms,
            early,
        });
        let copies = if unreported {
            0
        } else {
            faults.copies.unwrap_or(0)
        };
        for _ in 0..copies {
            let after_ms = after_ms + rng.u64(0..=COPY_WITHIN_MS);
            receipts.push(Receipt {
                what,
                after_ms,
                early: false,
            });
        }
    }
    if faults.shuffled {
        shuffle(rng, &mut receipts);
    }
    receipts
}

/// The steps that happen by themselves.
fn steps(faults: &ReceiptFaults) -> Vec<(Step, Option<u32>)> {
    let mut steps = vec![
        (Step::Sent, None),
        (Step::Delivered, None),
        (Step::Read, None),
    ];
    if faults.read_when_shown {
        steps.pop();
    }
    if let Some((code, after)) = faults.failed {
        steps.retain(|(step, _)| after.is_some_and(|last| *step <= last));
        steps.push((Step::Failed, Some(code)));
    }
    steps
}

/// Gives the receipts each other's times. Early ones keep theirs; what is left is never in order by chance.
fn shuffle(rng: &mut fastrand::Rng, receipts: &mut [Receipt]) {
    let mut late: Vec<_> = receipts
        .iter_mut()
        .filter(|receipt| !receipt.early)
        .collect();
    let before: Vec<_> = late.iter().map(|receipt| receipt.after_ms).collect();
    let mut times = before.clone();
    rng.shuffle(&mut times);
    if times == before {
        times.reverse();
    }
    for (receipt, after_ms) in late.iter_mut().zip(times) {
        receipt.after_ms = after_ms;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(faults: &ReceiptFaults) -> Vec<(Step, u64)> {
        let mut rng = fastrand::Rng::with_seed(1);
        schedule(&mut rng, &Settings::default(), faults, 100, UnixMs(0))
            .into_iter()
            .map(|receipt| match receipt.what {
                What::Status { step, .. } => (step, receipt.after_ms),
                What::Message => unreachable!("a schedule has statuses only"),
            })
            .collect()
    }

    #[test]
    fn receipts_come_after_the_answer_and_in_order() {
        let receipts = plan(&ReceiptFaults::default());
        assert_eq!(
            receipts.iter().map(|(step, _)| *step).collect::<Vec<_>>(),
            [Step::Sent, Step::Delivered, Step::Read]
        );
        assert!(
            receipts.is_sorted_by_key(|(_, after)| *after) && receipts[0].1 > 100,
            "{receipts:?}"
        );
    }

    #[test]
    fn shuffled_receipts_are_out_of_order() {
        let shuffled = ReceiptFaults {
            shuffled: true,
            ..ReceiptFaults::default()
        };
        assert!(!plan(&shuffled).is_sorted_by_key(|(_, after)| *after));
    }

    #[test]
    fn a_failure_after_sent_ends_it() {
        let failed = ReceiptFaults {
            failed: Some((131026, Some(Step::Sent))),
            ..ReceiptFaults::default()
        };
        let steps: Vec<_> = plan(&failed).into_iter().map(|(step, _)| step).collect();
        assert_eq!(steps, [Step::Sent, Step::Failed]);
    }

    #[test]
    fn an_early_receipt_does_not_wait_for_the_answer() {
        let early = ReceiptFaults {
            early: vec![Step::Sent],
            ..ReceiptFaults::default()
        };
        assert_eq!(plan(&early)[0], (Step::Sent, 0));
    }
}

//! The provider's error codes, as data: what class each is of, and why in our words.
//!
//! Source: WhatsApp Cloud API, "Error codes". Third-party lists mislabel 131051 to 131053 and 132012 to 132015.

use std::time::Duration;

use chat4all_domain::delivery::FailureClass::{
    Degrade, Later24h, Operator, Pair, Permanent, Rate, Stopped, Transient, Window,
};
use chat4all_domain::delivery::Reason::{
    self, ChannelBadConfiguration, ChannelFailure, InactiveCredential, MediaNotReachable,
    MessageExpired, MessageInvalid, OutsideAllowedSendingWindow, RateLimited,
    RecipientInvalidChannelIdentity, RecipientNotOptedIn, RecipientNotReachable, TemplateInvalid,
    TemplateUnavailable, Unknown,
};
use chat4all_domain::delivery::{FailureClass, Words};

use crate::channel::Refusal;

/// One code, or a range of them.
struct Row {
    from: i64,
    to: i64,
    class: FailureClass,
    reason: Reason,
    /// After so many tries it is final.
    tries: Option<u32>,
}

const fn one(code: i64, class: FailureClass, reason: Reason) -> Row {
    Row {
        from: code,
        to: code,
        class,
        reason,
        tries: None,
    }
}

/// In order of code.
#[rustfmt::skip]
const TABLE: &[Row] = &[
    one(0, Operator, InactiveCredential),
    one(1, Transient, ChannelFailure),
    one(2, Transient, ChannelFailure),
    one(3, Operator, ChannelBadConfiguration),
    one(4, Rate, RateLimited),
    one(10, Operator, ChannelBadConfiguration),
    one(33, Permanent, MessageInvalid),
    one(100, Permanent, MessageInvalid),
    one(190, Operator, InactiveCredential),
    // Permissions: documented as one.
    Row { from: 200, to: 299, class: Operator, reason: ChannelBadConfiguration, tries: None },
    one(368, Operator, ChannelBadConfiguration),
    one(80_007, Rate, RateLimited),
    one(130_429, Rate, RateLimited),
    one(130_472, Permanent, RecipientNotReachable),
    one(131_000, Transient, ChannelFailure),
    one(131_005, Operator, ChannelBadConfiguration),
    one(131_008, Permanent, MessageInvalid),
    one(131_009, Permanent, MessageInvalid),
    one(131_016, Transient, ChannelFailure),
    one(131_021, Permanent, RecipientInvalidChannelIdentity),
    one(131_026, Permanent, RecipientNotReachable),
    one(131_030, Permanent, RecipientNotReachable),
    one(131_031, Operator, ChannelBadConfiguration),
    one(131_042, Operator, ChannelBadConfiguration),
    one(131_043, Permanent, MessageExpired),
    one(131_045, Operator, ChannelBadConfiguration),
    one(131_047, Window, OutsideAllowedSendingWindow),
    // The number's quality: sending on makes it worse, so somebody has to look.
    one(131_048, Operator, RateLimited),
    // One more try after a day, then no more.
    Row { from: 131_049, to: 131_049, class: Later24h, reason: RecipientNotReachable, tries: Some(2) },
    one(131_050, Stopped, RecipientNotOptedIn),
    one(131_051, Permanent, MessageInvalid),
    one(131_052, Transient, MediaNotReachable),
    one(131_053, Degrade, MediaNotReachable),
    one(131_056, Pair, RateLimited),
    one(131_057, Transient, ChannelFailure),
    one(131_063, Permanent, RecipientNotReachable),
    one(132_000, Permanent, TemplateInvalid),
    one(132_001, Permanent, TemplateInvalid),
    one(132_005, Permanent, TemplateInvalid),
    one(132_007, Permanent, TemplateInvalid),
    one(132_012, Permanent, TemplateInvalid),
    // These want an operator, but for one template: holding the whole account would be worse than failing visibly.
    one(132_015, Permanent, TemplateUnavailable),
    one(132_016, Permanent, TemplateUnavailable),
    one(132_068, Permanent, TemplateUnavailable),
    one(132_069, Rate, RateLimited),
    one(133_004, Transient, ChannelFailure),
    one(133_010, Operator, ChannelBadConfiguration),
    one(133_016, Rate, RateLimited),
    Row { from: 135_000, to: 135_000, class: Transient, reason: ChannelFailure, tries: Some(2) },
];

/// What a code means. One that is not listed is judged by the status it came with.
pub fn of_code(code: i64, status: u16, text: Option<Words>) -> Refusal {
    let row = TABLE.iter().find(|row| (row.from..=row.to).contains(&code));
    let (class, reason, tries) = match row {
        Some(row) => (row.class, row.reason, row.tries),
        None => {
            let (class, reason) = by_status(status);
            (class, reason, None)
        }
    };
    Refusal {
        class,
        reason,
        code: Some(code.to_string()),
        text,
        retry_after: None,
        tries,
    }
}

/// What a status without a code means: `http 502`.
pub fn of_status(status: u16, retry_after: Option<Duration>) -> Refusal {
    let (class, reason) = by_status(status);
    Refusal {
        class,
        reason,
        code: Some(format!("http {status}")),
        text: None,
        retry_after,
        tries: None,
    }
}

/// The call never went out.
pub fn unreachable() -> Refusal {
    Refusal {
        class: Transient,
        reason: ChannelFailure,
        code: None,
        text: None,
        retry_after: None,
        tries: None,
    }
}

const fn by_status(status: u16) -> (FailureClass, Reason) {
    match status {
        429 => (Rate, RateLimited),
        500..=599 => (Transient, ChannelFailure),
        _ => (Permanent, Unknown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every code of the provider's list, written down a second time.
    #[rustfmt::skip]
    const LISTED: &[(FailureClass, &[i64])] = &[
        (Operator, &[0, 3, 10, 190, 200, 201, 250, 299, 368, 131_005, 131_031, 131_042, 131_045, 131_048, 133_010]),
        (Rate, &[4, 80_007, 130_429, 132_069, 133_016]),
        (Pair, &[131_056]),
        (Transient, &[1, 2, 131_000, 131_016, 131_052, 131_057, 133_004, 135_000]),
        (Permanent, &[33, 100, 130_472, 131_008, 131_009, 131_021, 131_026, 131_030, 131_043, 131_051, 131_063,
                      132_000, 132_001, 132_005, 132_007, 132_012, 132_015, 132_016, 132_068]),
        (Window, &[131_047]),
        (Later24h, &[131_049]),
        (Stopped, &[131_050]),
        (Degrade, &[131_053]),
    ];

    #[test]
    fn every_code_of_the_list_has_its_class_whatever_the_status() {
        for (class, codes) in LISTED {
            for code in *codes {
                for status in [200, 400, 429, 500] {
                    let refusal = of_code(*code, status, None);
                    assert_eq!(refusal.class, *class, "{code} with {status}");
                    assert_eq!(refusal.code, Some(code.to_string()));
                    assert_ne!(refusal.reason, Unknown, "{code}");
                }
            }
        }
    }

    #[test]
    fn the_table_is_in_order_and_has_no_code_that_the_list_lacks() {
        assert!(TABLE.windows(2).all(|pair| pair[0].to < pair[1].from));
        for row in TABLE {
            let listed = LISTED.iter().any(|(_, codes)| codes.contains(&row.from));
            assert!(listed, "{}", row.from);
        }
    }

    #[test]
    fn what_is_not_listed_is_judged_by_its_status() {
        for (status, class) in [
            (500, Transient),
            (503, Transient),
            (429, Rate),
            (400, Permanent),
        ] {
            assert_eq!(of_code(999_999, status, None).class, class);
            assert_eq!(of_status(status, None).class, class);
        }
    }

    #[test]
    fn some_passing_failures_become_final() {
        assert_eq!(of_code(135_000, 400, None).tries, Some(2));
        assert_eq!(of_code(131_049, 400, None).tries, Some(2));
        assert_eq!(of_code(131_000, 500, None).tries, None);
    }
}

//! What stands on the log: it must not change by accident.

use super::*;
use crate::event::Event as _;
use crate::spec::{assert_event_on_the_log, assert_on_the_log};

#[test]
fn attempted_stands_on_the_log_in_this_form() {
    assert_event_on_the_log(
        &attempted(2, 1),
        r#"{"type":"DeliveryAttempted","facts":{"n":0,"op":"send","attempt":2,"owner":"worker-1",
            "occurred_at":"2026-11-22T04:00:01.000Z"}}"#,
    );
}

#[test]
fn sent_stands_on_the_log_in_this_form() {
    assert_event_on_the_log(
        &sent(2, 1),
        r#"{"type":"DeliverySent","facts":{"n":0,"op":"send","attempt":2,"occurred_at":"2026-11-22T04:00:01.000Z"},
            "personal":{"parts":["wamid.2"]}}"#,
    );
    assert_event_on_the_log(
        &sent_by_receipt(2, 1),
        r#"{"type":"DeliverySent","facts":{"n":0,"op":"send","attempt":2,"occurred_at":"2026-11-22T04:00:01.000Z"},
            "personal":{}}"#,
    );
}

#[test]
fn delivered_and_read_stand_on_the_log_in_this_form() {
    assert_event_on_the_log(
        &delivered(2, 1),
        r#"{"type":"DeliveryDelivered","facts":{"n":0,"op":"send","attempt":2,"occurred_at":"2026-11-22T04:00:01.000Z"}}"#,
    );
    assert_event_on_the_log(
        &read(2, 1),
        r#"{"type":"DeliveryRead","facts":{"n":0,"op":"send","attempt":2,"occurred_at":"2026-11-22T04:00:01.000Z"}}"#,
    );
}

#[test]
fn failed_stands_on_the_log_in_this_form() {
    assert_event_on_the_log(
        &failed(2, 1),
        r#"{"type":"DeliveryFailed","facts":{"n":0,"op":"send","attempt":2,"class":"PERMANENT",
            "reason":"RECIPIENT_NOT_REACHABLE","provider_code":"131026","occurred_at":"2026-11-22T04:00:01.000Z"},
            "personal":{"provider_text":"cannot reach 4915112345678"}}"#,
    );
    let Event::Failed { facts, .. } = failed(0, 1) else {
        unreachable!("built as Failed");
    };
    let expired = Event::Failed {
        facts: Failed {
            reason: Reason::MessageExpired,
            provider_code: None,
            ..facts
        },
        personal: FailedPersonal::default(),
    };
    assert_event_on_the_log(
        &expired,
        r#"{"type":"DeliveryFailed","facts":{"n":0,"op":"send","attempt":0,"class":"PERMANENT",
            "reason":"MESSAGE_EXPIRED","occurred_at":"2026-11-22T04:00:01.000Z"},"personal":{}}"#,
    );
}

#[test]
fn deferred_stands_on_the_log_in_this_form() {
    assert_event_on_the_log(
        &deferred(2, 1),
        r#"{"type":"DeliveryDeferred","facts":{"n":0,"op":"send","attempt":2,"until":"2026-11-22T04:00:01.000Z",
            "class":"TRANSIENT","reason":"CHANNEL_FAILURE"}}"#,
    );
}

#[test]
fn redriven_stands_on_the_log_in_this_form() {
    assert_event_on_the_log(
        &redriven(2, 1),
        r#"{"type":"DeliveryRedriven","facts":{"n":0,"op":"send","generation":2,
            "by":"000000a5-0000-0000-0000-000000000001","occurred_at":"2026-11-22T04:00:01.000Z"}}"#,
    );
}

#[test]
fn its_types_are_listed_with_their_versions() {
    let events = [
        attempted(1, 1),
        sent(1, 1),
        delivered(1, 1),
        read(1, 1),
        failed(1, 1),
        deferred(1, 1),
        redriven(1, 1),
    ];
    assert_eq!(Event::TYPES, events.map(|event| (event.name(), 1)));
}

#[test]
fn classes_and_reasons_are_written_in_these_words() {
    use FailureClass as Class;
    let classes = [
        (Class::Rate, "RATE"),
        (Class::Pair, "PAIR"),
        (Class::Transient, "TRANSIENT"),
        (Class::Unsure, "UNSURE"),
        (Class::Later24h, "LATER_24H"),
        (Class::Operator, "OPERATOR"),
        (Class::Permanent, "PERMANENT"),
        (Class::Stopped, "STOPPED"),
        (Class::Window, "WINDOW"),
        (Class::Degrade, "DEGRADE"),
    ];
    for (class, word) in classes {
        assert_on_the_log(&class, &format!("\"{word}\""));
    }
    let reasons = [
        (Reason::RateLimited, "RATE_LIMITED"),
        (
            Reason::RecipientInvalidChannelIdentity,
            "RECIPIENT_INVALID_CHANNEL_IDENTITY",
        ),
        (Reason::RecipientNotReachable, "RECIPIENT_NOT_REACHABLE"),
        (Reason::RecipientNotOptedIn, "RECIPIENT_NOT_OPTED_IN"),
        (
            Reason::OutsideAllowedSendingWindow,
            "OUTSIDE_ALLOWED_SENDING_WINDOW",
        ),
        (Reason::ChannelFailure, "CHANNEL_FAILURE"),
        (Reason::ChannelBadConfiguration, "CHANNEL_BAD_CONFIGURATION"),
        (
            Reason::ChannelConfigurationMissing,
            "CHANNEL_CONFIGURATION_MISSING",
        ),
        (Reason::MediaTypeUnsupported, "MEDIA_TYPE_UNSUPPORTED"),
        (Reason::MediaTooLarge, "MEDIA_TOO_LARGE"),
        (Reason::MediaNotReachable, "MEDIA_NOT_REACHABLE"),
        (Reason::TemplateInvalid, "TEMPLATE_INVALID"),
        (Reason::TemplateUnavailable, "TEMPLATE_UNAVAILABLE"),
        (Reason::MessageExpired, "MESSAGE_EXPIRED"),
        (Reason::MessageInvalid, "MESSAGE_INVALID"),
        (Reason::InactiveCredential, "INACTIVE_CREDENTIAL"),
        (Reason::InternalError, "INTERNAL_ERROR"),
        (Reason::Unknown, "UNKNOWN"),
    ];
    for (reason, word) in reasons {
        assert_on_the_log(&reason, &format!("\"{word}\""));
    }
}

#[test]
fn debug_shows_neither_the_providers_ids_nor_its_words() {
    let state = given([attempted(1, 1), sent(1, 2), failed(1, 3)]);
    let shown = spec::debug(&[fail(0, 1, 1), receipt(1, will_not_arrive(), 1)])
        + &spec::debug(&[sent(1, 1), failed(1, 1)])
        + &spec::debug(state.state());
    assert!(!shown.contains("cannot reach"), "{shown}");
    assert!(!shown.contains("wamid"), "{shown}");
    let shown = spec::debug(&record_sent(1, 1));
    assert!(!shown.contains("wamid"), "a command too: {shown}");
}

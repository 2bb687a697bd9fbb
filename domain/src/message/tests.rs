use std::time::Duration;

use crate::conversation::MAX_PARTICIPANTS;
use crate::event::Event as _;
use crate::message::{
    Accept, Accepted, AcceptedPersonal, Command, Content, Event, Message, Origin, PlannedDelivery,
    Recipient, Rejection, Standing,
};
use crate::spec::{self, Given, account, address, assert_event_on_the_log, at, fingerprint, text};
use crate::{ChannelKind, ParticipantId, Text};

fn given(history: impl IntoIterator<Item = Event>) -> Given<Message> {
    spec::given(history)
}

const ANNA: ParticipantId = participant_id(1);
const BERT: ParticipantId = participant_id(2);
const CARL: ParticipantId = participant_id(3);

const fn participant_id(number: u128) -> ParticipantId {
    ParticipantId::new(uuid::Uuid::from_u128(number))
}

fn hello() -> Accept {
    Accept {
        origin: Origin::Api,
        author: ANNA,
        standing: Standing::Participant,
        content: Content::Text {
            text: text("hello"),
        },
        provider_id: None,
        fingerprint: fingerprint("hello"),
        recipients: vec![phone(BERT, "4915112345678")],
        at: at(1),
        valid_for: Duration::from_secs(60),
    }
}

fn phone(participant: ParticipantId, digits: &str) -> Recipient {
    Recipient {
        participant,
        kind: ChannelKind::WhatsApp,
        account: account("whatsapp-main"),
        address: address(digits),
    }
}

fn planned(participant: ParticipantId) -> PlannedDelivery {
    PlannedDelivery {
        participant,
        kind: ChannelKind::WhatsApp,
        account: account("whatsapp-main"),
    }
}

fn accepted() -> Event {
    Event::Accepted {
        facts: Accepted {
            origin: Origin::Api,
            author: ANNA,
            fingerprint: fingerprint("hello"),
            deliveries: vec![planned(BERT)],
            occurred_at: at(1),
            valid_until: at(61),
        },
        personal: AcceptedPersonal {
            content: Content::Text {
                text: text("hello"),
            },
            addresses: vec![address("4915112345678")],
            provider_id: None,
        },
    }
}

fn facts_and_personal(event: &Event) -> (&Accepted, &AcceptedPersonal) {
    let Event::Accepted { facts, personal } = event;
    (facts, personal)
}

#[test]
fn a_participants_message_is_accepted_with_its_recipients() {
    given([]).when(Command::Accept(hello())).then([accepted()]);
}

#[test]
fn a_message_to_nobody_outside_is_accepted_without_deliveries() {
    let alone = Accept {
        recipients: vec![],
        ..hello()
    };
    let then = given([]).when(Command::Accept(alone));
    let (facts, personal) = facts_and_personal(&then.events()[0]);
    assert_eq!(facts.deliveries, []);
    assert_eq!(personal.addresses, []);
}

#[test]
fn a_channels_message_keeps_where_it_came_from() {
    let origin = Origin::Channel {
        account: account("whatsapp-main"),
    };
    let inbound = Accept {
        origin: origin.clone(),
        provider_id: Some("wamid.7".to_owned()),
        ..hello()
    };
    let then = given([]).when(Command::Accept(inbound));
    let (facts, personal) = facts_and_personal(&then.events()[0]);
    assert_eq!(facts.origin, origin);
    assert_eq!(personal.provider_id.as_deref(), Some("wamid.7"));
}

#[test]
fn an_outsiders_message_is_refused() {
    let outside = Accept {
        standing: Standing::Outsider,
        ..hello()
    };
    given([])
        .when(Command::Accept(outside))
        .then_rejected(Rejection::NotAParticipant);
}

#[test]
fn the_same_request_again_changes_nothing() {
    let later = Accept {
        at: at(500),
        ..hello()
    };
    given([accepted()])
        .when(Command::Accept(later))
        .then_nothing();
}

#[test]
fn the_same_request_again_changes_nothing_whoever_joined_or_left_meanwhile() {
    let meanwhile = Accept {
        recipients: vec![phone(CARL, "4915187654321")],
        standing: Standing::Outsider,
        ..hello()
    };
    given([accepted()])
        .when(Command::Accept(meanwhile))
        .then_nothing();
}

#[test]
fn other_content_under_the_same_id_is_refused() {
    let other = Accept {
        fingerprint: fingerprint("something else"),
        ..hello()
    };
    given([accepted()])
        .when(Command::Accept(other))
        .then_rejected(Rejection::DifferentContent);
}

#[test]
fn an_author_who_has_left_still_hears_that_the_content_is_another() {
    let other = Accept {
        fingerprint: fingerprint("something else"),
        standing: Standing::Outsider,
        ..hello()
    };
    given([accepted()])
        .when(Command::Accept(other))
        .then_rejected(Rejection::DifferentContent);
}

#[test]
fn an_outsider_does_not_learn_that_a_message_exists() {
    let stranger = Accept {
        author: CARL,
        fingerprint: fingerprint("is there such a message?"),
        standing: Standing::Outsider,
        ..hello()
    };
    given([accepted()])
        .when(Command::Accept(stranger))
        .then_rejected(Rejection::NotAParticipant);
}

#[test]
fn who_is_named_twice_gets_one_delivery_and_the_author_none() {
    let doubled = Accept {
        recipients: vec![
            phone(BERT, "4915112345678"),
            phone(ANNA, "4915100000000"),
            phone(CARL, "4915187654321"),
            phone(BERT, "4915112345678"),
        ],
        ..hello()
    };
    let then = given([]).when(Command::Accept(doubled));
    let (facts, personal) = facts_and_personal(&then.events()[0]);
    assert_eq!(facts.deliveries, [planned(BERT), planned(CARL)]);
    let expected = [address("4915112345678"), address("4915187654321")];
    assert_eq!(personal.addresses, expected, "in the order of deliveries");
}

#[test]
fn the_largest_message_fits_the_log() {
    // JSON's longest escape everywhere, and everybody behind the longest account id.
    let room = 256 * 1024 - 4 * 1024; // what the log takes, less the envelope around the event
    let outside = |number| Recipient {
        account: account(&"a".repeat(64)),
        ..phone(participant_id(number), "491511234567890")
    };
    let others = (100..100 + MAX_PARTICIPANTS as u128 - 1).map(outside);
    let to_phones = ChannelKind::WhatsApp.max_text_chars();
    for (chars, recipients) in [
        (Text::MAX_CHARS, vec![]),
        (to_phones, others.collect::<Vec<_>>()),
    ] {
        let largest = Accept {
            content: Content::Text {
                text: text(&"\u{1}".repeat(chars)),
            },
            recipients,
            ..hello()
        };
        let then = given([]).when(Command::Accept(largest));
        let bytes = serde_json::to_vec(&then.events()[0]).unwrap().len();
        assert!(bytes <= room, "{bytes} bytes, {room} fit");
    }
}

#[test]
fn validity_ends_with_the_calendar_at_the_latest() {
    let endless = Accept {
        valid_for: Duration::MAX,
        ..hello()
    };
    let then = given([]).when(Command::Accept(endless));
    let (facts, _) = facts_and_personal(&then.events()[0]);
    assert_eq!(facts.valid_until.to_string(), "9999-12-31T23:59:59.999Z");
}

#[test]
fn a_second_acceptance_on_the_log_changes_nothing() {
    let Event::Accepted { facts, personal } = accepted();
    let other = Event::Accepted {
        facts: Accepted {
            author: CARL,
            ..facts
        },
        personal,
    };
    let twice = given([accepted(), other]);
    assert_eq!(twice.state(), given([accepted()]).state());
}

#[test]
fn it_stands_on_the_log_in_this_form() {
    assert_event_on_the_log(
        &accepted(),
        r#"{"type":"MessageAccepted","facts":{"origin":{"from":"api"},
            "author":"00000000-0000-0000-0000-000000000001",
            "fingerprint":"336bb59dd565e544e7eb3e0b37d679ba197fc5f25e0b0d02cfd024a8be509737","deliveries":[
                {"participant":"00000000-0000-0000-0000-000000000002","kind":"whatsapp","account":"whatsapp-main"}],
            "occurred_at":"2026-11-22T04:00:01.000Z","valid_until":"2026-11-22T04:01:01.000Z"},
            "personal":{"content":{"type":"text","text":"hello"},"addresses":["4915112345678"]}}"#,
    );
    let Event::Accepted { facts, .. } = accepted();
    assert_event_on_the_log(
        &Event::Accepted {
            facts: Accepted {
                origin: Origin::Channel {
                    account: account("whatsapp-main"),
                },
                deliveries: vec![],
                ..facts
            },
            personal: AcceptedPersonal {
                content: Content::Unsupported {
                    what: "sticker".to_owned(),
                },
                addresses: vec![],
                provider_id: Some("wamid.7".to_owned()),
            },
        },
        r#"{"type":"MessageAccepted","facts":{"origin":{"from":"channel","account":"whatsapp-main"},
            "author":"00000000-0000-0000-0000-000000000001",
            "fingerprint":"336bb59dd565e544e7eb3e0b37d679ba197fc5f25e0b0d02cfd024a8be509737",
            "occurred_at":"2026-11-22T04:00:01.000Z","valid_until":"2026-11-22T04:01:01.000Z"},
            "personal":{"content":{"type":"unsupported","what":"sticker"},"provider_id":"wamid.7"}}"#,
    );
}

#[test]
fn the_envelopes_version_beside_the_type_does_not_disturb() {
    let mut json = serde_json::to_value(accepted()).unwrap();
    json["v"] = 1.into();
    let read: Event = serde_json::from_value(json).unwrap();
    assert_eq!(read, accepted());
}

#[test]
fn its_types_are_listed_with_their_versions() {
    assert_eq!(Event::TYPES, [("MessageAccepted", 1)]);
    assert_eq!(accepted().name(), "MessageAccepted");
}

#[test]
fn commands_are_named_in_logs() {
    assert_eq!(Command::Accept(hello()).name(), "AcceptMessage");
}

#[test]
fn content_is_named_by_its_type() {
    let sticker = Content::Unsupported {
        what: "sticker".to_owned(),
    };
    assert_eq!(hello().content.kind(), "text");
    assert_eq!(sticker.kind(), "unsupported");
}

#[test]
fn debug_shows_neither_text_nor_address() {
    let shown = spec::debug(&Command::Accept(hello())) + &spec::debug(&accepted());
    assert!(
        !shown.contains("hello") && !shown.contains("49151"),
        "{shown}"
    );
}

#[test]
fn debug_shows_no_provider_id() {
    // WhatsApp's contains the phone number.
    let inbound = Accept {
        provider_id: Some("wamid.HBgNNDkx".to_owned()),
        ..hello()
    };
    let command = Command::Accept(inbound);
    let event = given([]).when(command.clone()).events()[0].clone();
    let shown = spec::debug(&command) + &spec::debug(&event);
    assert!(!shown.contains("wamid"), "{shown}");
}

#[test]
fn rejections_say_why() {
    let shown = [Rejection::NotAParticipant, Rejection::DifferentContent].map(|r| r.to_string());
    assert_eq!(
        shown,
        [
            "the author is not a participant of the conversation",
            "another message has this id already",
        ]
    );
}

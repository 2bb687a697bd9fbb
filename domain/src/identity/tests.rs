use crate::event::Event as _;
use crate::identity::{
    Command, Event, Identity, Named, NamedPersonal, Registered, RegisteredPersonal,
};
use crate::spec::{self, Given, address, assert_event_on_the_log, at, text};
use crate::{ChannelKind, Text};

fn given(history: impl IntoIterator<Item = Event>) -> Given<Identity> {
    spec::given(history)
}

fn meet(name: Option<&str>) -> Command {
    Command::Meet {
        kind: ChannelKind::WhatsApp,
        address: address("4915112345678"),
        name: name.map(text),
        at: at(1),
    }
}

fn registered(name: Option<&str>) -> Event {
    Event::Registered {
        facts: Registered {
            kind: ChannelKind::WhatsApp,
            occurred_at: at(1),
        },
        personal: RegisteredPersonal {
            address: address("4915112345678"),
            name: name.map(text),
        },
    }
}

fn named(name: &str) -> Event {
    Event::Named {
        facts: Named { occurred_at: at(1) },
        personal: NamedPersonal { name: text(name) },
    }
}

fn name_of(history: impl IntoIterator<Item = Event>) -> Option<Text> {
    match given(history).state() {
        Identity::Known { name } => name.clone(),
        Identity::Unknown => None,
    }
}

#[test]
fn first_contact_registers_the_address() {
    given([]).when(meet(None)).then([registered(None)]);
}

#[test]
fn first_contact_keeps_the_name() {
    given([])
        .when(meet(Some("Anna")))
        .then([registered(Some("Anna"))]);
}

#[test]
fn meeting_again_changes_nothing() {
    given([registered(Some("Anna"))])
        .when(meet(Some("Anna")))
        .then_nothing();
}

#[test]
fn a_message_without_a_name_does_not_take_the_name_away() {
    given([registered(Some("Anna"))])
        .when(meet(None))
        .then_nothing();
}

#[test]
fn a_name_that_is_learnt_later_is_kept() {
    given([registered(None)])
        .when(meet(Some("Anna")))
        .then([named("Anna")])
        .when(meet(Some("Anna")))
        .then_nothing();
}

#[test]
fn another_name_replaces_the_first() {
    given([registered(Some("Anna")), named("Anna B.")])
        .when(meet(Some("Anna")))
        .then([named("Anna")]);
}

#[test]
fn a_second_registration_on_the_log_changes_nothing() {
    let twice = [registered(Some("Anna")), registered(Some("Bert"))];
    assert_eq!(name_of(twice), Some(text("Anna")));
}

#[test]
fn a_name_without_a_registration_names_nobody() {
    let unknown = given([named("Anna")]);
    assert_eq!(unknown.state(), &Identity::Unknown);
}

#[test]
fn it_stands_on_the_log_in_this_form() {
    assert_event_on_the_log(
        &registered(Some("Anna")),
        r#"{"type":"IdentityRegistered","facts":{"kind":"whatsapp","occurred_at":"2026-11-22T04:00:01.000Z"},
            "personal":{"address":"4915112345678","name":"Anna"}}"#,
    );
    assert_event_on_the_log(
        &registered(None),
        r#"{"type":"IdentityRegistered","facts":{"kind":"whatsapp","occurred_at":"2026-11-22T04:00:01.000Z"},
            "personal":{"address":"4915112345678"}}"#,
    );
    assert_event_on_the_log(
        &named("Anna"),
        r#"{"type":"IdentityNamed","facts":{"occurred_at":"2026-11-22T04:00:01.000Z"},"personal":{"name":"Anna"}}"#,
    );
}

#[test]
fn its_types_are_listed_with_their_versions() {
    let names = [registered(None), named("Anna")].map(|event| (event.name(), 1));
    assert_eq!(Event::TYPES, names);
}

#[test]
fn commands_are_named_in_logs() {
    assert_eq!(meet(None).name(), "MeetIdentity");
}

#[test]
fn debug_shows_neither_name_nor_address() {
    let state = given([registered(Some("Anna"))]);
    let shown = spec::debug(&meet(Some("Anna")))
        + &spec::debug(&[registered(Some("Anna")), named("Anna")])
        + &spec::debug(state.state());
    assert!(
        !shown.contains("Anna") && !shown.contains("49151"),
        "{shown}"
    );
}

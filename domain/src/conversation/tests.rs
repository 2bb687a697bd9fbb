use crate::conversation::{
    Command, Conversation, Event, Joined, JoinedPersonal, Kind, Left, MAX_PARTICIPANTS, Member,
    Rejection, Started, StartedPersonal,
};
use crate::event::Event as _;
use crate::spec::{
    self, Given, account, address, assert_event_on_the_log, at, fingerprint, identity, participant,
    text, user,
};
use crate::{ChannelKind, Fingerprint, UserId};

fn given(history: impl IntoIterator<Item = Event>) -> Given<Conversation> {
    spec::given(history)
}

/// The user with this number, as a member.
fn member(number: u128) -> Member {
    Member::User {
        participant: participant(number),
        user: user(number),
    }
}

/// Somebody outside with this number, as a member.
fn contact(number: u128) -> Member {
    Member::Contact {
        participant: participant(number),
        identity: identity(number),
        kind: ChannelKind::WhatsApp,
        account: account("whatsapp-main"),
        address: address(&format!("49151000{number:04}")),
    }
}

fn start(
    kind: Kind,
    members: impl IntoIterator<Item = Member>,
    by: impl Into<Option<UserId>>,
) -> Command {
    Command::Start {
        kind,
        members: members.into_iter().collect(),
        title: None,
        fingerprint: None,
        by: by.into(),
        at: at(1),
    }
}

fn started(
    kind: Kind,
    members: impl IntoIterator<Item = Member>,
    by: impl Into<Option<UserId>>,
) -> Event {
    let members: Vec<Member> = members.into_iter().collect();
    Event::Started {
        facts: Started {
            kind,
            participants: members.iter().map(as_participant).collect(),
            fingerprint: None,
            by: by.into(),
            occurred_at: at(1),
        },
        personal: StartedPersonal {
            title: None,
            addresses: members
                .iter()
                .filter_map(|m| Some((m.participant(), m.address()?.clone())))
                .collect(),
        },
    }
}

fn as_participant(member: &Member) -> crate::conversation::Participant {
    crate::conversation::Participant {
        participant: member.participant(),
        who: member.who(),
    }
}

fn add(member: Member, by: impl Into<Option<UserId>>) -> Command {
    Command::Add {
        member,
        by: by.into(),
        at: at(2),
    }
}

fn joined(member: &Member, by: impl Into<Option<UserId>>) -> Event {
    Event::Joined {
        facts: Joined {
            participant: as_participant(member),
            by: by.into(),
            occurred_at: at(2),
        },
        personal: JoinedPersonal {
            address: member.address().cloned(),
        },
    }
}

fn remove(number: u128, by: UserId) -> Command {
    Command::Remove {
        participant: participant(number),
        by,
        at: at(3),
    }
}

fn left(number: u128, by: UserId) -> Event {
    let facts = Left {
        participant: participant(number),
        by,
        occurred_at: at(3),
    };
    Event::Left { facts }
}

fn group(members: impl IntoIterator<Item = Member>) -> Event {
    started(Kind::Group, members, user(1))
}

fn direct_with_contact() -> Event {
    started(Kind::Direct, [member(1), contact(9)], user(1))
}

fn direct_of_users() -> Event {
    started(Kind::Direct, [member(1), member(2)], user(1))
}

mod starting {
    use super::*;

    #[test]
    fn a_group_has_any_mix() {
        let everybody = [member(1), contact(8), member(2), contact(9)];
        given([])
            .when(start(Kind::Group, everybody.clone(), user(1)))
            .then([group(everybody)]);
    }

    #[test]
    fn a_group_keeps_its_title_and_fingerprint() {
        let command = titled("Order 4711", fingerprint("one"));
        let then = given([]).when(command);
        let Event::Started { facts, personal } = &then.events()[0] else {
            panic!("{:?}", then.events());
        };
        assert_eq!(facts.fingerprint, Some(fingerprint("one")));
        assert_eq!(personal.title, Some(text("Order 4711")));
    }

    #[test]
    fn a_direct_conversation_is_between_two_users() {
        given([])
            .when(start(Kind::Direct, [member(1), member(2)], user(1)))
            .then([direct_of_users()]);
    }

    #[test]
    fn a_direct_conversation_is_with_one_address() {
        given([])
            .when(start(Kind::Direct, [member(1), contact(9)], user(1)))
            .then([direct_with_contact()]);
    }

    #[test]
    fn several_users_may_write_to_one_address_together() {
        let team = [member(1), member(2), contact(9)];
        given([])
            .when(start(Kind::Direct, team.clone(), user(1)))
            .then([started(Kind::Direct, team, user(1))]);
    }

    #[test]
    fn a_stranger_who_writes_first_is_alone_in_it() {
        given([])
            .when(start(Kind::Direct, [contact(9)], None))
            .then([started(Kind::Direct, [contact(9)], None)]);
    }

    #[test]
    fn a_direct_conversation_has_no_second_address() {
        given([])
            .when(start(
                Kind::Direct,
                [member(1), contact(8), contact(9)],
                user(1),
            ))
            .then_rejected(Rejection::NotDirect);
    }

    #[test]
    fn a_direct_conversation_has_no_third_user() {
        given([])
            .when(start(
                Kind::Direct,
                [member(1), member(2), member(3)],
                user(1),
            ))
            .then_rejected(Rejection::NotDirect);
    }

    #[test]
    fn a_user_alone_is_no_direct_conversation() {
        given([])
            .when(start(Kind::Direct, [member(1)], None))
            .then_rejected(Rejection::NotDirect);
    }

    #[test]
    fn a_user_does_not_start_one_alone() {
        given([])
            .when(start(Kind::Group, [member(1)], user(1)))
            .then_rejected(Rejection::Empty);
    }

    #[test]
    fn nobody_starts_an_empty_one() {
        given([])
            .when(start(Kind::Direct, [], None))
            .then_rejected(Rejection::Empty);
    }

    #[test]
    fn who_is_named_twice_counts_once() {
        given([])
            .when(start(Kind::Group, [member(1), member(1)], user(1)))
            .then_rejected(Rejection::Empty)
            .when(start(
                Kind::Group,
                [member(1), contact(9), contact(9)],
                user(1),
            ))
            .then([group([member(1), contact(9)])]);
    }

    #[test]
    fn who_starts_it_is_in_it() {
        given([])
            .when(start(Kind::Group, [member(1), member(2)], user(3)))
            .then_rejected(Rejection::NotAParticipant);
    }

    #[test]
    fn it_holds_a_limited_number() {
        let fill = |count| (1..=count as u128).map(member);
        given([])
            .when(start(Kind::Group, fill(MAX_PARTICIPANTS + 1), user(1)))
            .then_rejected(Rejection::Full {
                max: MAX_PARTICIPANTS,
            })
            .when(start(Kind::Group, fill(MAX_PARTICIPANTS), user(1)))
            .then([group(fill(MAX_PARTICIPANTS))]);
    }

    #[test]
    fn the_same_request_again_changes_nothing() {
        let command = titled("Order 4711", fingerprint("one"));
        given([])
            .when(command.clone())
            .go_on()
            .when(command)
            .then_nothing();
    }

    #[test]
    fn a_direct_conversation_that_a_stranger_opened_is_not_started_again() {
        given([started(Kind::Direct, [contact(9)], None)])
            .when(start(Kind::Direct, [member(1), contact(9)], user(1)))
            .then_nothing();
    }

    #[test]
    fn another_request_under_the_same_id_is_refused() {
        given([])
            .when(titled("Order 4711", fingerprint("one")))
            .go_on()
            .when(titled("Order 4712", fingerprint("other")))
            .then_rejected(Rejection::DifferentContent);
    }

    fn titled(title: &str, fingerprint: Fingerprint) -> Command {
        Command::Start {
            kind: Kind::Group,
            members: vec![member(1), member(2)],
            title: Some(text(title)),
            fingerprint: Some(fingerprint),
            by: Some(user(1)),
            at: at(1),
        }
    }
}

mod joining {
    use super::*;

    #[test]
    fn a_participant_lets_a_user_join_a_group() {
        given([group([member(1), member(2)])])
            .when(add(member(3), user(2)))
            .then([joined(&member(3), user(2))]);
    }

    #[test]
    fn a_participant_lets_somebody_outside_join_a_group() {
        given([group([member(1), member(2)])])
            .when(add(contact(9), user(1)))
            .then([joined(&contact(9), user(1))]);
    }

    #[test]
    fn who_is_in_it_stays_in_it() {
        given([group([member(1), member(2)])])
            .when(add(member(2), user(1)))
            .then_nothing();
    }

    #[test]
    fn who_has_left_may_come_back() {
        given([group([member(1), member(2)]), left(2, user(1))])
            .when(add(member(2), user(1)))
            .then([joined(&member(2), user(1))]);
    }

    #[test]
    fn an_outsider_lets_nobody_join() {
        given([group([member(1), member(2)])])
            .when(add(member(3), user(3)))
            .then_rejected(Rejection::NotAParticipant);
    }

    #[test]
    fn who_has_left_lets_nobody_join() {
        given([group([member(1), member(2)]), left(2, user(2))])
            .when(add(member(3), user(2)))
            .then_rejected(Rejection::NotAParticipant);
    }

    #[test]
    fn the_system_lets_a_user_who_writes_to_an_address_join() {
        given([started(Kind::Direct, [contact(9)], None)])
            .when(add(member(1), None))
            .then([joined(&member(1), None)]);
    }

    #[test]
    fn a_third_user_does_not_join_two() {
        given([direct_of_users()])
            .when(add(member(3), user(1)))
            .then_rejected(Rejection::DirectIsFixed);
    }

    #[test]
    fn a_second_address_does_not_join_a_direct_conversation() {
        given([direct_with_contact()])
            .when(add(contact(8), user(1)))
            .then_rejected(Rejection::DirectIsFixed);
    }

    #[test]
    fn nobody_joins_a_full_one() {
        let everybody = (1..=MAX_PARTICIPANTS as u128).map(member);
        given([group(everybody)])
            .when(add(member(5_000), user(1)))
            .then_rejected(Rejection::Full {
                max: MAX_PARTICIPANTS,
            })
            .when(add(member(2), user(1)))
            .then_nothing();
    }

    #[test]
    fn nobody_joins_what_does_not_exist() {
        given([])
            .when(add(member(1), None))
            .then_rejected(Rejection::NotFound);
    }
}

mod leaving {
    use super::*;

    #[test]
    fn a_participant_removes_another() {
        given([group([member(1), contact(9)])])
            .when(remove(9, user(1)))
            .then([left(9, user(1))]);
    }

    #[test]
    fn a_participant_leaves() {
        given([group([member(1), member(2)])])
            .when(remove(2, user(2)))
            .then([left(2, user(2))]);
    }

    #[test]
    fn who_is_not_in_it_is_not_removed_again() {
        given([group([member(1), member(2)]), left(2, user(1))])
            .when(remove(2, user(1)))
            .then_nothing();
    }

    #[test]
    fn an_outsider_removes_nobody() {
        given([group([member(1), member(2)])])
            .when(remove(1, user(3)))
            .then_rejected(Rejection::NotAParticipant);
    }

    #[test]
    fn a_user_leaves_a_direct_conversation_with_an_address() {
        given([direct_with_contact()])
            .when(remove(1, user(1)))
            .then([left(1, user(1))]);
    }

    #[test]
    fn the_address_stays_in_its_direct_conversation() {
        given([direct_with_contact()])
            .when(remove(9, user(1)))
            .then_rejected(Rejection::DirectIsFixed);
    }

    #[test]
    fn two_users_stay_in_their_direct_conversation() {
        given([direct_of_users()])
            .when(remove(2, user(1)))
            .then_rejected(Rejection::DirectIsFixed);
    }

    #[test]
    fn nobody_leaves_what_does_not_exist() {
        given([])
            .when(remove(1, user(1)))
            .then_rejected(Rejection::NotFound);
    }
}

#[test]
fn it_knows_who_is_in_it_and_where_to_reach_them() {
    let conversation = given([
        group([member(1), member(2), contact(9)]),
        joined(&contact(8), user(1)),
        left(2, user(2)),
    ]);
    let state: &Conversation = conversation.state();
    let present: Vec<_> = state
        .present()
        .map(|(id, present)| (id, present.address.clone()))
        .collect();
    assert_eq!(
        present,
        [
            (participant(1), None),
            (participant(8), Some(address("491510000008"))),
            (participant(9), Some(address("491510000009"))),
        ]
    );
    assert_eq!(state.participant_of(user(1)), Some(participant(1)));
    assert_eq!(state.participant_of(user(2)), None, "has left");
    assert_eq!(state.participant_of(user(9)), None, "is a contact");
    assert!(state.exists());
}

#[test]
fn nobody_is_in_what_does_not_exist() {
    let nothing = Conversation::default();
    assert_eq!(nothing.present().count(), 0);
    assert_eq!(nothing.participant_of(user(1)), None);
    assert!(!nothing.exists());
}

#[test]
fn a_second_start_on_the_log_changes_nothing() {
    let once = given([direct_of_users()]);
    let twice = given([direct_of_users(), direct_with_contact()]);
    assert_eq!(once.state(), twice.state());
}

#[test]
fn coming_and_going_before_the_start_changes_nothing() {
    let history = [joined(&member(1), None), left(1, user(1))];
    assert_eq!(given(history).state(), &Conversation::Absent);
}

#[test]
fn it_stands_on_the_log_in_this_form() {
    let Event::Started { facts, personal } = direct_with_contact() else {
        unreachable!("built as Started");
    };
    assert_event_on_the_log(
        &Event::Started {
            facts: Started {
                fingerprint: Some(fingerprint("one")),
                ..facts
            },
            personal: StartedPersonal {
                title: Some(text("Order 4711")),
                ..personal
            },
        },
        r#"{"type":"ConversationStarted","facts":{"kind":"direct","participants":[
                {"participant":"000000ba-0000-0000-0000-000000000001",
                 "who":{"is":"user","user":"000000a5-0000-0000-0000-000000000001"}},
                {"participant":"000000ba-0000-0000-0000-000000000009",
                 "who":{"is":"contact","identity":"0000001d-0000-0000-0000-000000000009",
                        "kind":"whatsapp","account":"whatsapp-main"}}],
            "fingerprint":"daef2f3310527e9e3374c3fd309ba0209a4e9f9d84c3ca3e6628159fa399813b","by":"000000a5-0000-0000-0000-000000000001","occurred_at":"2026-11-22T04:00:01.000Z"},
            "personal":{"title":"Order 4711",
                "addresses":{"000000ba-0000-0000-0000-000000000009":"491510000009"}}}"#,
    );
    assert_event_on_the_log(
        &started(Kind::Group, [], None),
        r#"{"type":"ConversationStarted","facts":{"kind":"group","participants":[],"occurred_at":"2026-11-22T04:00:01.000Z"},
            "personal":{}}"#,
    );
    assert_event_on_the_log(
        &joined(&contact(9), user(1)),
        r#"{"type":"ParticipantJoined","facts":{
                "participant":"000000ba-0000-0000-0000-000000000009",
                "who":{"is":"contact","identity":"0000001d-0000-0000-0000-000000000009",
                       "kind":"whatsapp","account":"whatsapp-main"},
                "by":"000000a5-0000-0000-0000-000000000001","occurred_at":"2026-11-22T04:00:02.000Z"},
            "personal":{"address":"491510000009"}}"#,
    );
    assert_event_on_the_log(
        &joined(&member(1), None),
        r#"{"type":"ParticipantJoined","facts":{
                "participant":"000000ba-0000-0000-0000-000000000001",
                "who":{"is":"user","user":"000000a5-0000-0000-0000-000000000001"},
                "occurred_at":"2026-11-22T04:00:02.000Z"},
            "personal":{}}"#,
    );
    assert_event_on_the_log(
        &left(1, user(2)),
        r#"{"type":"ParticipantLeft","facts":{"participant":"000000ba-0000-0000-0000-000000000001",
            "by":"000000a5-0000-0000-0000-000000000002","occurred_at":"2026-11-22T04:00:03.000Z"}}"#,
    );
}

#[test]
fn its_types_are_listed_with_their_versions() {
    let events = [
        direct_of_users(),
        joined(&member(1), None),
        left(1, user(1)),
    ];
    assert_eq!(Event::TYPES, events.map(|event| (event.name(), 1)));
}

#[test]
fn the_largest_start_fits_the_log() {
    // The longest account id for everybody, the longest title in JSON's longest escape.
    let longest = |number| match contact(number) {
        Member::Contact {
            participant,
            identity,
            kind,
            ..
        } => Member::Contact {
            participant,
            identity,
            kind,
            account: account(&"a".repeat(64)),
            address: address("491511234567890"),
        },
        user @ Member::User { .. } => user,
    };
    let others = (2..=MAX_PARTICIPANTS as u128).map(longest);
    let command = Command::Start {
        kind: Kind::Group,
        members: std::iter::once(member(1)).chain(others).collect(),
        title: Some(text(&"\u{1}".repeat(super::MAX_TITLE_CHARS))),
        fingerprint: Some(fingerprint("one")),
        by: Some(user(1)),
        at: at(1),
    };
    let then = given([]).when(command);
    let bytes = serde_json::to_vec(&then.events()[0]).unwrap().len();
    let room = 256 * 1024 - 4 * 1024; // what the log takes, less the envelope around the event
    assert!(bytes <= room, "{bytes} bytes, {room} fit");
}

#[test]
fn commands_are_named_in_logs() {
    let names = [
        start(Kind::Group, [], None).name(),
        add(member(1), None).name(),
        remove(1, user(1)).name(),
    ];
    assert_eq!(
        names,
        ["StartConversation", "AddParticipant", "RemoveParticipant"]
    );
}

#[test]
fn debug_shows_neither_title_nor_address() {
    let mut event = direct_with_contact();
    if let Event::Started { personal, .. } = &mut event {
        personal.title = Some(text("Order 4711"));
    }
    let state = given([event.clone()]);
    let shown = spec::debug(&start(Kind::Direct, [contact(9)], None))
        + &spec::debug(&[event, joined(&contact(9), None)])
        + &spec::debug(state.state());
    assert!(
        !shown.contains("4711") && !shown.contains("49151"),
        "{shown}"
    );
}

#[test]
fn rejections_say_why() {
    let shown = [
        Rejection::NotFound,
        Rejection::NotAParticipant,
        Rejection::DifferentContent,
        Rejection::Empty,
        Rejection::Full { max: 7 },
        Rejection::NotDirect,
        Rejection::DirectIsFixed,
    ]
    .map(|rejection| rejection.to_string());
    assert_eq!(
        shown,
        [
            "there is no such conversation",
            "who asks is not a participant of the conversation",
            "another conversation has this id already",
            "a conversation needs at least one participant besides who starts it",
            "a conversation has at most 7 participants",
            "a direct conversation is with one outside address, or between two users; start a group instead",
            "a direct conversation keeps its parties; start a group instead",
        ]
    );
}

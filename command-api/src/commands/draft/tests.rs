use chat4all_domain::conversation::{self, Kind, Member};
use chat4all_domain::{AccountId, Address};

use super::*;

const SECRET: IdSecret = IdSecret::new([7; 32]);
const AT: i64 = 1_795_000_000_000;
const DAY: Duration = Duration::from_secs(86_400);

fn conversation_id() -> ConversationId {
    "0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d".parse().unwrap()
}

fn user(sub: &str) -> UserId {
    UserId::derive("chat4all", sub)
}

fn text(text: &str) -> Text {
    Text::parse(text.to_owned(), Text::MAX_CHARS).unwrap()
}

fn contact() -> Party {
    let address = Address::parse(ChannelKind::WhatsApp, "+4915112345678").unwrap();
    let account: AccountId = "whatsapp-main".parse().unwrap();
    Party::Contact {
        account,
        kind: ChannelKind::WhatsApp,
        address,
    }
}

/// A group with these members, started by the first who is a user.
fn group(parties: &[Party]) -> Conversation {
    let starter = parties.iter().find_map(|party| match party {
        Party::User(user) => Some(*user),
        Party::Contact { .. } => None,
    });
    let members: Vec<Member> = parties
        .iter()
        .map(|party| party.member(&SECRET, conversation_id()))
        .collect();
    let start = conversation::Command::Start {
        kind: Kind::Group,
        members,
        title: None,
        fingerprint: None,
        by: starter,
        at: Timestamp::from_unix_ms(AT),
    };
    let events = Conversation::Absent.decide(&start).unwrap();
    events
        .iter()
        .fold(Conversation::Absent, Conversation::evolve)
}

fn draft(said: &str) -> Draft {
    let (author, text) = (user("ana"), text(said));
    let id = message::Id {
        conversation: conversation_id(),
        message: "0193c2e4-8d2f-7b4c-9a11-6e2dab3c4d5e".parse().unwrap(),
    };
    let fingerprint = fingerprint(&SECRET, author, id.conversation, &text);
    Draft {
        id,
        author,
        text,
        to: None,
        fingerprint,
    }
}

fn accepted(draft: &Draft, conversation: &Conversation) -> Result<Accept, Refusal> {
    let command = draft.command(conversation, Timestamp::from_unix_ms(AT), DAY)?;
    let message::Command::Accept(accept) = command;
    Ok(accept)
}

#[test]
fn those_outside_are_recipients_and_users_are_not() {
    let group = group(&[
        Party::User(user("ana")),
        Party::User(user("ben")),
        contact(),
    ]);
    let accept = accepted(&draft("hello"), &group).unwrap();
    assert_eq!(
        accept.author,
        ParticipantId::of_user(conversation_id(), user("ana"))
    );
    let addresses: Vec<_> = accept
        .recipients
        .iter()
        .map(|to| to.address.reveal())
        .collect();
    assert_eq!(addresses, ["4915112345678"]);
    assert_eq!(accept.recipients[0].account.as_str(), "whatsapp-main");
    assert_eq!(accept.valid_for, DAY);
}

#[test]
fn who_is_not_in_it_cannot_write_there() {
    let others = group(&[Party::User(user("ben")), contact()]);
    assert_eq!(
        accepted(&draft("hello"), &others).unwrap_err(),
        Refusal::NotAParticipant
    );
    assert_eq!(
        accepted(&draft("hello"), &Conversation::Absent).unwrap_err(),
        Refusal::NotAParticipant
    );
}

#[test]
fn the_limit_is_that_of_the_recipients_channels() {
    let (fits, too_long) = ("ä".repeat(4_096), "ä".repeat(4_097));
    let outside = group(&[Party::User(user("ana")), contact()]);
    assert!(accepted(&draft(&fits), &outside).is_ok());
    assert_eq!(
        accepted(&draft(&too_long), &outside).unwrap_err(),
        Refusal::TooLong {
            kind: ChannelKind::WhatsApp
        }
    );
    let inside = group(&[Party::User(user("ana")), Party::User(user("ben"))]);
    assert!(accepted(&draft(&too_long), &inside).is_ok());
}

#[test]
fn the_canonical_request_never_changes() {
    // Fingerprints of every message on every log rest on this text. Never change it.
    assert_eq!(
        canonical(conversation_id(), &text("hallo \"Ä\"\n")),
        r#"{"conversation":"0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d","content":{"type":"text","text":"hallo \"Ä\"\n"}}"#
    );
}

#[test]
fn another_author_conversation_or_text_has_another_fingerprint() {
    let other: ConversationId = "0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4e".parse().unwrap();
    let hello = text("hello");
    let all = [
        fingerprint(&SECRET, user("ana"), conversation_id(), &hello),
        fingerprint(&SECRET, user("ben"), conversation_id(), &hello),
        fingerprint(&SECRET, user("ana"), other, &hello),
        fingerprint(&SECRET, user("ana"), conversation_id(), &text("hello ")),
    ];
    let distinct: std::collections::HashSet<_> = all.into_iter().collect();
    assert_eq!(distinct.len(), all.len());
}

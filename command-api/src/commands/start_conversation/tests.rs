use super::*;
use crate::request::testing::{SECRET, accounts, ana, read, told};

const BEN: &str = "5b0c5b1e-6f3a-5c0e-9d5e-2a7f6f1f0b11";
const PHONE: &str = r#"{"channel":"whatsapp","address":"+4915112345678"}"#;

async fn understand(body: &str) -> Result<Start, Problem> {
    read::<StartConversation>(body)
        .await?
        .understand(ana(), &accounts())
}

#[tokio::test]
async fn every_mistake_is_named_with_its_place() {
    let many = format!(
        r#"{{"kind":"group","participants":[{}]}}"#,
        vec![PHONE; MAX_PARTICIPANTS].join(",")
    );
    let title = |title: &str| {
        format!(r#"{{"kind":"group","title":"{title}","participants":[{{"user_id":"{BEN}"}}]}}"#)
    };
    let bodies = [
        "{}",
        r#"{"kind":"circle","participants":[]}"#,
        r#"{"kind":"direct"}"#,
        r#"{"kind":"direct","participants":[]}"#,
        &format!(r#"{{"kind":"direct","title":"us","participants":[{PHONE}]}}"#),
        &format!(r#"{{"kind":"direct","participants":[{PHONE},{{"user_id":"{BEN}"}}]}}"#),
        &format!(
            r#"{{"kind":"direct","participants":[{{"user_id":"{}"}}]}}"#,
            ana()
        ),
        r#"{"kind":"direct","participants":[{"user_id":"ben"}]}"#,
        r#"{"kind":"direct","participants":[{"user":"ben"}]}"#,
        r#"{"kind":"direct","participants":[{}]}"#,
        r#"{"kind":"direct","participants":[{"channel":"whatsapp"}]}"#,
        &format!(
            r#"{{"kind":"direct","participants":[{{"user_id":"{BEN}","channel":"whatsapp","address":"1"}}]}}"#
        ),
        r#"{"kind":"direct","participants":[{"channel":"pigeon","address":"+4915112345678"}]}"#,
        r#"{"kind":"direct","participants":[{"channel":"whatsapp","address":"ben"}]}"#,
        r#"{"kind":"group","participants":[]}"#,
        r#"{"kind":"group","participants":[{"channel":"pigeon","address":"+4915112345678"}]}"#,
        r#"{"kind":"group","title":" ","participants":[{"user_id":"ben"},{"user_id":"eve"}]}"#,
        r#"{"kind":"circle","name":"us","participants":[]}"#,
        &format!(
            r#"{{"kind":"group","participants":[{{"user_id":"{}"}}]}}"#,
            ana()
        ),
        &format!(
            r#"{{"kind":"group","title":" ","participants":[{PHONE},{{"channel":"x","address":"1"}},{{"channel":"whatsapp-main","address":"4915112345678"}}]}}"#
        ),
        &title("a\\u0000"),
    ];
    let mut table = String::new();
    for body in bodies {
        table.push_str(&told(body, understand(body).await));
    }
    insta::assert_snapshot!(table);
    let problem = understand(&title(&"x".repeat(MAX_TITLE_CHARS + 1)))
        .await
        .unwrap_err();
    assert_eq!(problem.errors()[0].pointer, "/title");
    let problem = understand(&many).await.unwrap_err();
    assert_eq!(
        problem.errors()[0].detail,
        "a conversation has at most 899 participants besides you"
    );
}

#[tokio::test]
async fn who_starts_a_group_need_not_be_named_and_may_be() {
    let without = format!(r#"{{"kind":"group","participants":[{PHONE}]}}"#);
    let with = format!(
        r#"{{"kind":"group","participants":[{{"user_id":"{}"}},{PHONE}]}}"#,
        ana()
    );
    assert_eq!(
        understand(&without).await.unwrap(),
        understand(&with).await.unwrap()
    );
}

#[test]
fn the_canonical_request_never_changes() {
    // Fingerprints of every group on every log rest on this text. Never change it.
    let id = ConversationId::derive_group(ana(), "k");
    let members = [
        Party::User(ana()),
        Party::User(UserId::new(BEN.parse().unwrap())),
    ]
    .map(|party| party.member(&SECRET, id));
    let title = Text::parse("Order \"4711\"".to_owned(), MAX_TITLE_CHARS).unwrap();
    assert_eq!(
        canonical(Some(&title), &members),
        format!(
            r#"{{"kind":"group","title":"Order \"4711\"","participants":["{}","{}"]}}"#,
            ParticipantId::of_user(id, ana()),
            ParticipantId::of_user(id, UserId::new(BEN.parse().unwrap())),
        )
    );
    assert!(canonical(None, &members).starts_with(r#"{"kind":"group","title":null,"#));
}

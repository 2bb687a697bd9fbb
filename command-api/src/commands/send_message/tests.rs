use super::*;
use crate::request::testing::{SECRET, accounts, ana, read, told};

const CONVERSATION: &str = "0193c2e4-7c1e-7a3b-8f00-5d1c9a2b3c4d";
const MESSAGE: &str = "0193c2e4-8d2f-7b4c-9a11-6e2dab3c4d5e";

async fn understand(body: &str, key: Option<&str>) -> Result<Draft, Problem> {
    read::<SendMessage>(body)
        .await?
        .understand(&SECRET, &accounts(), ana(), key)
}

async fn draft(body: &str, key: Option<&str>) -> Draft {
    understand(body, key).await.unwrap()
}

fn into_conversation(more: &str) -> String {
    format!(
        r#"{{"conversation_id":"{CONVERSATION}","content":{{"type":"text","text":"hello"}}{more}}}"#
    )
}

#[tokio::test]
async fn every_mistake_is_named_with_its_place() {
    let long = format!(
        r#"{{"conversation_id":"{CONVERSATION}","content":{{"type":"text","text":"{}"}}}}"#,
        "x".repeat(Text::MAX_CHARS + 1)
    );
    let bodies = [
        "",
        "[]",
        "{}",
        r#"{"content":{"type":"text","text":"hello"}}"#,
        r#"{"conversation_id":"here","content":{"type":"text","text":"hello"}}"#,
        r#"{"conversation_id":"here","message_id":"mine","content":{"type":"text","text":" "}}"#,
        r#"{"conversation_id":7,"content":{"type":"text","text":"hello"}}"#,
        &format!(r#"{{"conversation_id":"{CONVERSATION}"}}"#),
        &format!(r#"{{"conversation_id":"{CONVERSATION}","content":"hello"}}"#),
        &format!(r#"{{"conversation_id":"{CONVERSATION}","content":{{"text":"hello"}}}}"#),
        &format!(
            r#"{{"conversation_id":"{CONVERSATION}","content":{{"type":"sticker","text":"hello"}}}}"#
        ),
        &format!(r#"{{"conversation_id":"{CONVERSATION}","content":{{"type":"text"}}}}"#),
        &format!(r#"{{"conversation_id":"{CONVERSATION}","content":{{"type":"text","text":5}}}}"#),
        &format!(
            r#"{{"conversation_id":"{CONVERSATION}","content":{{"type":"text","text":" \n"}}}}"#
        ),
        &format!(
            r#"{{"conversation_id":"{CONVERSATION}","content":{{"type":"text","text":"a\u0000b"}}}}"#
        ),
        &format!(
            r#"{{"conversation_id":"{CONVERSATION}","content":{{"type":"text","text":"hello","bold":true}}}}"#
        ),
        &format!(
            r#"{{"conversation_id":"{CONVERSATION}","content":{{"type":"text","text":"\ud800"}}}}"#
        ),
        &into_conversation(r#","colour":"red""#),
        &into_conversation(r#","message_id":"mine""#),
        &into_conversation(r#","to":{"channel":"whatsapp","address":"+4915112345678"}"#),
        &into_conversation(" more"),
        r#"{"to":{"channel":"whatsapp"},"content":{"type":"text","text":"hello"}}"#,
        r#"{"to":{"channel":"pigeon","address":"+4915112345678"},"content":{"type":"text","text":"hello"}}"#,
        r#"{"to":{"channel":"whatsapp","address":"0151-secret"},"content":{"type":"text","text":" "}}"#,
    ];
    let mut table = String::new();
    for body in bodies {
        table.push_str(&told(body, understand(body, None).await));
    }
    insta::assert_snapshot!(table);
    let told = told("", understand(&long, None).await);
    assert!(
        told.contains("has 32769 characters; at most 32768 are possible"),
        "{told}"
    );
}

#[tokio::test]
async fn what_was_sent_is_never_repeated() {
    for body in [
        r#"{"to":{"channel":"a-secret","address":"a-secret"},"content":{"type":"a-secret","text":"a-secret"}}"#,
        r#"{"to":{"channel":"a-secret","address":"a-secret"},"content":{"type":"text","text":"a-secret"}}"#,
        r#"{"to":"a-secret","content":{"type":"text","text":"a-secret"}}"#,
        r#"{"conversation_id":"a-secret","content":{"type":"text","text":"a-secret"}}"#,
        r#"{"message_id":"a-secret","content":{"type":"text","text":"a-secret"}}"#,
    ] {
        let problem = understand(body, None)
            .await
            .unwrap_err()
            .to_json()
            .to_string();
        assert!(!problem.contains("a-secret"), "{problem}");
    }
    let draft = draft(&into_conversation("").replace("hello", "a-secret"), None).await;
    assert!(!format!("{draft:?}").contains("a-secret"));
}

#[tokio::test]
async fn the_message_is_named_by_id_or_key_or_afresh() {
    let named = into_conversation(&format!(r#","message_id":"{MESSAGE}""#));
    assert_eq!(draft(&named, None).await.id.message.to_string(), MESSAGE);
    assert_eq!(
        draft(&named, Some(MESSAGE)).await.id.message.to_string(),
        MESSAGE
    );
    let plain = into_conversation("");
    let (first, again) = (
        draft(&plain, Some("k")).await.id,
        draft(&plain, Some("k")).await.id,
    );
    assert_eq!(first, again);
    assert_ne!(first, draft(&plain, Some("k2")).await.id);
    assert_ne!(draft(&plain, None).await.id, draft(&plain, None).await.id);
}

#[tokio::test]
async fn a_key_and_an_id_that_differ_are_refused() {
    let named = into_conversation(&format!(r#","message_id":"{MESSAGE}""#));
    for key in ["k", CONVERSATION] {
        let problem = understand(&named, Some(key)).await.unwrap_err();
        assert_eq!(problem.errors()[0].pointer, "/message_id");
    }
}

#[tokio::test]
async fn an_address_means_its_direct_conversation_however_it_is_written() {
    let to = |channel: &str, address: &str| {
        format!(
            r#"{{"to":{{"channel":"{channel}","address":"{address}"}},"content":{{"type":"text","text":"hello"}}}}"#
        )
    };
    let one = draft(&to("whatsapp", "+4915112345678"), Some("k")).await;
    let other = draft(&to("whatsapp-main", "4915112345678"), Some("k")).await;
    assert_eq!((one.id, one.fingerprint), (other.id, other.fingerprint));
    // And by its id it is the same request too.
    let by_id = into_conversation("").replace(CONVERSATION, &one.id.conversation.to_string());
    let by_id = draft(&by_id, Some("k")).await;
    assert_eq!((one.id, one.fingerprint), (by_id.id, by_id.fingerprint));
}

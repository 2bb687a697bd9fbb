//! Whatever somebody writes is what everybody reads: from the POST to GraphQL, REST and the provider, scalar by scalar.
//! What cannot be written is refused, and the refusal says where.

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use reqwest::header::{CONTENT_TYPE, HeaderValue};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Handle;

use super::system::{self, Answer, System, message, phone, until};
use crate::support::seed;

/// Cases that are on their way together; each has a conversation of its own.
const TOGETHER: usize = 16;
/// The longest text that WhatsApp carries, and the longest of all, in Unicode scalar values.
const WHATSAPP: usize = 4_096;
const LONGEST: usize = 32_768;
const LONGEST_TITLE: usize = 200;

#[tokio::test(flavor = "multi_thread")]
async fn any_text_is_read_as_it_was_written_by_users_and_by_the_provider() {
    let system = System::start().await;
    let mut groups = Vec::new();
    for i in 0..TOGETHER {
        groups.push(system.group("ana", &[phone(i)]).await);
    }
    let texts = vec((text(1..=64), any::<bool>()), 1..=TOGETHER);
    property("texts", 24, texts, |texts| {
        arrives_everywhere(&system, &groups, texts)
    });
    // What random text seldom has.
    let special = [
        "a",
        "\u{1}",
        "\u{7f}\u{80}\u{9f}\u{85}x",
        "\u{FFFE}\u{FFFF}\u{FEFF}\u{FFFD}\u{10FFFF}\u{E000}",
        " \t\r\n x \u{2028}\u{2029} ",
        "\u{202E}evil\u{202C} \u{2066}isolated\u{2069} \u{200F}",
        "e\u{301} é o\u{308}\u{323}\u{301} Å \u{212B} ﬁ",
        "👩‍👩‍👧‍👦 🏳️‍🌈 🇩🇪 👍🏽 ☝️",
        "\"\\/\u{8}\u{c}\n\r\t\\u0000 \\ud800 </script> {{x}} ${y} %s %00 '; drop table",
        "\u{200B}\u{200D}\u{2060}",
        "שלום עולם مرحبا بالعالم",
    ];
    let special = special.map(|text| (text.to_owned(), false));
    for texts in special.chunks(TOGETHER) {
        arrives_everywhere(&system, &groups, texts.to_vec())
            .await
            .unwrap();
    }
    let longest = ["x", "\u{1}", "\u{10FFFF}", "👩‍👩‍👧"].map(|unit| {
        let text: String = unit.chars().cycle().take(WHATSAPP).collect();
        (text, false)
    });
    arrives_everywhere(&system, &groups, longest.to_vec())
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn users_among_themselves_may_write_longer() {
    let system = System::start().await;
    let group = system.group_of("ana", &[ben()]).await;
    for unit in ["x", "\u{1}", "\u{FFFF}", "\u{10FFFF}", "\"", "e\u{301}"] {
        let text: String = unit.chars().cycle().take(LONGEST).collect();
        let accepted = system.say("ana", &group, &text).await;
        shown_as(&system, &accepted, &text).await.unwrap();
        let refused = post(&system, &group, &(text + "x")).await;
        assert_eq!(refused.problem().1, Some("/content/text"), "{unit:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_written_is_refused_where_it_stands() {
    let system = System::start().await;
    let group = system.group("ana", &[phone(0)]).await;
    let refused = prop_oneof![
        blank().boxed(),
        // U+0000 anywhere.
        (text(0..=8), text(0..=8))
            .prop_map(|(a, b)| format!("{a}\0{b}"))
            .boxed(),
        (text(1..=3), WHATSAPP + 1..=WHATSAPP + 5)
            .prop_map(|(unit, chars)| unit.chars().cycle().take(chars).collect())
            .boxed(),
    ];
    property("refusals", 150, refused, async |text: String| {
        let answer = post(&system, &group, &text).await;
        let found = (answer.status, answer.problem().1);
        let expected = (StatusCode::UNPROCESSABLE_ENTITY, Some("/content/text"));
        prop_assert_eq!(found, expected, "{:?}", answer.body);
        let title = blank_or_nul(&text).then(|| text.clone());
        let title = title.unwrap_or_else(|| "t".repeat(LONGEST_TITLE + 1));
        let body = json!({"kind": "group", "title": title, "participants": [ben()]});
        let answer = system.post("ana", "/v1/conversations", None, &body).await;
        let expected = (StatusCode::UNPROCESSABLE_ENTITY, Some("/title"));
        let found = (answer.status, answer.problem().1);
        prop_assert_eq!(found, expected, "{:?}", answer.body);
        Ok(())
    });
    // Half of a pair is no character: there is no text to refuse.
    for half in ["\\ud800", "\\udc00x", "\\ud83d\\ud83d"] {
        let text = format!(
            r#"{{"conversation_id":"{group}","content":{{"type":"text","text":"{half}"}}}}"#
        );
        let answer = raw(&system, text).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{answer:?}");
    }
    assert_eq!(system.taken().await.len(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn any_title_is_read_as_it_was_written() {
    let system = System::start().await;
    property(
        "titles",
        100,
        text(1..=LONGEST_TITLE),
        async |title: String| {
            let body = json!({"kind": "group", "title": title, "participants": [ben()]});
            let started = system.post("ana", "/v1/conversations", None, &body).await;
            prop_assert_eq!(started.status, StatusCode::CREATED);
            let (id, position) = (started.text("conversation_id"), started.text("position"));
            let path = format!("/v1/conversations/{id}");
            let rest = system.rest("ana", &path, Some(&position)).await;
            prop_assert_eq!(rest["title"].as_str(), Some(&*title), "by REST");
            let query = "query($id: ID!) { conversation(id: $id) { title } }";
            let shown = system.graphql("ana", query, json!({"id": id})).await;
            let shown = shown["conversation"]["title"].as_str();
            prop_assert_eq!(shown, Some(&*title), "by GraphQL");
            Ok(())
        },
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn any_key_of_printable_ascii_names_one_message_and_others_are_refused() {
    let system = System::start().await;
    let group = system.group_of("ana", &[ben()]).await;
    let body = message(&group, "hello");
    let with_key = async |key: &[u8]| {
        let request = system.command("ana", Method::POST, "/v1/messages");
        let key = HeaderValue::from_bytes(key).unwrap();
        system::answer(request.header("Idempotency-Key", key).json(&body)).await
    };
    // White space around a header's value is no part of it (RFC 9110, 5.5), so a key has none.
    let key = "[!-~]([ -~]{0,253}[!-~])?";
    property("keys", 60, vec(key, 2), async |keys: Vec<String>| {
        let mut ids = Vec::new();
        for key in &keys {
            let first = with_key(key.as_bytes()).await;
            prop_assert_eq!(first.status, StatusCode::ACCEPTED, "{:?}", first.body);
            let again = with_key(key.as_bytes()).await;
            prop_assert!(again.replay, "{:?}", again.body);
            prop_assert_eq!(&again.body, &first.body);
            ids.push(first.text("message_id"));
        }
        prop_assert_eq!(ids[0] == ids[1], keys[0] == keys[1]);
        Ok(())
    });
    let wrong = vec(prop_oneof![b'!'..=b'~', 0x80_u8..=0xff], 1..=20);
    let wrong = wrong.prop_filter("has a byte that is not ASCII", |key| !key.is_ascii());
    property("wrong keys", 40, wrong, async |key: Vec<u8>| {
        let answer = with_key(&key).await;
        let expected = (StatusCode::UNPROCESSABLE_ENTITY, Some("/Idempotency-Key"));
        prop_assert_eq!((answer.status, answer.problem().1), expected);
        Ok(())
    });
    for key in [&b"a\tb"[..], &[b'k'; 256], b"", b" "] {
        let answer = with_key(key).await;
        assert_eq!(answer.problem().1, Some("/Idempotency-Key"), "{key:?}");
    }
}

/// Texts of any scalar values but U+0000, with those that software gets wrong more often than chance has them; not blank.
fn text(chars: std::ops::RangeInclusive<usize>) -> impl Strategy<Value = String> {
    let unit = prop_oneof![
        4 => any::<char>(),
        2 => proptest::char::range('\u{1}', '\u{ff}'),
        1 => proptest::char::range('\u{300}', '\u{36f}'),
        1 => proptest::char::range('\u{590}', '\u{6ff}'),
        1 => proptest::char::range('\u{1f300}', '\u{1faff}'),
        2 => proptest::sample::select(vec![
            '\u{200d}', '\u{fe0f}', '\u{200e}', '\u{200f}', '\u{202e}', '\u{2066}', '\u{2028}', '\u{feff}', '\u{fffd}',
            '\u{d7ff}', '\u{e000}', '\u{10ffff}', '"', '\\', '\n', '\r', '\t', ' ', '\'', '<', '\u{1f1e9}', '\u{1f3fd}',
        ]),
    ];
    let unit = unit.prop_filter("U+0000 is refused", |unit| *unit != '\0');
    let from = *chars.start();
    let text = vec(unit, chars).prop_map(String::from_iter);
    text.prop_filter("blank text is refused", move |text| {
        from == 0 || !blank_or_nul(text)
    })
}

/// Another user, so that nothing goes out.
fn ben() -> Value {
    json!({"user_id": system::user_id("ben")})
}

/// Nothing but white space, or nothing at all.
fn blank() -> impl Strategy<Value = String> {
    let spaces: Vec<char> = ('\u{1}'..=char::MAX)
        .filter(|c| c.is_whitespace())
        .collect();
    vec(proptest::sample::select(spaces), 0..=8).prop_map(String::from_iter)
}

fn blank_or_nul(text: &str) -> bool {
    text.contains('\0') || text.trim().is_empty()
}

/// Posts them all, one to a conversation, and looks for them wherever they can be read. With `true`, JSON carries nothing but
/// ASCII.
async fn arrives_everywhere(
    system: &System,
    groups: &[String],
    texts: Vec<(String, bool)>,
) -> Result<(), TestCaseError> {
    let each = texts.iter().zip(groups).enumerate();
    let each = each.map(|(i, ((text, ascii), group))| async move {
        let accepted = match ascii {
            true => {
                let body = message(group, "").to_string();
                let text = format!("\"text\":\"{}\"", in_ascii(text));
                raw(system, body.replace("\"text\":\"\"", &text)).await
            }
            false => post(system, group, text).await,
        };
        prop_assert_eq!(accepted.status, StatusCode::ACCEPTED, "{:?}", accepted.body);
        shown_as(system, &accepted, text).await?;
        let id = accepted.text("message_id");
        let phone = phone(i);
        let calls = async || {
            let mut calls = system.taken_for(&phone).await;
            calls.retain(|call| call.reference.split('.').nth(1) == Some(&id));
            calls
        };
        let calls = until(calls, |calls| !calls.is_empty()).await;
        let given: Vec<_> = calls.iter().map(|call| &call.text).collect();
        prop_assert_eq!(given, [text], "what the provider was given");
        Ok(())
    });
    futures::future::join_all(each).await.into_iter().collect()
}

/// As GraphQL and REST show it.
async fn shown_as(system: &System, accepted: &Answer, text: &str) -> Result<(), TestCaseError> {
    let rest = system.message("ana", accepted).await;
    let rest = rest["content"]["text"].as_str();
    prop_assert_eq!(rest, Some(text), "by REST");
    let query = "query($conversation: ID!, $message: ID!) {
        message(conversationId: $conversation, messageId: $message) { content { ... on TextContent { text } } }
    }";
    let variables = json!({
        "conversation": accepted.text("conversation_id"),
        "message": accepted.text("message_id"),
    });
    let shown = system.graphql("ana", query, variables).await;
    let shown = shown["message"]["content"]["text"].as_str();
    prop_assert_eq!(shown, Some(text), "by GraphQL");
    Ok(())
}

async fn post(system: &System, group: &str, text: &str) -> Answer {
    let body: Value = message(group, text);
    system.post("ana", "/v1/messages", None, &body).await
}

/// A body as it is.
async fn raw(system: &System, body: String) -> Answer {
    let request = system.command("ana", Method::POST, "/v1/messages");
    system::answer(request.header(CONTENT_TYPE, "application/json").body(body)).await
}

/// As a careful client writes it into JSON: pairs for what does not fit sixteen bits.
fn in_ascii(text: &str) -> String {
    text.encode_utf16()
        .map(|unit| format!("\\u{unit:04x}"))
        .collect()
}

/// Holds `check` for so many values; what fails is made as small as possible first. The system stays the same for all.
#[track_caller]
fn property<S: Strategy>(
    name: &str,
    cases: u32,
    values: S,
    check: impl AsyncFn(S::Value) -> Result<(), TestCaseError>,
) where
    S::Value: std::fmt::Debug,
{
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed(name).to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let config = Config {
        cases,
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, rng);
    let run = || runner.run(&values, |value| Handle::current().block_on(check(value)));
    match tokio::task::block_in_place(run) {
        Ok(()) => {}
        Err(TestError::Fail(why, value)) => panic!("{name}: {why}, smallest: {value:?}"),
        Err(error @ TestError::Abort(_)) => panic!("{name}: {error}"),
    }
}

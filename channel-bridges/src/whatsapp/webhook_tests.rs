use proptest::prelude::*;

use super::*;

fn account() -> Account {
    Account {
        phone_number_id: "106540352242922".to_owned(),
        token: "token".into(),
        app_secret: "secret".into(),
        verify_token: "verify".into(),
        api_base: "https://graph.facebook.com/v25.0".parse().unwrap(),
        concurrency: 64,
        rate_per_s: 80,
        unsure: chat4all_service::config::Unsure::Resend,
        echoes: true,
    }
}

/// `Ok` with what can be asserted in one line, or why not.
fn summary(item: &Item) -> Result<String, &'static str> {
    match &item.what {
        Ok(What::Message(message)) => Ok(format!(
            "{} from {} ({}) at {} quoting {}: {}",
            message.provider_id,
            message.from.reveal(),
            message.name.as_ref().map_or("?", Text::reveal),
            message.at.unix_ms() / 1_000,
            message.quotes.as_deref().unwrap_or("-"),
            match &message.content {
                Content::Text { text } => format!("{:?}", text.reveal()),
                Content::Unsupported { what } => format!("[{what}]"),
            }
        )),
        Ok(What::Receipt(report)) => Ok(format!(
            "{} {} at {}{}",
            report.provider_id,
            match &report.step {
                None => "-".to_owned(),
                Some(Step::Failed {
                    class,
                    reason,
                    provider_code,
                    ..
                }) => format!(
                    "failed {class:?} {reason:?} {}",
                    provider_code.as_deref().unwrap_or("-")
                ),
                Some(step) => format!("{step:?}").to_lowercase(),
            },
            report.at.unix_ms() / 1_000,
            if report.echoed.is_some() {
                " echoed"
            } else {
                ""
            },
        )),
        Err(unreadable) => Err(unreadable.0),
    }
}

fn read(body: &str) -> Vec<Result<String, &'static str>> {
    read_webhook(&account(), body.as_bytes())
        .iter()
        .map(summary)
        .collect()
}

fn ok(text: &str) -> Result<String, &'static str> {
    Ok(text.to_owned())
}

#[test]
fn statuses_are_read_one_by_one() {
    assert_eq!(
        read(include_str!("testdata/statuses.json")),
        [
            ok("wamid.A sent at 1764000001 echoed"),
            ok("wamid.A delivered at 1764000002"),
            ok("wamid.A read at 1764000003"),
            ok("wamid.B failed Window OutsideAllowedSendingWindow 131047 at 1764000004"),
            ok("wamid.B - at 1764000005"),
            Err("a status that we do not know"),
            Err("a time that is no number of seconds"),
        ]
    );
}

#[test]
fn messages_are_read_one_by_one_and_what_cannot_be_shown_has_a_placeholder() {
    assert_eq!(
        read(include_str!("testdata/messages.json")),
        [
            ok(
                "wamid.1 from 4915112345678 (Anna\u{fffd} K.) at 1764000001 quoting -: \"hello\u{fffd}there\""
            ),
            ok("wamid.2 from 4915112345679 (?) at 1764000002 quoting wamid.Q: [text]"),
            ok("wamid.3 from 4915112345678 (Anna\u{fffd} K.) at 1764000003 quoting -: [sticker]"),
            ok("wamid.4 from 4915112345678 (Anna\u{fffd} K.) at 1764000004 quoting -: [unknown]"),
            Err("a message from somebody without a number"),
            Err("a message from something that is no number"),
            Err("a message that cannot be read"),
            Err("a change that we did not ask for"),
            Err("about another number than this account's"),
            Err("an error on the provider's side"),
        ]
    );
}

#[test]
fn a_bad_item_keeps_its_bytes() {
    let items = read_webhook(&account(), include_bytes!("testdata/messages.json"));
    let bad = items.iter().find(|item| item.raw == "{\"id\":7}");
    assert_eq!(
        bad.unwrap().what.as_ref().unwrap_err().0,
        "a message that cannot be read"
    );
    for body in ["", "{", "[]", "{\"object\":\"page\"}", "\u{0}"] {
        let items = read_webhook(&account(), body.as_bytes());
        assert_eq!(items.len(), 1, "{body:?}");
        assert_eq!(items[0].raw, body);
        assert!(items[0].what.is_err());
    }
}

#[test]
fn a_text_that_is_too_long_is_cut_off() {
    let message = |chars: usize| {
        let raw = serde_json::json!({"from": "4915112345678", "id": "w", "timestamp": "1", "type": "text",
            "text": {"body": "ä".repeat(chars)}});
        match super::message(&raw.to_string(), &HashMap::new())
            .unwrap()
            .content
        {
            Content::Text { text } => text.chars(),
            Content::Unsupported { .. } => 0,
        }
    };
    assert_eq!(message(Text::MAX_CHARS), Text::MAX_CHARS);
    assert_eq!(message(Text::MAX_CHARS + 1), Text::MAX_CHARS);
}

#[test]
fn only_the_signature_over_these_very_bytes_is_right() {
    let body = b"{\"object\":\"whatsapp_business_account\"}";
    let mut mac = Hmac::<Sha256>::new_from_slice(b"secret").unwrap();
    mac.update(body);
    let hex: String = mac
        .finalize()
        .into_bytes()
        .iter()
        .map(|b| format!("{b:02x}"))
        .collect();
    let right = format!("sha256={hex}");
    assert!(signed(&account(), Some(&right), body));
    assert!(signed(
        &account(),
        Some(&right.to_uppercase().replace("SHA", "sha")),
        body
    ));
    assert!(!signed(&account(), Some(&right), &body[1..]));
    assert!(!signed(&account(), None, body));
    for wrong in [
        "",
        "sha256=",
        &hex,
        &right[..70],
        &right.replace("sha256", "sha1"),
        &format!("{right}0"),
    ] {
        assert!(!signed(&account(), Some(wrong), body), "{wrong}");
    }
}

proptest! {
    /// Whatever comes: it is read or put aside, and never lost.
    #[test]
    fn no_body_is_lost(body in ".{0,200}", cut in 0_usize..3_000, items in prop::collection::vec(".{0,20}", 0..4)) {
        prop_assert!(!read_webhook(&account(), body.as_bytes()).is_empty());
        let fixture = include_str!("testdata/messages.json").as_bytes();
        prop_assert!(!read_webhook(&account(), &fixture[..cut.min(fixture.len())]).is_empty());
        let list: Vec<_> = items.iter().map(|text| serde_json::json!({"id": text, "type": text})).collect();
        let body = serde_json::json!({"object": "whatsapp_business_account", "entry": [{"changes": [{"field": "messages",
            "value": {"metadata": {"phone_number_id": "106540352242922"}, "messages": list, "statuses": list}}]}]});
        prop_assert_eq!(read_webhook(&account(), body.to_string().as_bytes()).len(), 2 * items.len());
    }
}

/// Whatever part of a call was put aside, it is read as the whole call would have been.
#[test]
fn every_part_of_a_call_is_read_again_as_it_was_in_it() {
    for file in [
        include_str!("testdata/messages.json"),
        include_str!("testdata/statuses.json"),
    ] {
        let whole: Vec<_> = read_webhook(&account(), file.as_bytes());
        let call: serde_json::Value = serde_json::from_str(file).unwrap();
        let summaries = |items: &[Item]| -> Vec<_> { items.iter().map(summary).collect() };
        assert_eq!(summaries(&read_again(&account(), file)), summaries(&whole));
        let entries = call["entry"].as_array().unwrap();
        let read = |part: &serde_json::Value| read_again(&account(), &part.to_string());
        let by_entry: Vec<_> = entries.iter().flat_map(read).collect();
        assert_eq!(summaries(&by_entry), summaries(&whole));
        let changes = entries
            .iter()
            .flat_map(|entry| entry["changes"].as_array().unwrap());
        let by_change: Vec<_> = changes.flat_map(read).collect();
        assert_eq!(summaries(&by_change), summaries(&whole));
        for item in whole {
            // Alone it does not bring its sender's name along.
            let alone = read_again(&account(), &item.raw);
            let nameless = |item: &Item| match summary(item) {
                Ok(text) => Ok(text
                    .split_once(" (")
                    .map_or(text.clone(), |(before, rest)| {
                        let (_, after) = rest.split_once(')').unwrap_or_default();
                        format!("{before}{after}")
                    })),
                Err(why) => Err(why),
            };
            assert_eq!(alone.len(), 1);
            assert_eq!(alone[0].raw, item.raw);
            match summary(&item) {
                Ok(_) => assert_eq!(nameless(&alone[0]), nameless(&item)),
                Err(_) => assert!(alone[0].what.is_err()),
            }
        }
    }
    for odd in ["", "[]", "7", "not JSON", "{}", "{\"code\": 1}"] {
        let items = read_again(&account(), odd);
        assert!(items.len() == 1 && items[0].what.is_err(), "{odd}");
        assert_eq!(items[0].raw, odd);
    }
}

use proptest::prelude::*;

use super::*;
use crate::delivery::{SentPersonal, Words};
use crate::message::Content;
use crate::spec::{assert_same_in_json, debug};

#[test]
fn text_is_counted_in_unicode_scalar_values() {
    // One emoji of five scalar values and 18 bytes.
    let family = "👨‍👩‍👧";
    assert_eq!(family.chars().count(), 5);
    assert_eq!(parse(family, 5).unwrap().chars(), 5);
    let refused = ParseTextError::TooLong { chars: 5, max: 4 };
    assert_eq!(parse(family, 4), Err(refused));
}

#[test]
fn blank_text_is_refused() {
    let spaces = "\u{9}\u{a}\u{b}\u{c}\u{d}\u{20}\u{85}\u{a0}\u{1680}\u{2003}\u{2028}\u{2029}\u{202f}\u{205f}\u{3000}";
    for blank in ["", " ", "\r\n", spaces] {
        assert_eq!(parse(blank, 100), Err(ParseTextError::Blank), "{blank:?}");
    }
    for visible in ["x", " x ", "\u{1}", "\u{200b}"] {
        assert!(parse(visible, 100).is_ok(), "{visible:?}");
    }
}

#[test]
fn nul_is_refused_wherever_it_stands() {
    for text in ["\0", "\0x", "x\0", " \0 "] {
        assert_eq!(parse(text, 100), Err(ParseTextError::Nul), "{text:?}");
    }
}

#[test]
fn reading_json_holds_the_same_rules() {
    assert!(serde_json::from_str::<Text>(r#""  ""#).is_err());
    assert!(serde_json::from_str::<Text>(r#""\u0000""#).is_err());
    let longest = "x".repeat(Text::MAX_CHARS);
    assert!(serde_json::from_str::<Text>(&format!("\"{longest}\"")).is_ok());
    assert!(serde_json::from_str::<Text>(&format!("\"{longest}x\"")).is_err());
}

#[test]
fn refusals_say_what_would_be_right() {
    let shown = [
        ParseTextError::Blank,
        ParseTextError::Nul,
        ParseTextError::TooLong { chars: 5, max: 4 },
    ]
    .map(|refused| refused.to_string());
    assert_eq!(
        shown,
        [
            "the text is blank; write at least one character that is not white space",
            "the text contains U+0000; leave it out",
            "the text has 5 characters; at most 4 are possible",
        ]
    );
}

fn parse(text: &str, max: usize) -> Result<Text, ParseTextError> {
    Text::parse(text.to_owned(), max)
}

proptest! {
    #[test]
    fn text_stays_as_it_was_written(written: String) {
        if let Ok(text) = parse(&written, Text::MAX_CHARS) {
            prop_assert_eq!(text.reveal(), written.as_str());
            assert_same_in_json(&text);
        } else {
            prop_assert!(written.trim().is_empty() || written.contains('\0'));
        }
    }

    #[test]
    fn debug_shows_no_content(written in "[a-z]{8,40}") {
        prop_assume!(!"SentPersonal(1 parts, ***)Content::text(***)".contains(&written));
        let text = parse(&written, Text::MAX_CHARS).unwrap();
        let shown = debug(&text)
            + &debug(&Content::Text { text })
            + &debug(&Content::Unsupported { what: written.clone() })
            + &debug(&Words(written.clone()))
            + &debug(&SentPersonal { parts: vec![written.clone()] });
        prop_assert!(!shown.contains(&written), "{}", shown);
    }
}

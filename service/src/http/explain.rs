//! Says what a deserialiser found wrong, without repeating what it was given.
//!
//! The library's sentences hold the offending value ("invalid type: string "…", expected u64"). A value may be a
//! message's text, so the sentence is taken apart, and only its kind and what was expected are said.

use serde_path_to_error::{Path, Segment};

use crate::problem::{Code, FieldError, Problem};

/// Longer names of unknown fields are cut.
const NAME_LENGTH: usize = 64;

/// One refusal in safe words.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Explained {
    /// The field that is missing, unknown or doubled, if it is about one.
    pub field: Option<String>,
    pub detail: String,
}

/// The problem behind a JSON error at `path`.
pub(super) fn json_problem(path: &Path, error: &serde_json::Error) -> Problem {
    let (line, column) = (error.line(), error.column());
    if !error.is_data() {
        let detail =
            format!("The body is not JSON: it stops making sense at line {line}, column {column}.");
        return Problem::new(Code::Malformed, detail);
    }
    let FieldError { pointer, detail } = field_error(path, error);
    Problem::field(pointer, detail)
}

/// What is wrong with the field at `path`.
pub(super) fn field_error(path: &Path, error: &serde_json::Error) -> FieldError {
    let said = error.to_string();
    let explained = explain(
        said.rsplit_once(" at line ")
            .map_or(&*said, |(message, _)| message),
    );
    let mut pointer = pointer(path);
    if let Some(field) = explained.field {
        let last = format!("/{}", escape(&field));
        // An unknown field is sometimes part of the path already.
        if !pointer.ends_with(&last) {
            pointer.push_str(&last);
        }
    }
    FieldError {
        pointer,
        detail: explained.detail,
    }
}

fn pointer(path: &Path) -> String {
    path.iter()
        .filter_map(|segment| match segment {
            Segment::Seq { index } => Some(format!("/{index}")),
            Segment::Map { key } => Some(format!("/{}", escape(&short(key)))),
            // Variants are not a step of the document.
            Segment::Enum { .. } | Segment::Unknown => None,
        })
        .collect()
}

/// As RFC 6901 wants it.
fn escape(name: &str) -> String {
    name.replace('~', "~0").replace('/', "~1")
}

fn short(name: &str) -> String {
    name.chars().take(NAME_LENGTH).collect()
}

/// Takes one of the library's sentences apart.
pub(super) fn explain(message: &str) -> Explained {
    let about = |field: &str, detail: String| Explained {
        field: Some(short(field)),
        detail,
    };
    if let Some(field) = quoted(message, "missing field `") {
        return about(field, "is missing".to_owned());
    }
    if let Some(field) = quoted(message, "duplicate field `") {
        return about(field, "is there twice".to_owned());
    }
    if let Some(rest) = message.strip_prefix("unknown field `") {
        return match rest.rsplit_once("`, expected ").or_else(|| one_of(rest)) {
            Some((field, expected)) => {
                about(field, format!("is not a field here; expected {expected}"))
            }
            None => about(
                rest.split('`').next().unwrap_or_default(),
                "is not a field here".to_owned(),
            ),
        };
    }
    let detail = match message.rsplit_once(", expected ") {
        Some((found, expected)) => {
            let expected = plain_words(expected);
            match kind_of(found) {
                Some(kind) => format!("found {kind}, expected {expected}"),
                None => format!("expected {expected}"),
            }
        }
        None => own_words(message).to_owned(),
    };
    Explained {
        field: None,
        detail,
    }
}

/// Sentences of parsers behind `FromStr`. Our own types' do not repeat what they refuse, and stay as they are.
fn own_words(message: &str) -> &str {
    match message {
        _ if message.starts_with("UUID parsing failed") => "is not a UUID",
        "invalid digit found in string" | "cannot parse integer from empty string" => {
            "is not a whole number that fits here"
        }
        "number too large to fit in target type" => "is too large a number",
        "number too small to fit in target type" => "is too small a number",
        "provided string was not `true` or `false`" => "expected `true` or `false`",
        "invalid float literal" => "is not a number",
        other => other,
    }
}

fn quoted<'a>(message: &'a str, before: &str) -> Option<&'a str> {
    message.strip_prefix(before)?.strip_suffix('`')
}

fn one_of(rest: &str) -> Option<(&str, &str)> {
    rest.rsplit_once("`, there are no ")
        .map(|(field, _)| (field, "none"))
}

/// The kind of what was found, in JSON's words. `None` where the sentence says only the value.
fn kind_of(found: &str) -> Option<&'static str> {
    let (_, value) = found
        .split_once("invalid type: ")
        .or_else(|| found.split_once("invalid value: "))?;
    const KINDS: [(&str, &str); 9] = [
        ("boolean", "a boolean"),
        ("integer", "a whole number"),
        ("floating point", "a number"),
        ("string", "a string"),
        ("character", "a string"),
        ("null", "null"),
        ("unit value", "null"),
        ("map", "an object"),
        ("sequence", "an array"),
    ];
    KINDS
        .iter()
        .find(|(word, _)| value.starts_with(word))
        .map(|(_, kind)| *kind)
}

/// What was expected, without the names of our types.
fn plain_words(expected: &str) -> &str {
    let ours = [
        "struct ",
        "internally tagged enum ",
        "adjacently tagged enum ",
        "enum ",
        "a map",
    ];
    match expected {
        _ if ours.iter().any(|name| expected.starts_with(name)) => "an object",
        "a sequence" => "an array",
        "u8" => "a whole number from 0 to 255",
        "u16" => "a whole number from 0 to 65535",
        "u32" => "a whole number from 0 to 4294967295",
        "u64" | "usize" => "a whole number from 0 on",
        "i8" | "i16" | "i32" | "i64" | "isize" => "a whole number",
        "f32" | "f64" => "a number",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_never_repeated() {
        let secret = "my secret, expected nothing";
        for sentence in [
            format!("invalid type: string \"{secret}\", expected u64"),
            format!("invalid value: string \"{secret}\", expected a colour"),
            format!("unknown variant `{secret}`, expected `text` or `image`"),
        ] {
            let explained = explain(&sentence);
            assert!(!explained.detail.contains("secret"), "{}", explained.detail);
            assert!(
                explained.detail.contains("expected "),
                "{}",
                explained.detail
            );
        }
    }

    #[test]
    fn sentences_are_said_in_the_words_of_json() {
        let detail = |message: &str| explain(message).detail;
        assert_eq!(
            detail("invalid type: integer `5`, expected a string"),
            "found a whole number, expected a string"
        );
        assert_eq!(
            detail("invalid type: sequence, expected struct CreateConversation"),
            "found an array, expected an object"
        );
        assert_eq!(
            detail("unknown variant `x`, expected `a` or `b`"),
            "expected `a` or `b`"
        );
        assert_eq!(detail("a message id is a UUID"), "a message id is a UUID");
        let unknown = explain("unknown field `colour`, expected `text` or `type`");
        assert_eq!(unknown.field.as_deref(), Some("colour"));
        assert_eq!(
            unknown.detail,
            "is not a field here; expected `text` or `type`"
        );
        let none = explain("unknown field `colour`, there are no fields");
        assert_eq!(none.field.as_deref(), Some("colour"));
    }
}

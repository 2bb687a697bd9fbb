//! The header `Idempotency-Key`: the same key for the same thing, for as long as the log exists.

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderName};
use chat4all_service::problem::Problem;

/// The header's name.
pub const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The longest key, in characters.
const MAX_LENGTH: usize = 255;

/// The key, if there is one: 1 to 255 printable ASCII characters.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Key(pub Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Key {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, Problem> {
        read(&parts.headers).map(Self)
    }
}

fn read(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let wrong = |detail: &str| Problem::field("/Idempotency-Key", format!("header: {detail}"));
    let mut values = headers.get_all(IDEMPOTENCY_KEY).iter();
    let Some(value) = values.next() else {
        return Ok(None);
    };
    if values.next().is_some() {
        return Err(wrong("is there twice; send one"));
    }
    let printable = |text: &&str| text.bytes().all(|b| (b' '..=b'~').contains(&b));
    match value.to_str().ok().filter(printable) {
        Some(key) if (1..=MAX_LENGTH).contains(&key.len()) => Ok(Some(key.to_owned())),
        Some(_) | None => Err(wrong("expected 1 to 255 printable ASCII characters")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::http::HeaderValue;

    fn with(values: &[&[u8]]) -> Result<Option<String>, Problem> {
        let mut headers = HeaderMap::new();
        for value in values {
            headers.append(IDEMPOTENCY_KEY, HeaderValue::from_bytes(value).unwrap());
        }
        read(&headers)
    }

    #[test]
    fn a_key_is_taken_as_it_is() {
        assert_eq!(with(&[]), Ok(None));
        assert_eq!(
            with(&[b"order 4711/\"a\""]),
            Ok(Some("order 4711/\"a\"".to_owned()))
        );
        assert_eq!(
            with(&[&[b'~'; 255]]).map(|key| key.map(|key| key.len())),
            Ok(Some(255))
        );
    }

    #[test]
    fn what_is_no_key_is_refused() {
        for values in [
            &[b"".as_slice()][..],
            &[&[b'a'; 256]],
            &["schl\u{fc}ssel".as_bytes()],
            &[b"a\tb"],
        ] {
            let problem = with(values).unwrap_err();
            assert_eq!(problem.errors()[0].pointer, "/Idempotency-Key");
            assert_eq!(
                problem.errors()[0].detail,
                "header: expected 1 to 255 printable ASCII characters"
            );
        }
        assert_eq!(
            with(&[b"a", b"a"]).unwrap_err().errors()[0].detail,
            "header: is there twice; send one"
        );
    }
}

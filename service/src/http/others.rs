//! What else is wrong with a body that could not be read: reading stops at the first mistake, and a client wants to hear of all.
//!
//! What was named is taken out and the rest read again, for as long as something is left. Limits: of a list only the first
//! entry that is none, and of the fields that an object lacks only the first.

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::exact::Exact;
use super::explain::field_error;
use crate::problem::{FieldError, Problem};

/// No more are looked for: each costs another reading of the body.
const MOST: usize = 16;

/// `first`, and everything else that keeps `bytes` from being a `T`.
pub(super) fn with_others<T: DeserializeOwned>(bytes: &[u8], first: Problem) -> Problem {
    let named = first.errors().first().map(|error| error.pointer.clone());
    let (Some(mut at), Ok(mut body)) = (named, serde_json::from_slice::<Value>(bytes)) else {
        return first;
    };
    let (mut all, mut taken_out) = (first, Vec::new());
    while taken_out.len() < MOST
        && let Some(taken) = take_out(&mut body, &at)
    {
        taken_out.push(taken);
        let Err(error) = serde_path_to_error::deserialize::<_, T>(Exact(body.clone())) else {
            break;
        };
        let FieldError { pointer, detail } = field_error(error.path(), error.inner());
        at.clone_from(&pointer);
        // What was taken out is missing now, and that is no mistake of the client's.
        if !taken_out.contains(&pointer) {
            all = all.and_field(pointer, detail);
        }
    }
    all
}

/// Takes out what stands at `pointer`, or else what it would stand in. An entry of a list goes with its list, or the others
/// would get other numbers. Says where that was; `None` when it is the whole body.
fn take_out(body: &mut Value, pointer: &str) -> Option<String> {
    let (within, name) = pointer.rsplit_once('/')?;
    let name = name.replace("~1", "/").replace("~0", "~");
    let fields = body.pointer_mut(within).and_then(Value::as_object_mut);
    match fields.and_then(|fields| fields.remove(&name)) {
        Some(_) => Some(pointer.to_owned()),
        None => take_out(body, within),
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;

    use super::*;

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "what matters is whether it can be read")]
    struct Outer {
        number: u8,
        inner: Inner,
        many: Option<Vec<Inner>>,
    }

    #[derive(Deserialize)]
    #[serde(deny_unknown_fields)]
    #[expect(dead_code, reason = "what matters is whether it can be read")]
    struct Inner {
        text: String,
        size: u8,
    }

    /// Where something is wrong, in the order of the alphabet.
    fn wrong(body: &str) -> Vec<String> {
        let value = serde_json::from_str(body).unwrap();
        let Err(error) = serde_path_to_error::deserialize::<_, Outer>(Exact(value)) else {
            panic!("nothing is wrong with {body}");
        };
        let FieldError { pointer, detail } = field_error(error.path(), error.inner());
        let problem = with_others::<Outer>(body.as_bytes(), Problem::field(pointer, detail));
        let errors = problem.errors().iter();
        let mut all: Vec<_> = errors.map(|error| error.pointer.clone()).collect();
        all.sort();
        all
    }

    #[test]
    fn mistakes_in_different_fields_are_all_named_once() {
        for (body, expected) in [
            (r#"{"number":1}"#, vec!["/inner"]),
            (r#"{"number":"1","inner":7}"#, vec!["/inner", "/number"]),
            (
                r#"{"number":1,"inner":{"text":2,"size":"3","colour":4},"more":5}"#,
                vec!["/inner/colour", "/inner/size", "/inner/text", "/more"],
            ),
            // What was taken out is not said to be missing.
            (
                r#"{"number":300,"inner":{"text":2,"size":1}}"#,
                vec!["/inner/text", "/number"],
            ),
            // An entry goes with its list.
            (
                r#"{"number":1,"inner":{"text":"a","size":1},"many":[7,{"text":8}],"a~b/c":1}"#,
                vec!["/a~0b~1c", "/many/0"],
            ),
            ("[1]", vec![""]),
        ] {
            assert_eq!(wrong(body), expected, "{body}");
        }
    }

    #[test]
    fn looking_for_more_has_an_end() {
        let many = (0..100).map(|n| format!(r#""f{n}":0"#));
        let body = format!("{{{}}}", many.collect::<Vec<_>>().join(","));
        assert_eq!(wrong(&body).len(), MOST + 1);
    }
}

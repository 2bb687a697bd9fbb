//! Problems as GraphQL errors: the sentence is the message, everything else stands in `extensions`, under the same names
//! as in REST's problem details.

use async_graphql::{Error, ErrorExtensions, ServerError, Value};
use chat4all_service::Problem;
use chat4all_service::problem::Code;

use crate::problem::LEFT_OUT;

/// `problem` as an error of a field.
pub fn error(problem: &Problem) -> Error {
    let said: Vec<String> = problem
        .errors()
        .iter()
        .map(|error| {
            format!(
                "`{}` {}",
                error.pointer.trim_start_matches('/'),
                error.detail
            )
        })
        .collect();
    let message = if said.is_empty() {
        problem.detail().to_owned()
    } else {
        said.join("; ")
    };
    Error::new(message).extend_with(|_, extensions| {
        let serde_json::Value::Object(members) = problem.to_json() else {
            return;
        };
        for (member, value) in members {
            // The message is the detail, and the title only repeats the code.
            if !matches!(member.as_str(), "type" | "title" | "detail") {
                extensions.set(member, Value::from_json(value).unwrap_or_default());
            }
        }
    })
}

/// `problem` as an error of an operation as a whole.
pub fn refusal(problem: &Problem) -> ServerError {
    let mut error = error(problem).into_server_error(async_graphql::Pos::default());
    error.locations.clear();
    error
}

/// The code of an error, `None` for one that the library made.
pub fn code(error: &ServerError) -> Option<Code> {
    let Some(Value::String(name)) = error.extensions.as_ref()?.get("code") else {
        return None;
    };
    Code::ALL.iter().copied().find(|code| code.as_str() == name)
}

/// Whether the answer is all the same what was asked for, save what this error says is left out.
pub fn leaves_an_answer(error: &ServerError) -> bool {
    let extensions = error.extensions.as_ref();
    extensions.is_some_and(|extensions| extensions.get(LEFT_OUT).is_some())
}

/// Gives an error that the library made (it speaks of the query alone) its place in the vocabulary: `malformed` when the
/// query cannot be read, `validation` when it does not fit the schema.
pub fn name(error: &mut ServerError) {
    if code(error).is_some() {
        return;
    }
    // The library tells a query that is not GraphQL from one that does not fit by this alone.
    let code = if error.message.trim_start().starts_with("-->") {
        error.message =
            "The query is not GraphQL; see `locations` for where it stops making sense.".to_owned();
        Code::Malformed
    } else {
        Code::Validation
    };
    let named = self::error(&Problem::new(code, ""));
    error.extensions = named.extensions;
}

//! The frames of graphql-transport-ws.
//!
//! Source: github.com/enisdenjo/graphql-ws, PROTOCOL.md.

use async_graphql::{Request, Response, ServerError};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// The name of the subprotocol.
pub const NAME: &str = "graphql-transport-ws";

/// What clients send.
#[derive(Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Said {
    ConnectionInit {
        #[serde(default)]
        payload: Option<Map<String, Value>>,
    },
    Ping {
        #[serde(default)]
        payload: Option<Value>,
    },
    Pong {
        #[serde(default, rename = "payload")]
        _payload: Option<Value>,
    },
    Subscribe {
        id: String,
        payload: Box<Request>,
    },
    Complete {
        id: String,
    },
}

/// What they are told.
#[derive(Serialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Told<'a> {
    ConnectionAck,
    Pong {
        #[serde(skip_serializing_if = "Option::is_none")]
        payload: Option<Value>,
    },
    Next {
        id: &'a str,
        payload: &'a Response,
    },
    Error {
        id: &'a str,
        payload: &'a [ServerError],
    },
    Complete {
        id: &'a str,
    },
}

impl Told<'_> {
    /// As it is sent.
    pub fn text(&self) -> String {
        serde_json::to_string(self).expect("GraphQL values are JSON")
    }
}

/// The token in what a client introduces itself with: `{"Authorization":"Bearer …"}` or `{"token":"…"}`.
pub fn token(payload: &Map<String, Value>) -> Option<&str> {
    let named = |wanted: &str| {
        let mut members = payload.iter();
        members
            .find_map(|(name, value)| name.eq_ignore_ascii_case(wanted).then_some(value.as_str()?))
    };
    if let Some(token) = named("token") {
        return Some(token.trim());
    }
    let (scheme, token) = named("authorization")?.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then_some(token.trim())
}

//! Scalars: moments and positions, in the same text as everywhere.

use async_graphql::{InputValueError, InputValueResult, Scalar, ScalarType, Value};
use chat4all_domain::{Position, Timestamp};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// A moment in UTC, RFC 3339 with milliseconds: `2026-11-22T04:26:28.123Z`.
#[derive(Clone, Copy)]
pub struct Moment(pub Timestamp);

#[Scalar(name = "DateTime")]
impl ScalarType for Moment {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else {
            return Err(InputValueError::expected_type(value));
        };
        let moment = OffsetDateTime::parse(text, &Rfc3339)
            .map_err(|_| InputValueError::custom("a moment looks like 2026-11-22T04:26:28.123Z"))?;
        Ok(Self(moment.into()))
    }
    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

/// A place in the log, as commands answer it. Opaque: compare it with nothing, hand it back as `atLeast`.
#[derive(Clone, Copy)]
pub struct Place(pub Position);

#[Scalar(name = "Position")]
impl ScalarType for Place {
    fn parse(value: Value) -> InputValueResult<Self> {
        let Value::String(text) = &value else {
            return Err(InputValueError::expected_type(value));
        };
        text.parse::<Position>()
            .map(Self)
            .map_err(InputValueError::custom)
    }
    fn to_value(&self) -> Value {
        Value::String(self.0.to_string())
    }
}

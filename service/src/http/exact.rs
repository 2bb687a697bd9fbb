//! JSON whose objects are objects: `Deserialize` as it is derived also takes a list for a struct, its fields in their
//! order. Lists and maps of anything (`Vec`, `serde_json::Value`) are read as usual, so that only the type decides.
//!
//! Limit: what a type keeps before it decides (internally tagged and untagged enums) is read by `serde` itself from there
//! on, and not looked at here. Bodies of ours have none.

use serde::Deserializer;
use serde::de::value::{MapDeserializer, SeqDeserializer};
use serde::de::{Error as _, IntoDeserializer, Unexpected, Visitor};
use serde::forward_to_deserialize_any;
use serde_json::{Error, Value};

/// A value that gives a struct only as an object.
pub(super) struct Exact(pub Value);

impl<'de> Deserializer<'de> for Exact {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(list) => {
                let mut list = SeqDeserializer::new(list.into_iter().map(Exact));
                let read = visitor.visit_seq(&mut list)?;
                list.end()?;
                Ok(read)
            }
            Value::Object(fields) => {
                let fields = fields.into_iter().map(|(name, value)| (name, Exact(value)));
                let mut fields = MapDeserializer::new(fields);
                let read = visitor.visit_map(&mut fields)?;
                fields.end()?;
                Ok(read)
            }
            plain => plain.deserialize_any(visitor),
        }
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        _fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        match self.0 {
            Value::Array(_) => Err(Error::invalid_type(Unexpected::Seq, &visitor)),
            _ => self.deserialize_any(visitor),
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.0 {
            Value::Null => visitor.visit_none(),
            _ => visitor.visit_some(self),
        }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _name: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        self.0.deserialize_enum(name, variants, visitor)
    }

    fn deserialize_ignored_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        visitor.visit_unit()
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf
        unit unit_struct seq tuple tuple_struct map identifier
    }
}

impl<'de> IntoDeserializer<'de, Error> for Exact {
    type Deserializer = Self;
    fn into_deserializer(self) -> Self {
        self
    }
}

#[cfg(test)]
mod tests {
    use serde::Deserialize;
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct Outer {
        number: u8,
        inner: Option<Inner>,
        many: Vec<Inner>,
        anything: Option<Value>,
        pair: Option<(u8, String)>,
        colour: Option<Colour>,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    struct Inner {
        text: String,
    }

    #[derive(Debug, PartialEq, Deserialize)]
    #[serde(rename_all = "lowercase")]
    enum Colour {
        Red,
    }

    fn read(value: Value) -> Result<Outer, String> {
        serde_path_to_error::deserialize(Exact(value)).map_err(|error| error.to_string())
    }

    #[test]
    fn what_the_library_reads_from_objects_is_read_alike() {
        let value = json!({
            "number": 7, "inner": {"text": "a"}, "many": [{"text": "b"}, {"text": "c"}],
            "anything": [[1], {"x": [null]}], "pair": [1, "x"], "colour": "red", "more": [1],
        });
        let plain: Outer = serde_json::from_value(value.clone()).unwrap();
        assert_eq!(read(value), Ok(plain));
    }

    #[test]
    fn a_list_is_no_object_at_any_depth() {
        for (value, place) in [
            (
                json!([7, null, []]),
                "invalid type: sequence, expected struct Outer",
            ),
            (
                json!({"number": 7, "inner": ["a"], "many": []}),
                "inner: invalid type: sequence",
            ),
            (
                json!({"number": 7, "many": [{"text": "a"}, ["b"]]}),
                "many[1]: invalid type: sequence",
            ),
            (
                json!({"number": 7, "many": [[]]}),
                "many[0]: invalid type: sequence",
            ),
        ] {
            let library: Result<Outer, _> = serde_json::from_value(value.clone());
            let said = read(value).unwrap_err();
            assert!(said.contains(place), "{said}; the library: {library:?}");
        }
    }
}

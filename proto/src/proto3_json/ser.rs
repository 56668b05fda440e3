//! Serializer of plain Rust types to protobuf's JSON, which [`de`](super::de) deserializes.
//!
//! A field of a message is left out if it has its default. Optional fields that are set are always written, and so are
//! the items of lists and maps: an empty string or a zero has a meaning there.

use serde::ser::{
    Error as _, Impossible, Serialize, SerializeMap, SerializeSeq, SerializeStruct, SerializeTuple,
    Serializer,
};
use serde_json::{Error, Map, Value};

/// A value, and its presence in a message.
struct Written {
    value: Value,
    presence: Presence,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Presence {
    Default,
    Set,
}

struct Writer;

struct Elements(Vec<Value>);

/// Entries of a map, or fields of a message.
#[derive(Default)]
struct Fields {
    fields: Map<String, Value>,
    key: Option<String>,
}

/// Serializes a message to JSON. Fails for values that JSON cannot represent, such as maps with non-string keys.
pub fn message<T: Serialize>(message: &T) -> Result<Value, Error> {
    message.serialize(Writer).map(|written| written.value)
}

// === impl Written, Presence, Writer ===

impl Written {
    fn new(value: impl Into<Value>, is: Presence) -> Self {
        Self { value: value.into(), presence: is }
    }
}

impl From<bool> for Presence {
    fn from(is_default: bool) -> Self {
        if is_default { Self::Default } else { Self::Set }
    }
}

macro_rules! numbers {
    ($($method:ident $type:ty;)*) => {$(
        fn $method(self, number: $type) -> Result<Written, Error> {
            Ok(Written::new(number, (number == <$type>::default()).into()))
        }
    )*};
}

impl Serializer for Writer {
    type Ok = Written;
    type Error = Error;
    type SerializeSeq = Elements;
    type SerializeTuple = Elements;
    type SerializeTupleStruct = Impossible<Written, Error>;
    type SerializeTupleVariant = Impossible<Written, Error>;
    type SerializeMap = Fields;
    type SerializeStruct = Fields;
    type SerializeStructVariant = Impossible<Written, Error>;

    numbers! {
        serialize_bool bool;
        serialize_i8 i8;
        serialize_i16 i16;
        serialize_i32 i32;
        serialize_i64 i64;
        serialize_u8 u8;
        serialize_u16 u16;
        serialize_u32 u32;
        serialize_u64 u64;
    }

    fn serialize_f32(self, number: f32) -> Result<Written, Error> {
        self.serialize_f64(number.into())
    }

    fn serialize_f64(self, number: f64) -> Result<Written, Error> {
        Ok(Written::new(number, (number == 0.0).into()))
    }

    fn serialize_char(self, character: char) -> Result<Written, Error> {
        self.serialize_str(character.encode_utf8(&mut [0; 4]))
    }

    fn serialize_str(self, text: &str) -> Result<Written, Error> {
        Ok(Written::new(text, text.is_empty().into()))
    }

    fn serialize_bytes(self, _: &[u8]) -> Result<Written, Error> {
        Err(Error::custom("bytes are written as a text in base64"))
    }

    fn serialize_none(self) -> Result<Written, Error> {
        Ok(Written::new(Value::Null, Presence::Default))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<Written, Error> {
        Ok(Written { presence: Presence::Set, ..value.serialize(self)? })
    }

    fn serialize_unit(self) -> Result<Written, Error> {
        self.serialize_none()
    }

    fn serialize_unit_struct(self, _: &'static str) -> Result<Written, Error> {
        self.serialize_none()
    }

    /// The first variant of an enum is the default; `""` is an unset `oneof`.
    fn serialize_unit_variant(
        self,
        _: &'static str,
        index: u32,
        name: &'static str,
    ) -> Result<Written, Error> {
        let value = if name.is_empty() { Value::Object(Map::new()) } else { name.into() };
        Ok(Written { value, presence: (index == 0).into() })
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<Written, Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        name: &'static str,
        value: &T,
    ) -> Result<Written, Error> {
        let fields = Map::from_iter([(name.to_owned(), value.serialize(self)?.value)]);
        Ok(Written::new(fields, Presence::Set))
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Elements, Error> {
        Ok(Elements(Vec::new()))
    }

    fn serialize_tuple(self, _: usize) -> Result<Elements, Error> {
        Ok(Elements(Vec::new()))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleStruct, Error> {
        Err(Error::custom(format!("{name} is no message")))
    }

    fn serialize_tuple_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeTupleVariant, Error> {
        Err(Error::custom(format!("{name} is no message")))
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Fields, Error> {
        Ok(Fields::default())
    }

    fn serialize_struct(self, _: &'static str, _: usize) -> Result<Fields, Error> {
        Ok(Fields::default())
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        _: u32,
        _: &'static str,
        _: usize,
    ) -> Result<Self::SerializeStructVariant, Error> {
        Err(Error::custom(format!("{name} is no message")))
    }
}

// === impl Elements, Fields ===

impl SerializeSeq for Elements {
    type Ok = Written;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        self.0.push(value.serialize(Writer)?.value);
        Ok(())
    }

    fn end(self) -> Result<Written, Error> {
        let presence = self.0.is_empty().into();
        Ok(Written { value: self.0.into(), presence })
    }
}

impl SerializeTuple for Elements {
    type Ok = Written;
    type Error = Error;

    fn serialize_element<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        SerializeSeq::serialize_element(self, value)
    }

    fn end(self) -> Result<Written, Error> {
        SerializeSeq::end(self)
    }
}

impl SerializeMap for Fields {
    type Ok = Written;
    type Error = Error;

    fn serialize_key<T: Serialize + ?Sized>(&mut self, key: &T) -> Result<(), Error> {
        match key.serialize(Writer)?.value {
            Value::String(key) => self.key = Some(key),
            other => return Err(Error::custom(format!("{other} is no key"))),
        }
        Ok(())
    }

    fn serialize_value<T: Serialize + ?Sized>(&mut self, value: &T) -> Result<(), Error> {
        let key = self.key.take().ok_or_else(|| Error::custom("a value without its key"))?;
        self.fields.insert(key, value.serialize(Writer)?.value);
        Ok(())
    }

    fn end(self) -> Result<Written, Error> {
        let presence = self.fields.is_empty().into();
        Ok(Written { value: self.fields.into(), presence })
    }
}

impl SerializeStruct for Fields {
    type Ok = Written;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(&mut self, name: &'static str, value: &T) -> Result<(), Error> {
        let written = value.serialize(Writer)?;
        if written.presence == Presence::Set {
            self.fields.insert(name.to_owned(), written.value);
        }
        Ok(())
    }

    fn end(self) -> Result<Written, Error> {
        SerializeMap::end(self)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Serialize};
    use serde_json::json;

    use super::*;
    use crate::proto3_json::de;

    #[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
    #[serde(rename_all = "camelCase", default)]
    struct Train {
        name: String,
        max_speed: Option<u32>,
        delay: i32,
        kind: Kind,
        kinds: Vec<Kind>,
        doors: BTreeMap<String, Door>,
        labels: BTreeMap<String, String>,
        next: Option<Box<Train>>,
        crew: Crew,
        cargo: Option<Value>,
    }

    #[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
    #[serde(default)]
    struct Crew {
        size: u32,
    }

    #[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
    #[serde(rename_all = "SCREAMING_SNAKE_CASE")]
    enum Kind {
        #[default]
        Local,
        NightTrain,
    }

    #[derive(Debug, Default, PartialEq, Deserialize, Serialize)]
    #[serde(rename_all = "camelCase")]
    enum Door {
        #[default]
        #[serde(rename = "")]
        Unset,
        Width(u32),
    }

    #[test]
    fn what_was_written_is_read_and_written_again() {
        for value in [
            json!({}),
            json!({"name": "n", "maxSpeed": 0, "delay": -1, "kind": "NIGHT_TRAIN", "kinds": ["LOCAL"]}),
            json!({"doors": {"a": {}, "b": {"width": 0}}, "labels": {"x": ""}, "next": {}, "crew": {"size": 1}}),
            json!({"cargo": {"a": null, "b": [0, "", false, {}], "c": {}}}),
        ] {
            let train: Train = de::message("train", &value).unwrap().value;
            assert_eq!(message(&train).unwrap(), value);
        }
        let spelt_out =
            json!({"name": "", "delay": 0, "kind": "LOCAL", "kinds": [], "labels": {}, "crew": {"size": 0}});
        let train: Train = de::message("train", &spelt_out).unwrap().value;
        assert_eq!(message(&train).unwrap(), json!({}));
    }

    #[test]
    fn what_is_no_message_is_an_error() {
        assert!(message(&BTreeMap::from([(1, 2)])).is_err());
    }
}

//! Deserializer of protobuf's JSON into plain Rust types.
//!
//! A type derives `Deserialize` with the JSON names (`exportTo`) and `default`. The other forms that protobuf allows are
//! handled here: proto names (`export_to`), null for absent, numbers as strings, `80.0` for 80, enums by number. The path of an
//! unknown field is recorded and the field is skipped; the caller decides about the consequences of invalid values.
//!
//! Two forms of enums are supported: without fields, declared in the order of the proto's numbers; and a `oneof`: all variants have
//! one value each, except the first, the unit variant with the name `""` for an unset `oneof`.
//! <https://protobuf.dev/programming-guides/json/>

use std::cell::RefCell;
use std::fmt::{self, Display};

use serde::de::value::StrDeserializer;
use serde::de::{
    self, DeserializeOwned, DeserializeSeed, Deserializer, EnumAccess, IntoDeserializer, MapAccess,
    SeqAccess, VariantAccess, Visitor,
};
use serde_json::{Map, Number, Value};

/// A deserialized message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Read<T> {
    /// The message.
    pub value: T,
    /// Paths of unknown fields: `spec.http[0].rout`.
    pub unknown: Vec<String>,
}

/// An invalid value of a field.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{field}{}{message}", if field.is_empty() { "" } else { ": " })]
pub struct InvalidField {
    /// Path of the field, `spec.http[0].route[1].weight`; empty: the message itself.
    pub field: String,
    /// Reason.
    pub message: String,
}

/// A value of a document and its path.
#[derive(Clone, Copy)]
struct Reader<'a> {
    value: &'a Value,
    path: &'a Path<'a>,
    unknown: &'a RefCell<Vec<String>>,
}

#[derive(Clone, Copy)]
enum Path<'a> {
    Root(&'a str),
    Field(&'a Path<'a>, &'a str),
    Element(&'a Path<'a>, usize),
}

/// Fields of a message or of a map: the declared name, the name in the document, the value.
struct Fields<'a, I> {
    left: I,
    value: Option<(&'a str, &'a Value)>,
    message: Reader<'a>,
}

struct Elements<'a> {
    left: std::iter::Enumerate<std::slice::Iter<'a, Value>>,
    list: Reader<'a>,
}

/// The field of a `oneof` that is set.
struct Choice<'a> {
    name: &'static str,
    written: &'a str,
    value: &'a Value,
    message: Reader<'a>,
}

/// Deserializes a message. `field`: the path of the value, `spec`. Null is a message without fields.
pub fn message<T: DeserializeOwned>(field: &str, value: &Value) -> Result<Read<T>, InvalidField> {
    let nothing = Value::Object(Map::new());
    let value = if value.is_null() { &nothing } else { value };
    let (path, unknown) = (Path::Root(field), RefCell::default());
    let reader = Reader { value, path: &path, unknown: &unknown };
    let value = T::deserialize(reader).map_err(|wrong| wrong.at(&path))?;
    Ok(Read { value, unknown: unknown.into_inner() })
}

// === impl Reader ===

impl<'a> Reader<'a> {
    fn child<'b>(self, value: &'b Value, path: &'b Path<'b>) -> Reader<'b>
    where
        'a: 'b,
    {
        Reader { value, path, unknown: self.unknown }
    }

    fn is_not(self, expected: &str) -> InvalidField {
        let found = match self.value {
            Value::Null => "nothing".to_owned(),
            Value::Array(_) => "a list".to_owned(),
            Value::Object(_) => "a mapping".to_owned(),
            Value::Bool(_) | Value::Number(_) | Value::String(_) => self.value.to_string(),
        };
        de::Error::custom(format!("is {found}, not {expected}"))
    }

    /// Returns the known fields of a message that are set. Unknown ones are recorded.
    fn fields(
        self,
        names: &'static [&'static str],
    ) -> Result<Vec<(&'static str, &'a str, &'a Value)>, InvalidField> {
        let Value::Object(fields) = self.value else { return Err(self.is_not("a mapping")) };
        let mut known: Vec<(&'static str, &'a str, &'a Value)> = Vec::with_capacity(fields.len());
        for (written, value) in fields {
            let Some(name) = names.iter().find(|name| !name.is_empty() && is_spelling(written, name)) else {
                self.unknown.borrow_mut().push(Path::Field(self.path, written).to_string());
                continue;
            };
            if value.is_null() {
                continue;
            }
            if let Some((_, other, _)) = known.iter().find(|(known, ..)| known == name) {
                let message = format!("is written twice, as {other} and as {written}");
                return Err(InvalidField { field: Path::Field(self.path, name).to_string(), message });
            }
            known.push((name, written, value));
        }
        Ok(known)
    }

    /// Parses a number or a string with a number.
    fn number(self) -> Option<Number> {
        match self.value {
            Value::Number(number) => Some(number.clone()),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    fn integer(self) -> Option<i128> {
        let number = self.number()?;
        number.as_i128().or_else(|| {
            let float = number.as_f64().filter(|float| float.fract() == 0.0)?;
            // Digits without a fraction are exact; a cast would need a justification.
            format!("{float:.0}").parse().ok()
        })
    }

    fn choice<'de, V: Visitor<'de>>(
        self,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, InvalidField> {
        match self.fields(names)?.as_slice() {
            [] => visitor.visit_enum("".into_deserializer()),
            [(name, written, value)] => visitor.visit_enum(Choice { name, written, value, message: self }),
            several => {
                let names: Vec<&str> = several.iter().map(|(_, written, _)| *written).collect();
                Err(de::Error::custom(format!("has {}, of which one is allowed", names.join(" and "))))
            }
        }
    }
}

macro_rules! integers {
    ($($method:ident $visit:ident $type:ident;)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InvalidField> {
            let number = self.integer().ok_or_else(|| self.is_not("a whole number"))?;
            match $type::try_from(number) {
                Ok(number) => visitor.$visit(number),
                Err(_) => {
                    let (least, most) = ($type::MIN, $type::MAX);
                    Err(de::Error::custom(format!("{number} is out of range: {least} to {most}")))
                }
            }
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'_> {
    type Error = InvalidField;

    integers! {
        deserialize_u16 visit_u16 u16;
        deserialize_u32 visit_u32 u32;
        deserialize_u64 visit_u64 u64;
        deserialize_i32 visit_i32 i32;
        deserialize_i64 visit_i64 i64;
    }

    fn deserialize_f64<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InvalidField> {
        let number = self.number().and_then(|number| number.as_f64()).filter(|number| number.is_finite());
        visitor.visit_f64(number.ok_or_else(|| self.is_not("a number"))?)
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InvalidField> {
        visitor.visit_bool(self.value.as_bool().ok_or_else(|| self.is_not("true or false"))?)
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InvalidField> {
        visitor.visit_str(self.value.as_str().ok_or_else(|| self.is_not("a text"))?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InvalidField> {
        self.deserialize_str(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InvalidField> {
        if self.value.is_null() { visitor.visit_none() } else { visitor.visit_some(self) }
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, InvalidField> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InvalidField> {
        let Value::Array(elements) = self.value else { return Err(self.is_not("a list")) };
        visitor.visit_seq(Elements { left: elements.iter().enumerate(), list: self })
    }

    /// Keys of maps are data and stay unchanged.
    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InvalidField> {
        let Value::Object(entries) = self.value else { return Err(self.is_not("a mapping")) };
        let entries = entries.iter().filter(|(_, value)| !value.is_null());
        let left = entries.map(|(key, value)| (key.as_str(), key.as_str(), value));
        visitor.visit_map(Fields { left, value: None, message: self })
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, InvalidField> {
        let left = self.fields(names)?.into_iter();
        visitor.visit_map(Fields { left, value: None, message: self })
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, InvalidField> {
        if names.contains(&"") {
            return self.choice(names, visitor);
        }
        let name = match self.value {
            Value::String(written) => names.iter().find(|name| *name == written),
            Value::Number(_) => {
                let number = self.integer().and_then(|number| usize::try_from(number).ok());
                number.and_then(|number| names.get(number))
            }
            _ => None,
        };
        match name {
            Some(name) => visitor.visit_enum((*name).into_deserializer()),
            None => Err(self.is_not(&format!("one of {}", names.join(", ")))),
        }
    }

    /// An untyped message, such as a patch: unchanged, including nulls.
    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, InvalidField> {
        self.value.clone().deserialize_any(visitor).map_err(de::Error::custom)
    }

    serde::forward_to_deserialize_any! {
        i8 i16 i128 u8 u128 f32 char bytes byte_buf unit unit_struct tuple tuple_struct identifier ignored_any
    }
}

/// Returns `true` if the name matches the field: its JSON name, or its proto name, `export_to` for `exportTo`.
fn is_spelling(written: &str, name: &str) -> bool {
    if written == name {
        return true;
    }
    let words: Vec<&str> = written.split('_').collect();
    let begins_small = |word: &&str| word.starts_with(|c: char| !c.is_ascii_uppercase());
    if !words.iter().all(begins_small) {
        return false;
    }
    // The comparison is by characters, with the first of each word but the first in upper case.
    let letters = words.iter().enumerate().flat_map(|(nth, word)| {
        word.chars()
            .enumerate()
            .map(move |(at, c)| if nth > 0 && at == 0 { c.to_ascii_uppercase() } else { c })
    });
    letters.eq(name.chars())
}

// === impl Fields, Elements, Choice ===

impl<'de, 'a, I> MapAccess<'de> for Fields<'a, I>
where
    I: Iterator<Item = (&'a str, &'a str, &'a Value)>,
{
    type Error = InvalidField;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, InvalidField> {
        let Some((name, written, value)) = self.left.next() else { return Ok(None) };
        self.value = Some((written, value));
        let name: StrDeserializer<'_, InvalidField> = name.into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<S: DeserializeSeed<'de>>(&mut self, seed: S) -> Result<S::Value, InvalidField> {
        let (written, value) = self
            .value
            .take()
            .ok_or_else(|| <InvalidField as de::Error>::custom("a value without its key"))?;
        let path = Path::Field(self.message.path, written);
        seed.deserialize(self.message.child(value, &path)).map_err(|wrong| wrong.at(&path))
    }
}

impl<'de> SeqAccess<'de> for Elements<'_> {
    type Error = InvalidField;

    fn next_element_seed<S: DeserializeSeed<'de>>(
        &mut self,
        seed: S,
    ) -> Result<Option<S::Value>, InvalidField> {
        let Some((index, value)) = self.left.next() else { return Ok(None) };
        let path = Path::Element(self.list.path, index);
        seed.deserialize(self.list.child(value, &path)).map(Some).map_err(|wrong| wrong.at(&path))
    }
}

impl<'de> EnumAccess<'de> for Choice<'_> {
    type Error = InvalidField;
    type Variant = Self;

    fn variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<(S::Value, Self), InvalidField> {
        let name: StrDeserializer<'_, InvalidField> = self.name.into_deserializer();
        Ok((seed.deserialize(name)?, self))
    }
}

impl<'de> VariantAccess<'de> for Choice<'_> {
    type Error = InvalidField;

    fn newtype_variant_seed<S: DeserializeSeed<'de>>(self, seed: S) -> Result<S::Value, InvalidField> {
        let path = Path::Field(self.message.path, self.written);
        seed.deserialize(self.message.child(self.value, &path)).map_err(|wrong| wrong.at(&path))
    }

    // Protobuf has no such variants, so no type uses them.

    fn unit_variant(self) -> Result<(), InvalidField> {
        Err(de::Error::custom("a choice without a value"))
    }

    fn tuple_variant<V: Visitor<'de>>(self, _: usize, _: V) -> Result<V::Value, InvalidField> {
        Err(de::Error::custom("a choice of several values"))
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        _: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, InvalidField> {
        Err(de::Error::custom("a choice without a name"))
    }
}

// === impl InvalidField, Path ===

impl InvalidField {
    /// Sets the path, unless an inner value has set it.
    fn at(mut self, path: &Path<'_>) -> Self {
        if self.field.is_empty() {
            self.field = path.to_string();
        }
        self
    }
}

impl de::Error for InvalidField {
    fn custom<T: Display>(message: T) -> Self {
        Self { field: String::new(), message: message.to_string() }
    }
}

impl Display for Path<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root(name) | Self::Field(Path::Root(""), name) => f.write_str(name),
            Self::Field(parent, name) => write!(f, "{parent}.{name}"),
            Self::Element(parent, index) => write!(f, "{parent}[{index}]"),
        }
    }
}

#[cfg(test)]
mod tests;

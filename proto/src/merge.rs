//! Merge of one message into others, as Istio merges a patch into generated configuration.
//!
//! Protobuf's merge with three exceptions: a duration or a wrapper (`google.protobuf.BoolValue`) is replaced,
//! as otherwise `0.5s` over `10s` were `10.5s` and `false` could not replace `true`; so is an `Any`, because its
//! type and bytes belong together; and lists are either appended or replaced.
//!
//! By the wire format, concatenated encoded messages are merged. So fields that must not be merged are cut out of the
//! target's bytes, and the overlay is appended: descriptors are used once per overlay, never per target.
//! <https://protobuf.dev/programming-guides/encoding/#last-one-wins>

use std::collections::BTreeMap;

use prost::encoding::{self, DecodeContext, WireType, decode_key, skip_field};
use prost::{DecodeError, Message, Name};
use prost_reflect::{DynamicMessage, Kind};

use crate::google::protobuf::Any;
use crate::proto3_json::{self, JsonError};

/// Merge mode of lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Lists {
    /// The overlay's items are appended.
    Append,
    /// The overlay's items replace the target's.
    Replace,
}

/// A message to be merged into others of its type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Overlay {
    message: String,
    bytes: Vec<u8>,
    cut: Cut,
}

/// Error of a merge.
#[derive(Debug, thiserror::Error)]
pub enum MergeError {
    /// The types differ.
    #[error("{overlay} cannot be merged into {target}")]
    Type {
        /// Full name of the overlay's type.
        overlay: String,
        /// Full name of the target's type.
        target: String,
    },
    /// The target, or the result, cannot be decoded.
    #[error("merge into {message}")]
    Decode {
        /// Full name of the message.
        message: String,
        /// Error of the decoder.
        source: DecodeError,
    },
}

/// The fields that are cut from a target before the merge, by number.
type Cut = BTreeMap<u32, Loss>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Loss {
    /// The field as a whole.
    Whole,
    /// Fields of the message inside the field.
    Inside(Cut),
}

// === impl Overlay ===

impl Overlay {
    /// Returns an overlay of `message`.
    pub fn of<M: Message + Name>(message: &M, lists: Lists) -> Result<Self, JsonError> {
        Self::of_encoded(&M::full_name(), message.encode_to_vec(), lists)
    }

    /// Returns an overlay of the message inside `any`.
    pub fn of_any(any: &Any, lists: Lists) -> Result<Self, JsonError> {
        Self::of_encoded(full_name(any), any.value.to_vec(), lists)
    }

    fn of_encoded(message: &str, bytes: Vec<u8>, lists: Lists) -> Result<Self, JsonError> {
        let cut = cut(&proto3_json::decode(message, &bytes)?, lists);
        Ok(Self { message: message.to_owned(), bytes, cut })
    }

    /// Merges this into the target.
    pub fn onto<M: Message + Name + Default>(&self, target: &M) -> Result<M, MergeError> {
        let merged = self.onto_encoded(&M::full_name(), &target.encode_to_vec())?;
        M::decode(merged.as_slice()).map_err(|source| self.malformed(source))
    }

    /// Merges this into the message inside the target.
    pub fn onto_any(&self, target: &Any) -> Result<Any, MergeError> {
        let merged = self.onto_encoded(full_name(target), &target.value)?;
        Ok(Any { type_url: target.type_url.clone(), value: merged.into() })
    }

    fn onto_encoded(&self, message: &str, target: &[u8]) -> Result<Vec<u8>, MergeError> {
        if message != self.message {
            return Err(MergeError::Type { overlay: self.message.clone(), target: message.to_owned() });
        }
        let mut merged = Vec::with_capacity(target.len() + self.bytes.len());
        keep(target, &self.cut, &mut merged).map_err(|source| self.malformed(source))?;
        merged.extend_from_slice(&self.bytes);
        Ok(merged)
    }

    fn malformed(&self, source: DecodeError) -> MergeError {
        MergeError::Decode { message: self.message.clone(), source }
    }
}

/// Returns the full name of the message inside `any`.
fn full_name(any: &Any) -> &str {
    any.type_url.rsplit('/').next().unwrap_or_default()
}

fn cut(message: &DynamicMessage, lists: Lists) -> Cut {
    let loss = |(field, value): (prost_reflect::FieldDescriptor, &prost_reflect::Value)| {
        if field.is_map() {
            // Entries replace entries of the same key.
            return None;
        }
        if field.is_list() {
            return (lists == Lists::Replace).then(|| (field.number(), Loss::Whole));
        }
        let Kind::Message(kind) = field.kind() else { return None };
        if is_one_value(kind.full_name()) {
            return Some((field.number(), Loss::Whole));
        }
        let inside = cut(value.as_message()?, lists);
        (!inside.is_empty()).then(|| (field.number(), Loss::Inside(inside)))
    };
    message.fields().filter_map(loss).collect()
}

/// Returns `true` if messages of this type are replaced, not merged.
fn is_one_value(full_name: &str) -> bool {
    let Some(name) = full_name.strip_prefix("google.protobuf.") else { return false };
    matches!(name, "Any" | "Duration" | "Timestamp")
        || (name != "Value" && name.ends_with("Value") && name != "ListValue")
}

/// Appends the parts of an encoded message that are not cut to `kept`.
fn keep(mut bytes: &[u8], cut: &Cut, kept: &mut Vec<u8>) -> Result<(), DecodeError> {
    while !bytes.is_empty() {
        let field = bytes;
        let (number, wire_type) = decode_key(&mut bytes)?;
        match (cut.get(&number), wire_type) {
            (Some(Loss::Inside(inner)), WireType::LengthDelimited) => {
                let mut message = Vec::new();
                encoding::bytes::merge(wire_type, &mut message, &mut bytes, DecodeContext::default())?;
                let mut left = Vec::with_capacity(message.len());
                keep(&message, inner, &mut left)?;
                encoding::bytes::encode(number, &left, kept);
            }
            (loss, _) => {
                skip_field(wire_type, number, &mut bytes, DecodeContext::default())?;
                if loss.is_none() {
                    kept.extend_from_slice(field.get(..field.len() - bytes.len()).unwrap_or_default());
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;

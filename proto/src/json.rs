//! Protobuf's JSON mapping for every message of Envoy's API, `Any` expanded by `@type`.
//!
//! Goes through the same descriptors the Rust types were generated from, so that field names, enums,
//! durations and wrappers are spelt as Envoy's own `/config_dump` spells them. Slower than the wire
//! format by an order of magnitude: for bootstraps, dumps and patches, never in the push path.

use std::sync::OnceLock;

use prost::{Message, Name};
use prost_reflect::{DescriptorPool, DeserializeOptions, DynamicMessage, SerializeOptions};

use crate::istio;

mod inspect;
mod settle;

pub use inspect::{Remark, RemarkKind, inspect};

static DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// Why a message could not be turned into JSON or back.
#[derive(Debug, thiserror::Error)]
pub enum JsonError {
    /// The descriptor set holds no such message.
    #[error("{0} is not a message of Envoy's API as this build knows it")]
    UnknownMessage(String),
    /// The bytes are not such a message.
    #[error("decode {message}")]
    Decode {
        /// Full name of the message.
        message: String,
        /// What the decoder said.
        source: prost::DecodeError,
    },
    /// The JSON does not fit the message, or a message does not fit JSON.
    #[error("{message}: {source}")]
    Json {
        /// Full name of the message.
        message: String,
        /// Names the field.
        source: serde_json::Error,
    },
}

/// The descriptors of everything generated here. Built on first use (about 20 ms, 11 MB).
pub fn pool() -> &'static DescriptorPool {
    static POOL: OnceLock<DescriptorPool> = OnceLock::new();
    POOL.get_or_init(|| {
        // The bytes are a build product of ours: that they decode is proved by a test, and an empty
        // pool makes every call fail with `UnknownMessage` instead of ending the process.
        let mut pool = DescriptorPool::decode(DESCRIPTORS).unwrap_or_default();
        for package in ["udpa.type.v1", "xds.type.v3"] {
            let extended = pool.add_file_descriptor_proto(istio::typed_struct(package));
            debug_assert!(extended.is_ok(), "{extended:?}");
        }
        pool
    })
}

/// The encoded message with this full name.
pub(crate) fn decode(full_name: &str, bytes: &[u8]) -> Result<DynamicMessage, JsonError> {
    DynamicMessage::decode(descriptor(full_name)?, bytes)
        .map_err(|source| JsonError::Decode { message: full_name.to_owned(), source })
}

fn descriptor(name: &str) -> Result<prost_reflect::MessageDescriptor, JsonError> {
    pool().get_message_by_name(name).ok_or_else(|| JsonError::UnknownMessage(name.to_owned()))
}

/// A message as JSON, with proto field names (`type_url`, not `typeUrl`), as Envoy's admin prints it.
pub fn to_value<M: Message + Name>(message: &M) -> Result<serde_json::Value, JsonError> {
    encoded_to_value(&M::full_name(), &message.encode_to_vec())
}

/// The encoded message with this full name as JSON.
pub fn encoded_to_value(full_name: &str, bytes: &[u8]) -> Result<serde_json::Value, JsonError> {
    let dynamic = decode(full_name, bytes)?;
    let options = SerializeOptions::new().use_proto_field_name(true);
    dynamic
        .serialize_with_options(serde_json::value::Serializer, &options)
        .map_err(|source| JsonError::Json { message: full_name.to_owned(), source })
}

/// The message that this JSON describes. Unknown fields are errors that name the field.
pub fn from_value<M: Message + Name + Default>(value: &serde_json::Value) -> Result<M, JsonError> {
    read(value, &DeserializeOptions::new())
}

/// The message that this JSON describes, without fields and enum values that this build does not know: they may be those of
/// another version of Envoy's API. [`inspect`] names them.
pub fn from_value_of_any_version<M: Message + Name + Default>(
    value: &serde_json::Value,
) -> Result<M, JsonError> {
    read(value, &DeserializeOptions::new().deny_unknown_fields(false))
}

/// Equal JSON gives equal bytes, inside every `Any` too.
fn read<M: Message + Name + Default>(
    value: &serde_json::Value,
    options: &DeserializeOptions,
) -> Result<M, JsonError> {
    let name = M::full_name();
    let mut dynamic = DynamicMessage::deserialize_with_options(descriptor(&name)?, value, options)
        .map_err(|source| JsonError::Json { message: name.clone(), source })?;
    settle::settle(&mut dynamic);
    M::decode(dynamic.encode_to_vec().as_slice())
        .map_err(|source| JsonError::Decode { message: name, source })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::envoy::config::bootstrap::v3::Bootstrap;

    #[test]
    fn the_descriptors_of_this_build_decode() {
        assert!(pool().get_message_by_name("envoy.config.bootstrap.v3.Bootstrap").is_some());
    }

    #[test]
    fn any_is_expanded_both_ways() {
        let value = json!({"static_resources": {"listeners": [{"name": "l", "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.tcp_proxy",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy",
                "stat_prefix": "x", "cluster": "c", "idle_timeout": "3.500s",
            },
        }]}]}]}});
        let bootstrap: Bootstrap = from_value(&value).unwrap();
        assert_eq!(to_value(&bootstrap).unwrap(), value);
    }

    #[test]
    fn istios_own_message_is_expanded_too() {
        use crate::istio::TypedStruct;
        let value = json!({"type_url": "istio.workload.BootstrapExtension", "value": {"a": [1.0, "b"]}});
        let typed: TypedStruct = from_value(&value).unwrap();
        assert_eq!(typed.type_url, "istio.workload.BootstrapExtension");
        assert_eq!(to_value(&typed).unwrap(), value);
        let bootstrap = json!({"bootstrap_extensions": [{"name": "x", "typed_config": {
            "@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": "y", "value": {"a": "b"},
        }}]});
        assert_eq!(to_value(&from_value::<Bootstrap>(&bootstrap).unwrap()).unwrap(), bootstrap);
    }

    #[test]
    fn an_unknown_field_is_named() {
        let error = from_value::<Bootstrap>(&json!({"nodes": {}})).unwrap_err().to_string();
        assert!(error.contains("nodes"), "{error}");
    }
}

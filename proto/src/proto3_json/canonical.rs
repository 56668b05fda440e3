//! Canonical encoding: equal messages have equal bytes.
//!
//! Reflection keeps maps in the order of a random hash. A message decoded into its own type is ordered again,
//! whatever the order of the bytes; the content of an `Any` is bytes and would stay as encoded. So it is re-encoded here.

use prost::Message as _;
use prost::encoding;
use prost_reflect::{DynamicMessage, Kind, ReflectMessage as _, Value};

use super::pool;

/// Encodes the content of each `Any` inside `message` with maps ordered by key.
pub(super) fn canonicalize(message: &mut DynamicMessage) {
    if message.descriptor().full_name() == "google.protobuf.Any" {
        canonicalize_any(message);
        return;
    }
    for (_, value) in message.fields_mut() {
        canonicalize_value(value);
    }
}

fn canonicalize_value(value: &mut Value) {
    match value {
        Value::Message(message) => canonicalize(message),
        Value::List(items) => items.iter_mut().for_each(canonicalize_value),
        Value::Map(entries) => entries.values_mut().for_each(canonicalize_value),
        _ => {}
    }
}

fn canonicalize_any(any: &mut DynamicMessage) {
    let held = || {
        let url = any.get_field_by_name("type_url")?;
        let descriptor = pool().get_message_by_name(url.as_str()?.rsplit('/').next()?)?;
        DynamicMessage::decode(descriptor, any.get_field_by_name("value")?.as_bytes()?.clone()).ok()
    };
    // Unknown types have no known maps.
    if let Some(mut held) = held() {
        canonicalize(&mut held);
        any.set_field_by_name("value", Value::Bytes(encode(&held).into()));
    }
}

/// Encodes the message with maps ordered by key.
fn encode(message: &DynamicMessage) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (field, value) in message.fields() {
        let number = field.number();
        match (value, field.kind()) {
            (Value::Message(inner), _) if !field.is_group() => {
                encoding::bytes::encode(number, &encode(inner), &mut bytes);
            }
            (Value::List(items), Kind::Message(_)) if !field.is_group() => {
                for item in items.iter().filter_map(Value::as_message) {
                    encoding::bytes::encode(number, &encode(item), &mut bytes);
                }
            }
            (Value::Map(entries), Kind::Message(entry)) => {
                let mut entries: Vec<_> = entries.iter().collect();
                entries.sort_by_key(|(key, _)| *key);
                for (key, value) in entries {
                    let mut both = DynamicMessage::new(entry.clone());
                    both.set_field(&entry.map_entry_key_field(), key.clone().into());
                    both.set_field(&entry.map_entry_value_field(), value.clone());
                    encoding::bytes::encode(number, &encode(&both), &mut bytes);
                }
            }
            _ => {
                let mut alone = DynamicMessage::new(message.descriptor());
                alone.set_field(&field, value.clone());
                bytes.extend(alone.encode_to_vec());
            }
        }
    }
    for unknown in message.unknown_fields() {
        unknown.encode(&mut bytes);
    }
    bytes
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use crate::envoy::config::listener::v3::Filter;
    use crate::proto3_json::{from_value, to_value};
    use prost::Message as _;

    #[test]
    fn equal_json_is_equal_bytes_however_deep_its_maps_lie() {
        let struct_of_many =
            json!({"a": 1.0, "b": {"x": [true, {"c": null, "d": "e"}], "y": "z"}, "f": 2.5, "g": 3.0});
        let value = json!({"name": "f", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "s", "http_filters": [{"name": "h", "typed_config": {
                "@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": "t", "value": struct_of_many,
            }}, {"name": "l", "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
                "source_codes": {"a": {"inline_string": "x"}, "b": {"filename": "y"}, "c": {"inline_string": ""}, "": {"filename": "z"}},
            }}],
            "route_config": {"virtual_hosts": [{"name": "v", "domains": ["*"], "typed_per_filter_config": {
                "b": {"@type": "type.googleapis.com/google.protobuf.Struct", "value": struct_of_many},
                "a": {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": "q"},
            }}]},
        }});
        let first: Filter = from_value(&value).unwrap();
        assert_eq!(to_value(&first).unwrap(), value);
        // The order of a hash map is another one each time.
        for _ in 0..20 {
            assert_eq!(from_value::<Filter>(&value).unwrap().encode_to_vec(), first.encode_to_vec());
        }
    }
}

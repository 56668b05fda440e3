//! Findings about the fields of JSON for a message of Envoy's API: unknown, deprecated, invalid.
//!
//! The caller decides about the severity of unknown or deprecated fields.

use prost_reflect::{DeserializeOptions, DynamicMessage, FieldDescriptor, Kind, MessageDescriptor};
use prost_types::FieldOptions;
use serde_json::{Map, Value};

use super::{JsonError, descriptor, pool};

/// A finding about a field.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Remark {
    /// Path of the field from the message: `http_filters[0].typed_config.inline_code`. Empty: the message itself.
    pub path: String,
    /// Kind of the finding.
    pub kind: RemarkKind,
}

/// Kinds of findings.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum RemarkKind {
    /// The field or enum value is unknown to this build.
    Unknown,
    /// The field is deprecated.
    Deprecated,
    /// The field is an `Any` of this type, which is unknown to this build; empty: it has no `@type`.
    UnknownType(String),
    /// The value does not have the field's type. Contains the parser's message.
    Unfit(String),
}

/// Returns all findings about this JSON as a message of this name, by field.
pub fn inspect(full_name: &str, value: &Value) -> Result<Vec<Remark>, JsonError> {
    let message = descriptor(full_name)?;
    let mut remarks = Vec::new();
    look(&message, value, "", &mut remarks);
    let unreadable = remarks.iter().any(|remark| matches!(remark.kind, RemarkKind::UnknownType(_)));
    if let Some(error) = fault(&message, value).filter(|_| !unreadable) {
        remarks.push(locate(&message, value, String::new(), error));
    }
    Ok(remarks)
}

impl std::fmt::Display for Remark {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.kind {
            RemarkKind::Unknown => f.write_str("not known to this version of Envoy's API"),
            RemarkKind::Deprecated => f.write_str("deprecated in Envoy's API"),
            RemarkKind::UnknownType(url) if url.is_empty() => {
                f.write_str("no @type says which message this is")
            }
            RemarkKind::UnknownType(url) if url.contains(".v2.") || url.contains("/envoy.config.filter.") => {
                write!(f, "@type {url} is not a message that is known here: Envoy's v2 API is gone, use v3")
            }
            RemarkKind::UnknownType(url) => write!(f, "@type {url} is not a message that is known here"),
            RemarkKind::Unfit(reason) => f.write_str(reason),
        }
    }
}

/// Records unknown and deprecated fields and unknown types, in the order of the JSON.
fn look(message: &MessageDescriptor, value: &Value, path: &str, remarks: &mut Vec<Remark>) {
    let Value::Object(fields) = value else { return };
    match message.full_name() {
        "google.protobuf.Any" => look_inside(fields, path, remarks),
        name if name.starts_with("google.protobuf.") => {}
        _ => {
            for (key, value) in fields.iter().filter(|(_, value)| !value.is_null()) {
                look_at(message, key, value, join(path, key), remarks);
            }
        }
    }
}

/// Inspects the message inside an `Any`.
fn look_inside(fields: &Map<String, Value>, path: &str, remarks: &mut Vec<Remark>) {
    let url = fields.get("@type").and_then(Value::as_str).unwrap_or_default();
    match held(url) {
        None => {
            remarks.push(Remark { path: path.to_owned(), kind: RemarkKind::UnknownType(url.to_owned()) });
        }
        Some(message) if message.full_name().starts_with("google.protobuf.") => {}
        Some(message) => {
            for (key, value) in fields.iter().filter(|(key, value)| *key != "@type" && !value.is_null()) {
                look_at(&message, key, value, join(path, key), remarks);
            }
        }
    }
}

fn look_at(message: &MessageDescriptor, key: &str, value: &Value, path: String, remarks: &mut Vec<Remark>) {
    let Some(field) = field(message, key) else {
        remarks.push(Remark { path, kind: RemarkKind::Unknown });
        return;
    };
    let options = field.field_descriptor_proto().options.as_ref();
    if options.is_some_and(FieldOptions::deprecated) {
        remarks.push(Remark { path: path.clone(), kind: RemarkKind::Deprecated });
    }
    for (path, value) in items(&field, value, &path) {
        match item_kind(&field) {
            Kind::Message(message) => look(&message, value, &path, remarks),
            Kind::Enum(names) => {
                let unknown = |name| names.get_value_by_name(name).is_none();
                if value.as_str().is_some_and(unknown) && !names.full_name().starts_with("google.protobuf.") {
                    remarks.push(Remark { path, kind: RemarkKind::Unknown });
                }
            }
            _ => {}
        }
    }
}

/// Returns the innermost field that does not parse, given that `value` does not.
fn locate(message: &MessageDescriptor, value: &Value, path: String, error: String) -> Remark {
    let inner = match (message.full_name(), value) {
        ("google.protobuf.Any", Value::Object(fields)) => {
            fields.get("@type").and_then(Value::as_str).and_then(held).map(|inner| {
                let rest = fields.iter().filter(|(key, _)| *key != "@type");
                (inner, rest.map(|(key, value)| (key.clone(), value.clone())).collect())
            })
        }
        (name, Value::Object(fields)) if !name.starts_with("google.protobuf.") => {
            Some((message.clone(), fields.clone()))
        }
        _ => None,
    };
    let Some((message, fields)) = inner else { return Remark { path, kind: RemarkKind::Unfit(error) } };
    for (key, value) in &fields {
        let Some(field) = field(&message, key) else { continue };
        let alone =
            |value: &Value| fault(&message, &Value::Object(Map::from_iter([(key.clone(), value.clone())])));
        let Some(error) = alone(value) else { continue };
        let path = join(&path, key);
        for (path, item) in items(&field, value, &path) {
            let error = match item_kind(&field) {
                Kind::Message(message) => fault(&message, item).map(|error| (Some(message), error)),
                _ if field.is_list() => alone(&Value::Array(vec![item.clone()])).map(|error| (None, error)),
                _ => None,
            };
            match error {
                Some((Some(message), error)) => return locate(&message, item, path, error),
                Some((None, error)) => return Remark { path, kind: RemarkKind::Unfit(error) },
                None => {}
            }
        }
        return Remark { path, kind: RemarkKind::Unfit(error) };
    }
    Remark { path, kind: RemarkKind::Unfit(error) }
}

/// Returns the parser's error for this message; unknown fields are ignored.
fn fault(message: &MessageDescriptor, value: &Value) -> Option<String> {
    let options = DeserializeOptions::new().deny_unknown_fields(false);
    let read = DynamicMessage::deserialize_with_options(message.clone(), value, &options);
    read.err().map(|error| error.to_string())
}

/// Returns the type of the message in an `Any`.
fn held(url: &str) -> Option<MessageDescriptor> {
    pool().get_message_by_name(url.rsplit_once('/')?.1)
}

fn field(message: &MessageDescriptor, key: &str) -> Option<FieldDescriptor> {
    message.get_field_by_json_name(key).or_else(|| message.get_field_by_name(key))
}

/// The values of a field, one or many.
fn item_kind(field: &FieldDescriptor) -> Kind {
    match field.kind() {
        Kind::Message(entry) if field.is_map() => entry.map_entry_value_field().kind(),
        kind => kind,
    }
}

/// Returns the values of a field with their paths.
fn items<'a>(field: &FieldDescriptor, value: &'a Value, path: &str) -> Vec<(String, &'a Value)> {
    match value {
        Value::Array(items) if field.is_list() => {
            let numbered = items.iter().enumerate();
            numbered.map(|(index, item)| (format!("{path}[{index}]"), item)).collect()
        }
        Value::Object(entries) if field.is_map() => {
            entries.iter().map(|(key, entry)| (format!("{path}[{key:?}]"), entry)).collect()
        }
        _ => vec![(path.to_owned(), value)],
    }
}

fn join(path: &str, key: &str) -> String {
    if path.is_empty() { key.to_owned() } else { format!("{path}.{key}") }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const FILTER: &str = "envoy.extensions.filters.network.http_connection_manager.v3.HttpFilter";

    fn check(full_name: &str, value: &Value, expected: &[&str]) {
        let remarks = inspect(full_name, value).unwrap();
        let said: Vec<String> = remarks.iter().map(|remark| format!("{}: {remark}", remark.path)).collect();
        assert_eq!(said.len(), expected.len(), "{said:?}");
        for (said, expected) in said.iter().zip(expected) {
            assert!(said.starts_with(expected), "{said} is not {expected}");
        }
    }

    #[test]
    fn what_fits_is_not_remarked_upon() {
        let lua = json!({"name": "l", "typedConfig": {"@type": "type.googleapis.com/envoy.extensions.filters.http.lua.v3.Lua",
            "defaultSourceCode": {"inline_string": "x"}, "source_codes": {"a": {"filename": "b"}}}});
        check(FILTER, &lua, &[]);
        for wrapped in ["udpa.type.v1.TypedStruct", "xds.type.v3.TypedStruct"] {
            let value = json!({"typed_config": {"@type": format!("type.googleapis.com/{wrapped}"),
                "type_url": "type.googleapis.com/istio.whatever", "value": {"any": [{"thing": null}]}}});
            check(FILTER, &value, &[]);
        }
    }

    #[test]
    fn fields_are_named_with_their_way() {
        const CLUSTER: &str = "envoy.config.cluster.v3.Cluster";
        const LISTENER: &str = "envoy.config.listener.v3.Listener";
        for (message, value, expected) in [
            (CLUSTER, json!({"nome": "x", "name": "y"}), "nome: not known"),
            (CLUSTER, json!({"lb_policy": "BEST"}), "lb_policy: not known"),
            (CLUSTER, json!({"http2_protocol_options": {}}), "http2_protocol_options: deprecated"),
            (CLUSTER, json!({"connect_timeout": "soon"}), "connect_timeout: "),
            (CLUSTER, json!({"connect_timeout": 5}), "connect_timeout: invalid type"),
            (
                CLUSTER,
                json!({"circuit_breakers": {"thresholds": [{}, {"max_requests": "many"}]}}),
                "circuit_breakers.thresholds[1].max_requests: ",
            ),
            (
                CLUSTER,
                json!({"metadata": {"filter_metadata": {"a": {}, "b": 3}}}),
                "metadata.filter_metadata[\"b\"]: ",
            ),
            (
                CLUSTER,
                json!({"eds_cluster_config": {}, "type": "EDS", "cluster_type": {}}),
                ": multiple fields",
            ),
            (CLUSTER, json!("x"), ": invalid type"),
            (
                LISTENER,
                json!({"filter_chains": [{"filter_chain_match": {"server_names": ["a", 3]}}]}),
                "filter_chains[0].filter_chain_match.server_names[1]: invalid type",
            ),
            (FILTER, json!({"typed_config": {}}), "typed_config: no @type"),
            (
                FILTER,
                json!({"typed_config": {"@type": "type.googleapis.com/acme.Filter"}}),
                "typed_config: @type type.googleapis.com/acme.Filter is not",
            ),
            (
                FILTER,
                json!({"typed_config": {"@type": "type.googleapis.com/envoy.config.filter.http.lua.v2.Lua"}}),
                "typed_config: @type type.googleapis.com/envoy.config.filter.http.lua.v2.Lua is not a message that is known here: Envoy's v2",
            ),
            (
                FILTER,
                json!({"typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                "upstream_log": [{"name": "n", "typed_config": {"@type": "nothing"}}]}}),
                "typed_config.upstream_log[0].typed_config: @type nothing",
            ),
            (
                FILTER,
                json!({"typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router",
                "dynamic_stats": "maybe"}}),
                "typed_config.dynamic_stats: invalid type",
            ),
        ] {
            check(message, &value, &[expected]);
        }
    }

    #[test]
    fn all_unknown_fields_are_named_at_once() {
        let value = json!({"filters": [{"a": 1, "name": "x"}, {"b": {"c": 1}}], "z": null, "name": 3});
        check(
            "envoy.config.listener.v3.FilterChain",
            &value,
            &["filters[0].a: not known", "filters[1].b: not known", "name: invalid type"],
        );
    }
}

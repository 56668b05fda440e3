//! Precedence of layers: defaults, then the mesh file, the environment and the annotation.
//!
//! A layer's field replaces the field below it, messages and lists as a whole, as Istio's JSON reader
//! does; only `proxyMetadata` and `proxyHeaders` are merged key by key. A null is a field not written.
//! Field names may be `camelCase` or `snake_case`. Every wrong field of every layer is reported, with
//! its path: a message that fails as a whole is taken apart until the part that fails alone is found.

use serde_json::{Map, Value};

use super::ProxyConfig;

/// One source of configuration, parsed.
#[derive(Clone, Debug, PartialEq)]
pub struct Layer {
    /// Name of the source for messages: a file, a variable, an annotation.
    pub source: String,
    /// A `ProxyConfig`; null: empty.
    pub config: Value,
}

/// An invalid field of a layer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{source_name}: {}{problem}", if field.is_empty() { String::new() } else { format!("{field}: ") })]
pub struct FieldError {
    /// The layer's source.
    pub source_name: String,
    /// Path of the field, `tracing.tlsSettings.mode`; empty for the layer as a whole.
    pub field: String,
    /// Reason.
    pub problem: String,
}

/// Returns Istio's defaults merged with these layers; the last layer has the highest precedence.
pub fn merged(layers: &[Layer]) -> Result<ProxyConfig, Vec<FieldError>> {
    let mut config = ProxyConfig::defaults().to_json();
    let mut errors = Vec::new();
    for layer in layers {
        match canonical(&layer.config) {
            Value::Null => {}
            Value::Object(fields) => {
                let wrong = wrong_fields(&fields);
                errors.extend(wrong.into_iter().map(|(field, problem)| FieldError {
                    source_name: layer.source.clone(),
                    field,
                    problem,
                }));
                overlay(&mut config, fields);
            }
            other => errors.push(FieldError {
                source_name: layer.source.clone(),
                field: String::new(),
                problem: format!("{} is not a ProxyConfig", kind(&other)),
            }),
        }
    }
    if !errors.is_empty() {
        return Err(errors);
    }
    // Each layer parses alone, so the sum parses too. An error here is reported nevertheless.
    serde_json::from_value(Value::Object(config)).map_err(|error| {
        vec![FieldError {
            source_name: "ProxyConfig".into(),
            field: String::new(),
            problem: error.to_string(),
        }]
    })
}

fn overlay(config: &mut Map<String, Value>, layer: Map<String, Value>) {
    // `oneof cluster_name`: setting one unsets the other.
    if layer.contains_key("tracingServiceName") {
        config.remove("serviceCluster");
    } else if layer.contains_key("serviceCluster") {
        config.remove("tracingServiceName");
    }
    for (name, value) in layer {
        match (name.as_str(), config.get_mut(&name), value) {
            ("proxyMetadata" | "proxyHeaders", Some(Value::Object(below)), Value::Object(above)) => {
                below.extend(above);
            }
            (_, _, value) => {
                config.insert(name, value);
            }
        }
    }
}

/// The keys of these maps are user data, not field names.
const MAPS: [&str; 3] = ["proxyMetadata", "runtimeValues", "customTags"];

/// Converts field names to `camelCase` and removes nulls. If both spellings are present, `camelCase` wins.
fn canonical(value: &Value) -> Value {
    match value {
        Value::Object(fields) => {
            let written = fields.iter().filter(|(_, value)| !value.is_null());
            let (camel, snake): (Vec<_>, Vec<_>) = written.partition(|(name, _)| !name.contains('_'));
            let mut fields = Map::new();
            for (name, value) in snake.into_iter().chain(camel) {
                let name = camel_case(name);
                let value = match value {
                    Value::Object(entries) if MAPS.contains(&name.as_str()) => {
                        let entries = entries.iter().filter(|(_, value)| !value.is_null());
                        Value::Object(entries.map(|(key, value)| (key.clone(), canonical(value))).collect())
                    }
                    value => canonical(value),
                };
                fields.insert(name, value);
            }
            Value::Object(fields)
        }
        Value::Array(items) => Value::Array(items.iter().map(canonical).collect()),
        value => value.clone(),
    }
}

fn camel_case(name: &str) -> String {
    let mut words = name.split('_');
    let mut camel = words.next().unwrap_or_default().to_owned();
    for word in words {
        let mut letters = word.chars();
        camel.extend(letters.next().map(|first| first.to_ascii_uppercase()));
        camel.push_str(letters.as_str());
    }
    camel
}

fn wrong_fields(fields: &Map<String, Value>) -> Vec<(String, String)> {
    let mut wrong = Vec::new();
    for (name, value) in fields {
        blame(&mut vec![name.as_str()], value, &mut wrong);
    }
    wrong
}

/// Parses a `ProxyConfig` with only this value at this path. If that fails, the parts are
/// tried first, so that the error names the smallest invalid part.
fn blame<'a>(path: &mut Vec<&'a str>, value: &'a Value, wrong: &mut Vec<(String, String)>) {
    let alone = path
        .iter()
        .rev()
        .fold(value.clone(), |inner, name| Value::Object(Map::from_iter([((*name).to_owned(), inner)])));
    let Err(error) = serde_json::from_value::<ProxyConfig>(alone) else { return };
    let before = wrong.len();
    if let Value::Object(parts) = value {
        for (name, part) in parts {
            path.push(name);
            blame(path, part, wrong);
            path.pop();
        }
    }
    if wrong.len() == before {
        wrong.push((path.join("."), error.to_string()));
    }
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "an object",
    }
}

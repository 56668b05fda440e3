//! Decodes a manifest (parsed into a JSON value) to an object or to findings.
//!
//! A finding names the object, if it can be identified, and the field. Kinds of Istio and Kubernetes that are not supported
//! are ignored; a kind that does not exist in its group is an error: it is misspelt, or the file is truncated.

use std::sync::Arc;

use pilot_core::model::{ConfigMeta, ConfigObject, ConfigSpec};
use pilot_core::validate::{Finding, Severity};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::metadata::{Metadata, NamespacedName};
use super::object::{Object, ObjectKey, ObjectKind};
use super::schema::Schema;
use super::validate;

/// Result of decoding a manifest.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decoded {
    /// Valid object.
    Object(Object),
    /// Invalid object, with its key if it could be identified.
    Invalid(Option<ObjectKey>),
    /// Kind of Istio or Kubernetes that is not supported: `apiVersion` and kind.
    Unsupported(String, String),
    /// Kind of another API: `apiVersion` and kind.
    Unknown(String, String),
}

/// Decoded manifest, or one item of a `List`.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    /// Index in a `List`, from 0.
    pub(crate) index: Option<usize>,
    /// Object, or the reason why there is none.
    pub(crate) decoded: Decoded,
    /// Findings. An invalid object has at least one error.
    pub(crate) findings: Vec<Finding>,
    /// Fields that the kind does not have: a warning when served, an error when validated.
    pub(crate) unknown: Vec<String>,
}

/// Reason why a manifest cannot be decoded.
struct Fault {
    key: Option<ObjectKey>,
    finding: Finding,
}

/// Namespace of manifests without one, as in `kubectl`.
const DEFAULT_NAMESPACE: &str = "default";

/// Kinds of the group `v1`. <https://kubernetes.io/docs/reference/kubernetes-api/>
const CORE_KINDS: [&str; 13] = [
    "Binding",
    "ComponentStatus",
    "ConfigMap",
    "Event",
    "LimitRange",
    "PersistentVolume",
    "PersistentVolumeClaim",
    "PodTemplate",
    "ReplicationController",
    "ResourceQuota",
    "Secret",
    "ServiceAccount",
    "Status",
];

/// Top-level fields of an Istio object.
const OUTER_FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Decodes a manifest, or every item of a `List`.
pub(crate) fn decode(manifest: Value) -> Vec<Item> {
    let mut manifest = match manifest {
        Value::Object(fields) => fields,
        other => return vec![Item::new(None, Err(not_an_object(&other)))],
    };
    match list_of(&manifest) {
        None => vec![Item::new(None, one(manifest))],
        Some((api_version, kind)) => {
            let items = manifest.remove("items").unwrap_or(Value::Array(Vec::new()));
            list(items, api_version.as_deref(), kind.as_deref())
        }
    }
}

/// Returns version and kind of the items of a `ServiceList` and similar, which the items may omit; both `None` for `List`.
fn list_of(manifest: &Map<String, Value>) -> Option<(Option<String>, Option<String>)> {
    let kind = manifest.get("kind").and_then(Value::as_str)?.strip_suffix("List")?;
    let own_version = (!kind.is_empty())
        .then(|| manifest.get("apiVersion").and_then(Value::as_str).map(str::to_owned))
        .flatten();
    Some((own_version, (!kind.is_empty()).then(|| kind.to_owned())))
}

fn list(items: Value, api_version: Option<&str>, kind: Option<&str>) -> Vec<Item> {
    let items = match items {
        Value::Array(items) => items,
        Value::Null => Vec::new(),
        _ => {
            return vec![Item::new(None, Err(Fault::unidentified("items", "is not a list of manifests")))];
        }
    };
    let numbered = items.into_iter().enumerate();
    numbered
        .map(|(index, item)| {
            let outcome = match item {
                Value::Object(mut fields) => {
                    for (name, value) in [("apiVersion", api_version), ("kind", kind)] {
                        if let Some(value) = value {
                            fields.entry(name).or_insert_with(|| value.into());
                        }
                    }
                    one(fields)
                }
                other => Err(not_an_object(&other)),
            };
            Item::new(Some(index), outcome)
        })
        .collect()
}

fn not_an_object(value: &Value) -> Fault {
    let found = match value {
        Value::Null => "nothing",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "a list",
        Value::Object(_) => "a mapping",
    };
    Fault::unidentified("", format!("is {found}, not a manifest"))
}

fn one(fields: Map<String, Value>) -> Result<Item, Fault> {
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(Value::Null) | None => Err(Fault::unidentified(name, "is missing")),
        Some(_) => Err(Fault::unidentified(name, "is not a name")),
    };
    let api_version = text("apiVersion")?;
    let kind = text("kind")?;
    match classify(&api_version, &kind) {
        Class::Supported(kind) => {
            let object = typed(kind, fields)?;
            validate::object(&object).map_err(|finding| Fault::of(&object.key(), finding))?;
            Ok(Item::of(Decoded::Object(object)))
        }
        Class::Config(schema) => config(schema, fields),
        Class::Unsupported => Ok(Item::of(Decoded::Unsupported(api_version, kind))),
        Class::Unknown => Ok(Item::of(Decoded::Unknown(api_version, kind))),
        Class::OtherVersion(expected) => {
            let message = format!("{kind} is read in {expected}, not in {api_version}");
            Err(Fault::unidentified("apiVersion", message))
        }
        Class::NoSuchKind => Err(Fault::unidentified("kind", format!("{api_version} has no {kind:?}"))),
    }
}

enum Class {
    Supported(ObjectKind),
    Config(&'static Schema),
    OtherVersion(String),
    Unsupported,
    NoSuchKind,
    Unknown,
}

fn classify(api_version: &str, kind: &str) -> Class {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    if let Some(schema) = Schema::named(group, kind) {
        if schema.has(version) {
            return Class::Config(schema);
        }
        let versions: Vec<String> = schema.versions().map(|known| format!("{group}/{known}")).collect();
        return Class::OtherVersion(versions.join(", "));
    }
    let own = ObjectKind::OWN.into_iter().find(|known| known.as_str() == kind);
    let expected = match (group, own) {
        ("", Some(kind)) if kind != ObjectKind::EndpointSlice => "v1",
        ("discovery.k8s.io", Some(ObjectKind::EndpointSlice)) => "discovery.k8s.io/v1",
        ("", _) if CORE_KINDS.contains(&kind) => return Class::Unsupported,
        ("" | "discovery.k8s.io" | "networking.istio.io" | "telemetry.istio.io", _) => {
            return Class::NoSuchKind;
        }
        ("apps" | "batch" | "autoscaling" | "policy", _) => return Class::Unsupported,
        _ if group.ends_with(".istio.io") || group.ends_with(".k8s.io") => return Class::Unsupported,
        _ => return Class::Unknown,
    };
    match own {
        Some(kind) if api_version == expected => Class::Supported(kind),
        _ => Class::OtherVersion(expected.to_owned()),
    }
}

fn typed(kind: ObjectKind, mut fields: Map<String, Value>) -> Result<Object, Fault> {
    drop_nulls(&mut fields);
    let key = complete(kind, &mut fields)?;
    let fields = Value::Object(fields);
    match kind {
        ObjectKind::Namespace => read(&key, fields).map(Object::Namespace),
        ObjectKind::Node => read(&key, fields).map(Object::Node),
        ObjectKind::Pod => read(&key, fields).map(Object::Pod),
        ObjectKind::Service => read(&key, fields).map(Object::Service),
        ObjectKind::EndpointSlice => read(&key, fields).map(Object::EndpointSlice),
        ObjectKind::Endpoints => read(&key, fields).map(Object::Endpoints),
        ObjectKind::Config(kind) => {
            Err(Fault::unidentified("kind", format!("{} has a schema", kind.as_str())))
        }
    }
}

/// Metadata of an Istio object.
#[derive(Deserialize)]
struct Header {
    metadata: Metadata,
}

fn config(schema: &Schema, mut fields: Map<String, Value>) -> Result<Item, Fault> {
    // Nulls have a meaning in patches.
    let spec = fields.remove("spec").unwrap_or_default();
    let mut unknown: Vec<String> =
        fields.keys().filter(|name| !OUTER_FIELDS.contains(&name.as_str())).cloned().collect();
    fields.retain(|name, _| name == "metadata");
    drop_nulls(&mut fields);
    let key = complete(ObjectKind::Config(schema.kind), &mut fields)?;
    let Header { metadata } = read(&key, Value::Object(fields))?;
    let read = ConfigSpec::read(schema.kind, &spec);
    let read = read.map_err(|wrong| Fault::of(&key, Finding::error(wrong.field, wrong.message)))?;
    unknown.extend(read.unknown);

    let Metadata { name, namespace, labels, annotations, creation_timestamp, .. } = metadata;
    let meta = ConfigMeta {
        namespace: (*namespace).into(),
        name,
        labels: Arc::unwrap_or_clone(labels),
        annotations,
        created: creation_timestamp.0,
    };
    let object = ConfigObject { meta, spec: read.value };
    let named = validate::name(&key).err();
    let found = pilot_core::validate::config(&object).into_iter().chain(pilot_core::patch::findings(&object));
    let findings: Vec<Finding> = named.into_iter().chain(found).collect();
    let is_faulty = findings.iter().any(|finding| finding.severity == Severity::Error);
    let decoded = if is_faulty {
        Decoded::Invalid(Some(key))
    } else {
        Decoded::Object(Object::Config(Arc::new(object)))
    };
    Ok(Item { index: None, decoded, findings, unknown })
}

fn read<T: DeserializeOwned>(key: &ObjectKey, fields: Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(fields).map_err(|error| {
        let path = error.path().to_string();
        let field = if path == "." { String::new() } else { path };
        Fault::of(key, Finding::error(field, error.inner().to_string()))
    })
}

/// Removes nulls: in manifests, null and absent are the same.
fn drop_nulls(fields: &mut Map<String, Value>) {
    fields.retain(|_, value| !value.is_null());
    for value in fields.values_mut() {
        drop_nulls_inside(value);
    }
}

fn drop_nulls_inside(value: &mut Value) {
    match value {
        Value::Object(fields) => drop_nulls(fields),
        Value::Array(items) => items.iter_mut().for_each(drop_nulls_inside),
        _ => {}
    }
}

/// Returns the key of an object, and inserts the default namespace.
fn complete(kind: ObjectKind, fields: &mut Map<String, Value>) -> Result<ObjectKey, Fault> {
    let Some(Value::Object(metadata)) = fields.get_mut("metadata") else {
        return Err(Fault::unidentified("metadata", format!("a {} needs a name", kind.as_str())));
    };
    let name = match metadata.get("name") {
        Some(Value::String(name)) if !name.is_empty() => name.as_str().into(),
        Some(Value::String(_)) | None => {
            return Err(Fault::unidentified("metadata.name", format!("a {} needs a name", kind.as_str())));
        }
        Some(other) => return Err(Fault::unidentified("metadata.name", format!("{other} is not a string"))),
    };
    if kind.is_cluster_scoped() {
        metadata.remove("namespace");
        return Ok(ObjectKey { kind, name: NamespacedName { namespace: "".into(), name } });
    }
    let namespace = metadata.entry("namespace").or_insert(Value::Null);
    if namespace.is_null() || namespace.as_str() == Some("") {
        *namespace = DEFAULT_NAMESPACE.into();
    }
    match namespace {
        Value::String(namespace) => {
            Ok(ObjectKey { kind, name: NamespacedName { namespace: namespace.as_str().into(), name } })
        }
        other => Err(Fault::unidentified("metadata.namespace", format!("{other} is not a string"))),
    }
}

// === impl Item, Fault ===

impl Item {
    /// Returns an item without findings.
    const fn of(decoded: Decoded) -> Self {
        Self { index: None, decoded, findings: Vec::new(), unknown: Vec::new() }
    }

    fn new(index: Option<usize>, outcome: Result<Self, Fault>) -> Self {
        let item = outcome.unwrap_or_else(|fault| Self {
            findings: vec![fault.finding],
            ..Self::of(Decoded::Invalid(fault.key))
        });
        Self { index, ..item }
    }
}

impl Fault {
    fn of(key: &ObjectKey, finding: Finding) -> Self {
        Self { key: Some(key.clone()), finding }
    }

    /// Returns the fault of an object that cannot be identified.
    fn unidentified(field: &str, message: impl Into<String>) -> Self {
        Self { key: None, finding: Finding::error(field, message) }
    }
}

#[cfg(test)]
mod tests;

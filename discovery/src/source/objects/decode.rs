//! From a manifest (already parsed into a JSON value) to an object, or to what is wrong with it.
//!
//! Every fault names the object, as far as it can be read, and the field. The kinds that Istio and Kubernetes
//! have but nobody here reads yet are told apart from those that do not exist: a kind that its group cannot
//! have is a misspelling or the beginning of a file that is still being written, and counts as a fault.

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

/// What a manifest is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decoded {
    /// An object that is read.
    Object(Object),
    /// One that cannot be used; whose it is, when that much can be read.
    Faulty(Option<ObjectKey>),
    /// A kind of Istio or Kubernetes that is not read: `apiVersion` and kind.
    NotRead(String, String),
    /// A kind of somebody else: `apiVersion` and kind.
    Unknown(String, String),
}

/// One manifest of a list, or the only one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    /// Its place in a `List`, from 0.
    pub(crate) index: Option<usize>,
    /// What it is.
    pub(crate) decoded: Decoded,
    /// What is to be said about it: of a faulty one, why it is.
    pub(crate) findings: Vec<Finding>,
    /// Fields that its kind does not have: skipped where an object is served, a mistake where it is validated.
    pub(crate) unknown: Vec<String>,
}

/// Why a manifest is of no use.
struct Fault {
    key: Option<ObjectKey>,
    finding: Finding,
}

/// The namespace of what does not say, as `kubectl` has it.
const DEFAULT_NAMESPACE: &str = "default";

/// Everything that `v1` has. <https://kubernetes.io/docs/reference/kubernetes-api/>
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

/// What an Istio object has besides its `spec`.
const OUTER_FIELDS: [&str; 5] = ["apiVersion", "kind", "metadata", "spec", "status"];

/// Reads a manifest, or every manifest of a `List`.
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

/// `List`, or `ServiceList` and its like, whose items may leave out what the list has said.
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
            return vec![Item::new(None, Err(Fault::of_nobody("items", "is not a list of manifests")))];
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
    Fault::of_nobody("", format!("is {found}, not a manifest"))
}

fn one(fields: Map<String, Value>) -> Result<Item, Fault> {
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(Value::Null) | None => Err(Fault::of_nobody(name, "is missing")),
        Some(_) => Err(Fault::of_nobody(name, "is not a name")),
    };
    let api_version = text("apiVersion")?;
    let kind = text("kind")?;
    match classify(&api_version, &kind) {
        Class::Read(kind) => {
            let object = typed(kind, fields)?;
            validate::object(&object).map_err(|finding| Fault::of(&object.key(), finding))?;
            Ok(Item::of(Decoded::Object(object)))
        }
        Class::Config(schema) => config(schema, fields),
        Class::NotRead => Ok(Item::of(Decoded::NotRead(api_version, kind))),
        Class::Unknown => Ok(Item::of(Decoded::Unknown(api_version, kind))),
        Class::OtherVersion(expected) => {
            let message = format!("{kind} is read in {expected}, not in {api_version}");
            Err(Fault::of_nobody("apiVersion", message))
        }
        Class::NoSuchKind => Err(Fault::of_nobody("kind", format!("{api_version} has no {kind:?}"))),
    }
}

enum Class {
    Read(ObjectKind),
    Config(&'static Schema),
    OtherVersion(String),
    NotRead,
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
        ("", _) if CORE_KINDS.contains(&kind) => return Class::NotRead,
        ("" | "discovery.k8s.io" | "networking.istio.io" | "telemetry.istio.io", _) => {
            return Class::NoSuchKind;
        }
        ("apps" | "batch" | "autoscaling" | "policy", _) => return Class::NotRead,
        _ if group.ends_with(".istio.io") || group.ends_with(".k8s.io") => return Class::NotRead,
        _ => return Class::Unknown,
    };
    match own {
        Some(kind) if api_version == expected => Class::Read(kind),
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
        ObjectKind::Config(kind) => Err(Fault::of_nobody("kind", format!("{} has a schema", kind.as_str()))),
    }
}

/// Who an Istio object is.
#[derive(Deserialize)]
struct Header {
    metadata: Metadata,
}

fn config(schema: &Schema, mut fields: Map<String, Value>) -> Result<Item, Fault> {
    // Nulls have a meaning in what patches hold.
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
    let said = pilot_core::validate::config(&object).into_iter().chain(pilot_core::patch::findings(&object));
    let findings: Vec<Finding> = named.into_iter().chain(said).collect();
    let is_faulty = findings.iter().any(|finding| finding.severity == Severity::Error);
    let decoded = if is_faulty {
        Decoded::Faulty(Some(key))
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

/// In manifests, null and absent are the same.
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

/// Tells who the object is and fills in the namespace that it left out.
fn complete(kind: ObjectKind, fields: &mut Map<String, Value>) -> Result<ObjectKey, Fault> {
    let Some(Value::Object(metadata)) = fields.get_mut("metadata") else {
        return Err(Fault::of_nobody("metadata", format!("a {} needs a name", kind.as_str())));
    };
    let name = match metadata.get("name") {
        Some(Value::String(name)) if !name.is_empty() => name.as_str().into(),
        Some(Value::String(_)) | None => {
            return Err(Fault::of_nobody("metadata.name", format!("a {} needs a name", kind.as_str())));
        }
        Some(other) => return Err(Fault::of_nobody("metadata.name", format!("{other} is not a string"))),
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
        other => Err(Fault::of_nobody("metadata.namespace", format!("{other} is not a string"))),
    }
}

// === impl Item, Fault ===

impl Item {
    /// Nothing is to be said about it.
    const fn of(decoded: Decoded) -> Self {
        Self { index: None, decoded, findings: Vec::new(), unknown: Vec::new() }
    }

    fn new(index: Option<usize>, outcome: Result<Self, Fault>) -> Self {
        let item = outcome.unwrap_or_else(|fault| Self {
            findings: vec![fault.finding],
            ..Self::of(Decoded::Faulty(fault.key))
        });
        Self { index, ..item }
    }
}

impl Fault {
    fn of(key: &ObjectKey, finding: Finding) -> Self {
        Self { key: Some(key.clone()), finding }
    }

    /// It cannot be told whose it is.
    fn of_nobody(field: &str, message: impl Into<String>) -> Self {
        Self { key: None, finding: Finding::error(field, message) }
    }
}

#[cfg(test)]
mod tests;

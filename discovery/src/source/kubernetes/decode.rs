//! From a manifest (already parsed into a JSON value) to an object, or to what is wrong with it.
//!
//! Every fault names the object, as far as it can be read, and the field. The kinds that Istio and Kubernetes
//! have but nobody here reads yet are told apart from those that do not exist: a kind that its group cannot
//! have is a misspelling or the beginning of a file that is still being written, and counts as a fault.

use pilot_core::model::{ConfigMeta, ConfigObject, ConfigSpec};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use super::objects::{Metadata, NamespacedName, Object, ObjectKey, ObjectKind};
use super::validate;

/// What a manifest is.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Decoded {
    /// An object that is read.
    Object(Box<Object>),
    /// A kind of Istio or Kubernetes that is not read: `apiVersion` and kind.
    NotRead(String, String),
    /// A kind of somebody else: `apiVersion` and kind.
    Unknown(String, String),
}

/// Why a manifest is of no use.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}{message}", .key.as_ref().map(|key| format!("{key}: ")).unwrap_or_default(),
    if .field.is_empty() { String::new() } else { format!("{}: ", .field) })]
pub(crate) struct Fault {
    /// Whose manifest it is, when that much can be read.
    pub(crate) key: Option<ObjectKey>,
    /// The field, `spec.ports[0].port`; empty when it is none in particular.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) message: String,
}

/// One manifest of a list, or the only one.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Item {
    /// Its place in a `List`, from 0.
    pub(crate) index: Option<usize>,
    /// What it is.
    pub(crate) decoded: Result<Decoded, Fault>,
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

/// Everything else that `networking.istio.io` has.
const ISTIO_NETWORKING_KINDS: [&str; 7] = [
    "DestinationRule",
    "EnvoyFilter",
    "Gateway",
    "ProxyConfig",
    "Sidecar",
    "VirtualService",
    "WorkloadGroup",
];

/// Reads a manifest, or every manifest of a `List`.
pub(crate) fn decode(manifest: Value) -> Vec<Item> {
    let mut manifest = match manifest {
        Value::Object(fields) => fields,
        other => return vec![Item { index: None, decoded: Err(not_an_object(&other)) }],
    };
    match list_of(&manifest) {
        None => vec![Item { index: None, decoded: one(manifest) }],
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
            let message = "is not a list of manifests".to_owned();
            let fault = Fault { key: None, field: "items".into(), message };
            return vec![Item { index: None, decoded: Err(fault) }];
        }
    };
    let numbered = items.into_iter().enumerate();
    numbered
        .map(|(index, item)| {
            let decoded = match item {
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
            Item { index: Some(index), decoded }
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
    Fault { key: None, field: String::new(), message: format!("is {found}, not a manifest") }
}

fn one(fields: Map<String, Value>) -> Result<Decoded, Fault> {
    let text = |name: &str| match fields.get(name) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text.clone()),
        Some(Value::Null) | None => Err("is missing"),
        Some(_) => Err("is not a name"),
    };
    let fault = |field: &str, message: &str| Fault {
        key: None,
        field: field.to_owned(),
        message: message.to_owned(),
    };
    let api_version = text("apiVersion").map_err(|message| fault("apiVersion", message))?;
    let kind = text("kind").map_err(|message| fault("kind", message))?;
    match classify(&api_version, &kind) {
        Class::Read(kind) => {
            let object = typed(kind, fields)?;
            validate::object(&object).map_err(|(field, message)| Fault {
                key: Some(object.key()),
                field,
                message,
            })?;
            Ok(Decoded::Object(Box::new(object)))
        }
        Class::NotRead => Ok(Decoded::NotRead(api_version, kind)),
        Class::Unknown => Ok(Decoded::Unknown(api_version, kind)),
        Class::OtherVersion(expected) => {
            let message = format!("{kind} is read in {expected}, not in {api_version}");
            Err(Fault { key: None, field: "apiVersion".into(), message })
        }
        Class::NoSuchKind => {
            Err(Fault { key: None, field: "kind".into(), message: format!("{api_version} has no {kind:?}") })
        }
    }
}

enum Class {
    Read(ObjectKind),
    OtherVersion(&'static str),
    NotRead,
    NoSuchKind,
    Unknown,
}

fn classify(api_version: &str, kind: &str) -> Class {
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", api_version));
    let read = ObjectKind::ALL.into_iter().find(|known| known.as_str() == kind);
    match (group, read) {
        (
            "",
            Some(
                kind @ (ObjectKind::Namespace
                | ObjectKind::Node
                | ObjectKind::Pod
                | ObjectKind::Service
                | ObjectKind::Endpoints),
            ),
        ) => {
            if version == "v1" {
                Class::Read(kind)
            } else {
                Class::OtherVersion("v1")
            }
        }
        ("discovery.k8s.io", Some(kind @ ObjectKind::EndpointSlice)) => {
            if version == "v1" {
                Class::Read(kind)
            } else {
                Class::OtherVersion("discovery.k8s.io/v1")
            }
        }
        ("networking.istio.io", Some(kind @ (ObjectKind::ServiceEntry | ObjectKind::WorkloadEntry))) => {
            if ["v1", "v1beta1", "v1alpha3"].contains(&version) {
                Class::Read(kind)
            } else {
                Class::OtherVersion("networking.istio.io/v1, v1beta1 and v1alpha3")
            }
        }
        ("", _) if CORE_KINDS.contains(&kind) => Class::NotRead,
        ("networking.istio.io", _) if ISTIO_NETWORKING_KINDS.contains(&kind) => Class::NotRead,
        ("" | "discovery.k8s.io" | "networking.istio.io", _) => Class::NoSuchKind,
        ("apps" | "batch" | "autoscaling" | "policy", _) => Class::NotRead,
        _ if group.ends_with(".istio.io") || group.ends_with(".k8s.io") => Class::NotRead,
        _ => Class::Unknown,
    }
}

/// An Istio object as it is written.
#[derive(Deserialize)]
struct Resource<S> {
    metadata: Metadata,
    #[serde(default)]
    spec: S,
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
        ObjectKind::ServiceEntry => read(&key, fields).map(|entry| config(entry, ConfigSpec::ServiceEntry)),
        ObjectKind::WorkloadEntry => read(&key, fields).map(|entry| config(entry, ConfigSpec::WorkloadEntry)),
    }
}

fn config<S>(resource: Resource<S>, spec: impl FnOnce(S) -> ConfigSpec) -> Object {
    let Metadata { name, namespace, labels, annotations, creation_timestamp, .. } = resource.metadata;
    Object::Config(ConfigObject {
        meta: ConfigMeta {
            namespace: (*namespace).into(),
            name,
            labels: std::sync::Arc::unwrap_or_clone(labels),
            annotations,
            created: creation_timestamp.0,
        },
        spec: spec(resource.spec),
    })
}

fn read<T: DeserializeOwned>(key: &ObjectKey, fields: Value) -> Result<T, Fault> {
    serde_path_to_error::deserialize(fields).map_err(|error| {
        let path = error.path().to_string();
        Fault {
            key: Some(key.clone()),
            field: if path == "." { String::new() } else { path },
            message: error.inner().to_string(),
        }
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
    let fault = |field: &str, message: String| Fault { key: None, field: field.to_owned(), message };
    let Some(Value::Object(metadata)) = fields.get_mut("metadata") else {
        return Err(fault("metadata", format!("a {} needs a name", kind.as_str())));
    };
    let name = match metadata.get("name") {
        Some(Value::String(name)) if !name.is_empty() => name.as_str().into(),
        Some(Value::String(_)) | None => {
            return Err(fault("metadata.name", format!("a {} needs a name", kind.as_str())));
        }
        Some(other) => return Err(fault("metadata.name", format!("{other} is not a string"))),
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
        other => Err(fault("metadata.namespace", format!("{other} is not a string"))),
    }
}

#[cfg(test)]
mod tests;

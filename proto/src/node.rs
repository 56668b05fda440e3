//! Node ids and node metadata: identity and properties of the peer of a stream.
//!
//! A node id is `<type>~<ip>~<id>~<dns domain>`, for example
//! `sidecar~10.1.1.1~reviews-v1.default~default.svc.cluster.local`. Metadata is what the agent collected
//! from `ISTIO_META_*`; booleans and lists arrive as strings because a bootstrap writes them that way.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::google::protobuf::{self, value::Kind};

/// Type of a proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NodeType {
    /// A sidecar.
    Sidecar,
    /// A gateway.
    Router,
    /// A waypoint of an ambient mesh.
    Waypoint,
    /// A ztunnel of an ambient mesh.
    Ztunnel,
}

impl NodeType {
    /// Returns the spelling in node ids.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sidecar => "sidecar",
            Self::Router => "router",
            Self::Waypoint => "waypoint",
            Self::Ztunnel => "ztunnel",
        }
    }
}

impl fmt::Display for NodeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for NodeType {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        [Self::Sidecar, Self::Router, Self::Waypoint, Self::Ztunnel]
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| NodeIdError::Type(text.to_owned()))
    }
}

/// `<type>~<ip>~<id>~<dns domain>`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId {
    /// Type of the proxy.
    pub node_type: NodeType,
    /// First address of the proxy, as written; `INSTANCE_IPS` in the metadata has all addresses.
    pub ip: String,
    /// `<pod>.<namespace>`.
    pub id: String,
    /// `<namespace>.svc.<domain suffix>`; short host names are resolved against it.
    pub dns_domain: String,
}

/// Parse error of a node id.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NodeIdError {
    /// The id does not have four parts.
    #[error("node id {0:?} does not have the four parts <type>~<ip>~<id>~<dns domain>")]
    Parts(String),
    /// The first part is not a known type.
    #[error("node type {0:?} is none of sidecar, router, waypoint, ztunnel")]
    Type(String),
}

impl NodeId {
    /// Returns the namespace of the proxy: the first label of the DNS domain if there is more than one.
    pub fn namespace(&self) -> Option<&str> {
        self.dns_domain.split_once('.').map(|(first, _)| first).filter(|first| !first.is_empty())
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}~{}~{}~{}", self.node_type, self.ip, self.id, self.dns_domain)
    }
}

impl FromStr for NodeId {
    type Err = NodeIdError;

    fn from_str(text: &str) -> Result<Self, NodeIdError> {
        let parts: Vec<&str> = text.split('~').collect();
        let [node_type, ip, id, dns_domain] = parts.as_slice() else {
            return Err(NodeIdError::Parts(text.to_owned()));
        };
        Ok(Self {
            node_type: node_type.parse()?,
            ip: (*ip).to_owned(),
            id: (*id).to_owned(),
            dns_domain: (*dns_domain).to_owned(),
        })
    }
}

/// Traffic interception mode.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum InterceptionMode {
    /// iptables REDIRECT to 15001 and 15006.
    #[default]
    Redirect,
    /// iptables TPROXY; the source address is kept.
    Tproxy,
    /// No interception: listeners bind their own ports.
    None,
}

/// A boolean that a bootstrap writes as the string `"true"` or `"1"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StringBool(pub bool);

impl Serialize for StringBool {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.0 { "true" } else { "false" })
    }
}

impl<'de> Deserialize<'de> for StringBool {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match Value::deserialize(deserializer)? {
            Value::Bool(value) => Ok(Self(value)),
            Value::String(text) => match text.as_str() {
                "true" | "True" | "TRUE" | "t" | "T" | "1" => Ok(Self(true)),
                "false" | "False" | "FALSE" | "f" | "F" | "0" | "" => Ok(Self(false)),
                _ => Err(serde::de::Error::custom(format!("{text:?} is not a boolean"))),
            },
            other => Err(serde::de::Error::custom(format!("{other} is not a boolean"))),
        }
    }
}

/// A list that a bootstrap writes as one comma-separated string.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StringList(pub Vec<String>);

impl StringList {
    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl Serialize for StringList {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.join(","))
    }
}

impl<'de> Deserialize<'de> for StringList {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Either {
            Text(String),
            List(Vec<String>),
        }
        Ok(Self(match Either::deserialize(deserializer)? {
            Either::Text(text) if text.is_empty() => Vec::new(),
            Either::Text(text) => text.split(',').map(|item| item.trim().to_owned()).collect(),
            Either::List(list) => list,
        }))
    }
}

/// Node metadata: the keys that affect generated configuration, and all other keys unchanged.
///
/// Unknown keys are kept, because an `EnvoyFilter` may match any of them.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE", default)]
pub struct NodeMetadata {
    /// Pod name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Namespace of the proxy, also of its configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// All addresses of the proxy.
    #[serde(skip_serializing_if = "StringList::is_empty")]
    pub instance_ips: StringList,
    /// Labels of the workload.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Labels from the environment of the agent.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub static_labels: BTreeMap<String, String>,
    /// Annotations of the workload.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Registry (cluster id) of the proxy.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cluster_id: Option<String>,
    /// Network of the proxy, for split horizon.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<String>,
    /// Traffic interception mode.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub interception_mode: Option<InterceptionMode>,
    /// Service account of the workload.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_account: Option<String>,
    /// Version of the agent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub istio_version: Option<String>,
    /// Mesh the proxy belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mesh_id: Option<String>,
    /// Name of the workload (deployment), for telemetry.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_name: Option<String>,
    /// Kubernetes node, for `internalTrafficPolicy: Local`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub node_name: Option<String>,
    /// Container ports as a JSON list in a string, to resolve named target ports of an unknown pod.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pod_ports: Option<String>,
    /// Idle timeout of TCP and HTTP connections, for example `1h`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle_timeout: Option<String>,
    /// `"1"`: HTTP/1.0 requests are accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http10: Option<String>,
    /// Port of the `http_proxy` listener.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_proxy_port: Option<String>,
    /// Configuration generator: empty for Envoy, `grpc` for proxyless gRPC, `api` for configuration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub generator: Option<String>,
    /// The agent resolves DNS for the application.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dns_capture: Option<StringBool>,
    /// The proxy may not bind ports below 1024.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub unprivileged_pod: Option<StringBool>,
    /// Port of Envoy's health listener (15021): no listener is generated on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envoy_status_port: Option<u16>,
    /// Port of Envoy's Prometheus listener (15090): no listener is generated on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub envoy_prometheus_port: Option<u16>,
    /// `istio.workload` is discovered over xDS.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub metadata_discovery: Option<StringBool>,
    /// Subject alternative names of the control plane.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub pilot_san: Vec<String>,
    /// Path of the outlier event log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub outlier_log_path: Option<String>,
    /// Name of the SDS socket in its folder.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub workload_identity_socket_file: Option<String>,
    /// The proxy's `ProxyConfig` in protobuf's JSON mapping.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub proxy_config: Option<Value>,
    /// All other keys.
    #[serde(flatten)]
    pub raw: BTreeMap<String, Value>,
}

/// Metadata of the wrong type; names the key where serde reports it.
#[derive(Debug, thiserror::Error)]
#[error("node metadata: {0}")]
pub struct MetadataError(#[from] serde_json::Error);

impl NodeMetadata {
    /// Parses the struct of a discovery request. Nulls count as absent.
    pub fn from_struct(metadata: &protobuf::Struct) -> Result<Self, MetadataError> {
        let fields = metadata.fields.iter().map(|(key, value)| (key.clone(), to_json(value)));
        Ok(serde_json::from_value(Value::Object(fields.filter(|(_, value)| !value.is_null()).collect()))?)
    }

    /// Returns the networks in `REQUESTED_NETWORK_VIEW`; `None`: all networks.
    pub fn network_view(&self) -> Option<BTreeSet<String>> {
        let said = self.raw.get("REQUESTED_NETWORK_VIEW")?.clone();
        let StringList(names) = serde_json::from_value(said).ok()?;
        let seen: BTreeSet<String> = names.into_iter().filter(|name| !name.is_empty()).collect();
        (!seen.is_empty()).then_some(seen)
    }

    /// Returns the struct for a discovery request.
    pub fn to_struct(&self) -> protobuf::Struct {
        match serde_json::to_value(self) {
            Ok(Value::Object(fields)) => {
                protobuf::Struct { fields: fields.iter().map(|(k, v)| (k.clone(), from_json(v))).collect() }
            }
            // A map with string keys serialises to an object, whatever it holds.
            _ => protobuf::Struct::default(),
        }
    }
}

/// Converts a protobuf value to JSON. Whole numbers become integers again, because `Struct` holds
/// doubles only.
pub fn to_json(value: &protobuf::Value) -> Value {
    match &value.kind {
        None | Some(Kind::NullValue(_)) => Value::Null,
        Some(Kind::BoolValue(value)) => Value::Bool(*value),
        Some(Kind::StringValue(text)) => Value::String(text.clone()),
        Some(Kind::NumberValue(number)) => number_to_json(*number),
        Some(Kind::ListValue(list)) => Value::Array(list.values.iter().map(to_json).collect()),
        Some(Kind::StructValue(fields)) => {
            Value::Object(fields.fields.iter().map(|(key, value)| (key.clone(), to_json(value))).collect())
        }
    }
}

/// Doubles hold integers exactly up to 2^53.
const EXACT: f64 = 9_007_199_254_740_992.0;

#[expect(clippy::cast_possible_truncation, reason = "checked to be whole and within 2^53")]
fn number_to_json(number: f64) -> Value {
    if number.fract() == 0.0 && number.abs() <= EXACT {
        Value::from(number as i64)
    } else {
        Value::from(number)
    }
}

/// Converts JSON to a protobuf value.
pub fn from_json(value: &Value) -> protobuf::Value {
    let kind = match value {
        Value::Null => Kind::NullValue(0),
        Value::Bool(value) => Kind::BoolValue(*value),
        Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or_default()),
        Value::String(text) => Kind::StringValue(text.clone()),
        Value::Array(list) => {
            Kind::ListValue(protobuf::ListValue { values: list.iter().map(from_json).collect() })
        }
        Value::Object(fields) => Kind::StructValue(protobuf::Struct {
            fields: fields.iter().map(|(key, value)| (key.clone(), from_json(value))).collect(),
        }),
    };
    protobuf::Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_node_id_survives_the_round_trip() {
        let text = "sidecar~10.1.1.1~pod.ns~ns.svc.cluster.local";
        let id: NodeId = text.parse().unwrap();
        assert_eq!(
            (id.node_type, id.ip.as_str(), id.id.as_str(), id.namespace()),
            (NodeType::Sidecar, "10.1.1.1", "pod.ns", Some("ns"))
        );
        assert_eq!(id.to_string(), text);
    }

    #[test]
    fn what_is_not_a_node_id_is_refused() {
        for text in ["", "sidecar", "sidecar~1.1.1.1~a", "sidecar~1.1.1.1~a~b~c", "pod~1.1.1.1~a~b", "~~~"] {
            assert!(text.parse::<NodeId>().is_err(), "{text}");
        }
    }

    #[test]
    fn metadata_survives_the_round_trip_with_unknown_keys() {
        let metadata = json!({
            "NAME": "pod", "NAMESPACE": "ns", "INSTANCE_IPS": "10.1.1.1,10.1.1.2", "LABELS": {"app": "a"},
            "INTERCEPTION_MODE": "NONE", "DNS_CAPTURE": "true", "ENVOY_STATUS_PORT": 15021,
            "PILOT_SAN": ["istiod.istio-system.svc"], "CUSTOM": {"deep": [1, 2.5, null, true]},
        });
        let parsed: NodeMetadata = serde_json::from_value(metadata.clone()).unwrap();
        assert_eq!(parsed.instance_ips.0, ["10.1.1.1", "10.1.1.2"]);
        assert_eq!(parsed.interception_mode, Some(InterceptionMode::None));
        assert_eq!(parsed.dns_capture, Some(StringBool(true)));
        let again = NodeMetadata::from_struct(&parsed.to_struct()).unwrap();
        assert_eq!(again, parsed);
        assert_eq!(serde_json::to_value(&again).unwrap(), metadata);
    }

    #[test]
    fn metadata_of_the_wrong_shape_is_an_error() {
        for metadata in
            [json!({"LABELS": 3}), json!({"INTERCEPTION_MODE": "MAGIC"}), json!({"DNS_CAPTURE": "maybe"})]
        {
            assert!(serde_json::from_value::<NodeMetadata>(metadata.clone()).is_err(), "{metadata}");
        }
    }
}

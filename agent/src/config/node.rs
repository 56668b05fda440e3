//! Identity of the proxy: node id, `node.cluster`, locality and metadata for the control plane.
//!
//! Precedence of metadata, the last one wins: `ISTIO_META_*` of `proxyMetadata`, of the environment, `ISTIO_METAJSON_*`, values
//! of the agent. Metadata servers of cloud platforms are not queried: they delay a start by up to five seconds, and a locality
//! label has the same information.

use pilot_proto::mesh::proxy_config::ProxyConfig;
use pilot_proto::node::{NodeId, NodeMetadata, StringBool, StringList};
use serde_json::{Map, Value};

use super::cluster;
use super::env::{Environment, Switch, Variables};
use super::fault::Faults;
use super::files::Pod;

const META: &str = "ISTIO_META_";
const METAJSON: &str = "ISTIO_METAJSON_";
/// Label that changes with every revision of a deployment and has no other meaning.
const POD_TEMPLATE_HASH: &str = "pod-template-hash";
const LOCALITY: &str = "istio-locality";

/// Identity of the proxy.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Node {
    /// `sidecar~10.1.1.1~pod.ns~ns.svc.cluster.local`.
    pub(crate) id: NodeId,
    /// Service name of the proxy, for spans.
    pub(crate) cluster: String,
    /// Locality of the proxy.
    pub(crate) locality: Locality,
    /// Everything else.
    pub(crate) metadata: NodeMetadata,
}

/// Locality of a proxy; empty parts are unknown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Locality {
    /// Region of the cloud.
    pub(crate) region: String,
    /// In the region.
    pub(crate) zone: String,
    /// In the zone.
    pub(crate) sub_zone: String,
}

/// Values that the agent adds.
pub(super) struct NodeInputs<'a> {
    pub(super) id: NodeId,
    pub(super) addresses: Vec<String>,
    pub(super) pilot_san: Vec<String>,
    pub(super) outlier_log_path: &'a str,
    pub(super) version: &'a str,
    pub(super) proxy: &'a ProxyConfig,
    pub(super) variables: &'a Variables,
    pub(super) pod: &'a Pod,
}

// === impl Node ===

impl Node {
    pub(super) fn collect(facts: NodeInputs<'_>, environment: &Environment, faults: &mut Faults) -> Self {
        let raw = raw_metadata(facts.proxy, environment, faults);
        let static_labels = environment
            .get(&format!("{METAJSON}LABELS"))
            .and_then(|text| serde_json::from_str::<Map<String, Value>>(text).ok())
            .map(|labels| {
                labels.into_iter().filter_map(|(k, v)| Some((k, v.as_str()?.to_owned()))).collect()
            });
        let mut metadata = typed(raw, faults);
        if let Some(labels) = static_labels {
            metadata.static_labels = labels;
        }
        if !metadata.static_labels.is_empty() {
            metadata.labels = metadata.static_labels.clone();
        }
        if let Some(labels) = &facts.pod.labels {
            let of_pod = labels.iter().filter(|(key, _)| *key != POD_TEMPLATE_HASH);
            metadata.labels = metadata.static_labels.clone();
            metadata.labels.extend(of_pod.map(|(key, value)| (key.clone(), value.clone())));
        }
        metadata.annotations.extend(facts.pod.annotations.clone());
        let locality = locality(&mut metadata, facts.pod);
        let (id, proxy) = (facts.id.clone(), facts.proxy);
        add_facts(&mut metadata, facts);
        Self { id, cluster: cluster::name(proxy, &metadata), locality, metadata }
    }

    /// The value of a key that no field of ours has.
    pub(crate) fn raw(&self, key: &str) -> Option<&str> {
        self.metadata.raw.get(key).and_then(Value::as_str)
    }

    /// Such a key as a boolean; unset is false.
    pub(crate) fn raw_flag(&self, key: &str) -> bool {
        flag(&self.metadata, key)
    }
}

fn raw_metadata(proxy: &ProxyConfig, environment: &Environment, faults: &mut Faults) -> Map<String, Value> {
    let of_proxy = proxy.proxy_metadata.iter().filter_map(|(k, v)| Some((k.strip_prefix(META)?, v.as_str())));
    let mut raw: Map<_, _> =
        of_proxy.chain(environment.with_prefix(META)).map(|(k, v)| (k.to_owned(), Value::from(v))).collect();
    for (name, text) in environment.with_prefix(METAJSON) {
        match serde_json::from_str::<Map<String, Value>>(text) {
            Ok(fields) => raw.extend(fields),
            Err(error) => {
                faults.configuration(format!("{METAJSON}{name}"), format!("is not a JSON object: {error}"));
            }
        }
    }
    raw
}

/// Gives the keys we know their types; each key that has a wrong one is named.
fn typed(raw: Map<String, Value>, faults: &mut Faults) -> NodeMetadata {
    let known = raw.into_iter().filter(|(key, value)| {
        let alone = Value::Object(Map::from_iter([(key.clone(), value.clone())]));
        match serde_json::from_value::<NodeMetadata>(alone) {
            Ok(_) => true,
            Err(error) => {
                faults.configuration(format!("{META}{key}"), error);
                false
            }
        }
    });
    serde_json::from_value(Value::Object(known.collect())).unwrap_or_default()
}

/// Labels cannot hold `/`, so that a locality is written `region.zone.subzone`; metadata carries slashes.
fn locality(metadata: &mut NodeMetadata, pod: &Pod) -> Locality {
    let label = ["topology.istio.io/locality", LOCALITY].into_iter().find_map(|key| metadata.labels.get(key));
    let text = match label {
        Some(label) if label.contains('/') => label.clone(),
        Some(label) => label.replace('.', "/"),
        None => String::new(),
    };
    if text.is_empty() {
        return Locality::default();
    }
    metadata.labels.insert(LOCALITY.into(), text.clone());
    if pod.labels.is_none() {
        metadata.static_labels.insert(LOCALITY.into(), text.clone());
    }
    let mut parts = text.splitn(3, '/').map(ToOwned::to_owned);
    let mut next = || parts.next().unwrap_or_default();
    Locality { region: next(), zone: next(), sub_zone: next() }
}

fn add_facts(metadata: &mut NodeMetadata, facts: NodeInputs<'_>) {
    let NodeInputs { id: _, addresses, pilot_san, outlier_log_path, version, proxy, variables, pod: _ } =
        facts;
    let named = |text: &str| Some(text.to_owned()).filter(|text| !text.is_empty());
    let raw = &mut metadata.raw;
    for (key, switch) in [
        ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", Switch::ExitOnZeroActiveConnections),
        ("ENVOY_SKIP_DEPRECATED_LOGS", Switch::SkipDeprecatedLogs),
    ] {
        if variables.is_on(switch) {
            raw.insert(key.into(), "true".into());
        }
    }
    for (key, port) in [
        ("ENVOY_SECURE_METRICS_PORT", variables.secure_metrics_port),
        ("ENVOY_SECURE_MERGED_METRICS_PORT", variables.secure_merged_metrics_port),
    ] {
        if port != 0 {
            raw.insert(key.into(), port.into());
        }
    }
    if let Some(address) = &variables.dns_proxy_address {
        raw.insert("DNS_PROXY_ADDR".into(), address.as_str().into());
    }
    let discovery = variables.peer_metadata_discovery.unwrap_or_else(|| flag(metadata, "ENABLE_HBONE"));
    metadata.name = named(&variables.pod_name).or(metadata.name.take());
    metadata.namespace = named(&variables.pod_namespace).or(metadata.namespace.take());
    metadata.service_account = variables.service_account.clone().or(metadata.service_account.take());
    metadata.istio_version = metadata.istio_version.take().or_else(|| Some(version.to_owned()));
    metadata.outlier_log_path = named(outlier_log_path).or(metadata.outlier_log_path.take());
    metadata.instance_ips = StringList(addresses);
    metadata.pilot_san = pilot_san;
    metadata.envoy_status_port = Some(variables.envoy_status_port);
    metadata.envoy_prometheus_port = Some(variables.envoy_prometheus_port);
    metadata.workload_identity_socket_file = Some(variables.workload_identity_socket.clone());
    metadata.metadata_discovery = Some(StringBool(discovery));
    metadata.proxy_config = Some(Value::Object(proxy.to_json()));
}

fn flag(metadata: &NodeMetadata, key: &str) -> bool {
    let value = metadata.raw.get(key).cloned().unwrap_or_default();
    serde_json::from_value::<StringBool>(value).is_ok_and(|flag| flag.0)
}

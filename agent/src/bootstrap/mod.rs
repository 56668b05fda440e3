//! Envoy's bootstrap, rendered from a checked [`Config`].
//!
//! Pure: equal configurations give equal bytes, by which the agent detects changes. The structure, including names and order of
//! the top level, is Istio's, because dashboards, `EnvoyFilter`s and `istioctl` depend on it. Starts of Envoy are decided by the
//! supervisor.

pub(crate) mod argv;
mod clusters;
mod collectors;
mod listeners;
mod overload;
mod runtime;
mod stats;
#[cfg(test)]
mod tests;
mod tls;

use std::path::{Path, PathBuf};

use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::config::Config;
use crate::config::env::Switch;
use crate::config::node::Node;

/// A bootstrap and what belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// The bootstrap, as the file that Envoy reads.
    pub(crate) json: String,
    /// Files that the bootstrap refers to, to be written before it, for the owner alone.
    pub(crate) files: Vec<SideFile>,
    /// Warnings about settings without effect, a line each, for the log.
    pub(crate) warnings: Vec<String>,
}

/// A file that the bootstrap refers to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SideFile {
    /// Path of the file.
    pub(crate) path: PathBuf,
    /// A secret.
    pub(crate) contents: String,
}

/// The top level, in Istio's order.
#[derive(Serialize)]
struct TopLevel {
    node: Value,
    layered_runtime: Value,
    bootstrap_extensions: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats_flush_interval: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stats_eviction_interval: Option<String>,
    stats_config: Value,
    admin: Value,
    dynamic_resources: Value,
    static_resources: StaticResources,
    overload_manager: Value,
    #[serde(skip_serializing_if = "Option::is_none")]
    tracing: Option<Value>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stats_sinks: Vec<Value>,
    #[serde(skip_serializing_if = "Option::is_none")]
    cluster_manager: Option<Value>,
    deferred_stat_options: Value,
}

#[derive(Serialize)]
struct StaticResources {
    clusters: Vec<Value>,
    listeners: Vec<Value>,
}

/// Discovery of workloads over xDS.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Discovery {
    Workloads,
    Off,
}

/// Renders the bootstrap.
pub(crate) fn render(config: &Config) -> Rendered {
    if let Some(custom) = &config.envoy.custom_bootstrap {
        return Rendered { json: format!("{custom:#}\n"), files: Vec::new(), warnings: Vec::new() };
    }
    let mut warnings = Vec::new();
    let discovery = discovery(config);
    let collectors = collectors::render(config);
    let intervals = stats::intervals(&config.node, &mut warnings);
    let mut clusters = clusters::own(config);
    clusters.extend(collectors.clusters);
    if config.node.raw_flag("ENABLE_SELF_DISCOVERY") {
        clusters.push(clusters::local());
    }
    let bootstrap = TopLevel {
        node: node(&config.node),
        layered_runtime: runtime::layers(&config.proxy, &config.variables),
        bootstrap_extensions: extensions(discovery),
        stats_flush_interval: intervals.flush,
        stats_eviction_interval: intervals.eviction,
        stats_config: stats::config(config, discovery, &mut warnings),
        admin: admin(config),
        dynamic_resources: dynamic_resources(config),
        static_resources: StaticResources { clusters, listeners: listeners::render(config) },
        overload_manager: overload::render(config),
        tracing: collectors.tracing,
        stats_sinks: collectors.sinks,
        cluster_manager: cluster_manager(&config.node, &mut warnings),
        deferred_stat_options: json!({"enable_deferred_creation_stats": true}),
    };
    // Strings, numbers and maps with string keys: there is nothing that could fail.
    let json = serde_json::to_string_pretty(&bootstrap).unwrap_or_default() + "\n";
    Rendered { json, files: collectors.files, warnings }
}

/// Returns the discovery mode. Off with the state-of-the-world protocol: the extension requires delta.
fn discovery(config: &Config) -> Discovery {
    let wanted = config.node.metadata.metadata_discovery.is_some_and(|wanted| wanted.0);
    if wanted && config.variables.is_on(Switch::DeltaXds) { Discovery::Workloads } else { Discovery::Off }
}

fn node(node: &Node) -> Value {
    let locality = &node.locality;
    let parts = [("region", &locality.region), ("zone", &locality.zone), ("sub_zone", &locality.sub_zone)];
    let written = parts.into_iter().filter(|(_, part)| !part.is_empty());
    let locality: Map<_, _> = written.map(|(name, part)| (name.to_owned(), part.as_str().into())).collect();
    json!({
        "id": node.id.to_string(),
        "cluster": node.cluster,
        "locality": locality,
        "metadata": node.metadata,
    })
}

fn extensions(discovery: Discovery) -> Vec<Value> {
    let typed = |name: &str, type_url: &str, value: Value| {
        json!({"name": name, "typed_config": {
            "@type": "type.googleapis.com/udpa.type.v1.TypedStruct", "type_url": type_url, "value": value,
        }})
    };
    let workloads = typed(
        "metadata_discovery",
        "type.googleapis.com/istio.workload.BootstrapExtension",
        json!({"config_source": {"ads": {}}}),
    );
    let internal = typed(
        "envoy.bootstrap.internal_listener",
        "type.googleapis.com/envoy.extensions.bootstrap.internal_listener.v3.InternalListener",
        json!({"buffer_size_kb": 64}),
    );
    match discovery {
        Discovery::Workloads => vec![workloads, internal],
        Discovery::Off => vec![internal],
    }
}

fn admin(config: &Config) -> Value {
    json!({
        "access_log": [{"name": "envoy.access_loggers.file", "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": "/dev/null",
        }}],
        "profile_path": "/var/lib/istio/data/envoy.prof",
        "address": {"socket_address": {
            "address": config.family.localhost(), "port_value": config.proxy.proxy_admin_port,
        }},
    })
}

fn dynamic_resources(config: &Config) -> Value {
    let api_type = if config.variables.is_on(Switch::DeltaXds) { "DELTA_GRPC" } else { "GRPC" };
    // No time-out on the first fetch: a proxy without configuration must wait, not serve nothing.
    let ads = json!({"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"});
    json!({
        "lds_config": ads,
        "cds_config": ads,
        "ads_config": {
            "api_type": api_type,
            "set_node_on_first_message_only": true,
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "xds-grpc"}}],
        },
    })
}

fn cluster_manager(node: &Node, warnings: &mut Vec<String>) -> Option<Value> {
    let mut manager = Map::new();
    if node.raw_flag("ENABLE_SELF_DISCOVERY") {
        manager.insert("local_cluster_name".into(), "local_cluster".into());
    }
    if let Some(path) = &node.metadata.outlier_log_path {
        manager.insert("outlier_detection".into(), json!({"event_log_path": path}));
    }
    if let Some(text) = node.raw("LOAD_STATS_CONFIG_JSON") {
        match serde_json::from_str::<Value>(text) {
            Ok(load_stats) => drop(manager.insert("load_stats_config".into(), load_stats)),
            Err(error) => {
                warnings.push(format!("ISTIO_META_LOAD_STATS_CONFIG_JSON: {error}; no load is reported"));
            }
        }
    }
    if manager.is_empty() {
        return None;
    }
    manager.insert("enable_deferred_cluster_creation".into(), true.into());
    Some(Value::Object(manager))
}

/// A file in the folder of the bootstrap.
fn beside(config_path: &str, name: &str) -> PathBuf {
    Path::new(config_path).join(name)
}

/// Sets a field of an object.
fn set(object: &mut Value, field: &str, value: impl Into<Value>) {
    if let Value::Object(fields) = object {
        fields.insert(field.to_owned(), value.into());
    }
}

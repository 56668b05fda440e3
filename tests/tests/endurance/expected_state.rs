//! State of an Envoy, expected or read from its admin: clusters with their endpoints, listeners, virtual hosts.
//!
//! Static resources, and those that do not belong to a service, are left out.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context, Result};
use pilot_tests::mesh::Sidecar;
use pilot_tests::net::get_ok;
use serde_json::Value;

/// Resources of services.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct EnvoyState {
    /// Endpoints by cluster.
    pub(crate) clusters: BTreeMap<String, BTreeSet<String>>,
    /// Names of listeners.
    pub(crate) listeners: BTreeSet<String>,
    /// Virtual hosts by route configuration. An Envoy may have more of these: a draining listener keeps its own.
    pub(crate) hosts: BTreeMap<String, BTreeSet<String>>,
}

// === impl EnvoyState ===

impl EnvoyState {
    /// Reads the state of the sidecar's Envoy, without resources that are warming.
    pub(crate) async fn of(sidecar: &Sidecar) -> Result<Self> {
        let mut state = Self::default();
        let page = async |path: &str| -> Result<Value> {
            serde_json::from_str(&get_ok(sidecar.admin, path).await?).with_context(|| path.to_owned())
        };
        for cluster in list(&page("/clusters?format=json").await?, "/cluster_statuses") {
            let name = text(cluster, "/name");
            if name.starts_with("outbound|") {
                state.clusters.insert(name, list(cluster, "/host_statuses").map(endpoint).collect());
            }
        }
        for listener in list(&page("/listeners?format=json").await?, "/listener_statuses") {
            let name = text(listener, "/name");
            if name.starts_with("127.0.0.1_") {
                state.listeners.insert(name);
            }
        }
        for dumped in list(&page("/config_dump?resource=dynamic_route_configs").await?, "/configs") {
            let hosts = list(dumped, "/route_config/virtual_hosts").map(|host| text(host, "/name"));
            let hosts = hosts.filter(|name| name != "allow_any").collect();
            state.hosts.insert(text(dumped, "/route_config/name"), hosts);
        }
        Ok(state)
    }

    /// Returns the differences between this expected state and an actual one.
    pub(crate) fn difference(&self, actual: &Self) -> Option<String> {
        let mut differences = Vec::new();
        for (name, endpoints) in &self.clusters {
            match actual.clusters.get(name) {
                None => differences.push(format!("no cluster {name}")),
                Some(actual) if actual != endpoints => {
                    differences.push(format!("{name} has endpoints {actual:?} instead of {endpoints:?}"));
                }
                Some(_) => {}
            }
        }
        let gone = actual.clusters.keys().filter(|name| !self.clusters.contains_key(*name));
        differences.extend(gone.map(|name| format!("{name} is still there")));
        if self.listeners != actual.listeners {
            differences.push(format!("listeners {:?} instead of {:?}", actual.listeners, self.listeners));
        }
        for (route, hosts) in &self.hosts {
            if actual.hosts.get(route) != Some(hosts) {
                differences
                    .push(format!("route {route} has {:?} instead of {hosts:?}", actual.hosts.get(route)));
            }
        }
        (!differences.is_empty()).then(|| differences.join("; "))
    }
}

fn list<'a>(value: &'a Value, pointer: &str) -> impl Iterator<Item = &'a Value> {
    value.pointer(pointer).and_then(Value::as_array).into_iter().flatten()
}

fn text(value: &Value, pointer: &str) -> String {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
}

fn endpoint(host: &Value) -> String {
    let port = host.pointer("/address/socket_address/port_value").and_then(Value::as_u64).unwrap_or_default();
    format!("{}:{port}", text(host, "/address/socket_address/address"))
}

//! Launch specification of a revision: the bootstrap, the configuration, and the address of the admin. Reads and writes
//! no file.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};

use anyhow::Context;
use serde_json::{Value, json};

use crate::{
    config::Config,
    desired::{ConfigHash, DesiredState},
    envoy_admin::{AdminAddress, EnvoyAdmin},
    status::Expected,
    supervisor::Revision,
};

/// Specifications that may still be started.
#[derive(Debug)]
pub(super) struct LaunchSpecs {
    specs: BTreeMap<Revision, Arc<LaunchSpec>>,
    latest: Revision,
    access: AdminAccess,
}

/// Specification of the Envoys of one revision.
#[derive(Debug)]
pub(super) struct LaunchSpec {
    pub(super) desired: Arc<DesiredState>,
    pub(super) expected: Expected,
    bootstrap: Value,
    admin: AdminBinding,
}

/// Access to Envoy's admin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AdminAccess {
    /// Only the agent, which proxies a part of it to others.
    AgentOnly,
    /// Every client that reaches the port: `--rawAdmin`.
    Unrestricted,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum AdminBinding {
    /// A socket for each Envoy; the agent serves this port in its place.
    Socket(SocketAddr),
    Port(SocketAddr),
}

// === impl LaunchSpecs ===

impl LaunchSpecs {
    /// Creates the table with the first revision.
    pub(super) fn new(first: Arc<DesiredState>, access: AdminAccess) -> anyhow::Result<Self> {
        let spec = LaunchSpec::new(first, access)?;
        let specs = BTreeMap::from([(Revision::FIRST, Arc::new(spec))]);
        Ok(Self { specs, latest: Revision::FIRST, access })
    }

    pub(super) fn get(&self, revision: Revision) -> Option<&Arc<LaunchSpec>> {
        self.specs.get(&revision)
    }

    /// Returns the specification that was added last.
    pub(super) fn latest(&self) -> Option<&Arc<LaunchSpec>> {
        self.specs.get(&self.latest)
    }

    /// Returns the revision of a desired state: one in use that is the same, or a new one. Specifications that cannot be
    /// started any more are removed.
    pub(super) fn add_changed(
        &mut self,
        desired: Arc<DesiredState>,
        in_use: &[Revision],
    ) -> anyhow::Result<Revision> {
        let same = |revision: &Revision| self.hash(*revision) == Some(desired.hash);
        if let Some(&revision) = in_use.iter().find(|revision| same(revision)) {
            return Ok(revision);
        }
        self.add(desired, in_use)
    }

    /// Adds a new revision, even of a state that is in use.
    pub(super) fn add(
        &mut self,
        desired: Arc<DesiredState>,
        in_use: &[Revision],
    ) -> anyhow::Result<Revision> {
        let spec = LaunchSpec::new(desired, self.access)?;
        let before = self.latest;
        self.specs.retain(|revision, _| *revision == before || in_use.contains(revision));
        self.latest = self.latest.next();
        self.specs.insert(self.latest, Arc::new(spec));
        Ok(self.latest)
    }

    fn hash(&self, revision: Revision) -> Option<ConfigHash> {
        self.get(revision).map(|spec| spec.desired.hash)
    }
}

// === impl LaunchSpec ===

impl LaunchSpec {
    fn new(desired: Arc<DesiredState>, access: AdminAccess) -> anyhow::Result<Self> {
        let bootstrap: Value =
            serde_json::from_str(&desired.rendered.json).context("read the rendered bootstrap")?;
        let overlay = desired.config.envoy.overlay.as_deref().map(serde_json::from_str::<Value>);
        let overlay = overlay.transpose().context("read the bootstrap's overlay")?.unwrap_or_default();
        let pointer = "/admin/address";
        let admin = match (access, overlay.pointer(pointer)) {
            // The overlay would override the agent's socket.
            (AdminAccess::Unrestricted, _) | (AdminAccess::AgentOnly, Some(_)) => {
                let placed = if overlay.pointer(pointer).is_some() { &overlay } else { &bootstrap };
                AdminBinding::Port(port(placed, &desired.config)?)
            }
            (AdminAccess::AgentOnly, None) => AdminBinding::Socket(port(&bootstrap, &desired.config)?),
        };
        let expected = expected(&bootstrap);
        Ok(Self { desired, expected, bootstrap, admin })
    }

    pub(super) fn config(&self) -> &Config {
        &self.desired.config
    }

    /// Returns the port on which the agent proxies the admin; `None` if Envoy serves it.
    pub(super) fn admin_port(&self) -> Option<SocketAddr> {
        match self.admin {
            AdminBinding::Socket(port) => Some(port),
            AdminBinding::Port(_) => None,
        }
    }

    /// Returns the bootstrap of one Envoy and its admin, which is at `socket` unless users chose an address.
    pub(super) fn bootstrap(&self, socket: &Path) -> (String, EnvoyAdmin) {
        let mut bootstrap = self.bootstrap.clone();
        let admin = match self.admin {
            AdminBinding::Port(port) => EnvoyAdmin::at(port),
            AdminBinding::Socket(port) => {
                let pipe = json!({"pipe": {"path": socket, "mode": 0o600}});
                if let Some(clusters) = bootstrap.pointer_mut("/static_resources/clusters") {
                    redirect(clusters, port, &json!({"pipe": {"path": socket}}));
                }
                if let Some(fields) = bootstrap.as_object_mut() {
                    let admin = fields.entry("admin").or_insert_with(|| json!({}));
                    if let Some(admin) = admin.as_object_mut() {
                        admin.insert("address".into(), pipe);
                    }
                }
                EnvoyAdmin::at(AdminAddress::Unix(socket.to_owned()))
            }
        };
        (format!("{bootstrap:#}\n"), admin)
    }
}

/// Address of the admin; a custom bootstrap may move it.
fn port(bootstrap: &Value, config: &Config) -> anyhow::Result<SocketAddr> {
    let localhost: IpAddr = config.family.localhost().parse().context("the loopback address")?;
    let socket = bootstrap.pointer("/admin/address/socket_address");
    let port =
        socket.and_then(|socket| socket.get("port_value")?.as_u64()).and_then(|port| port.try_into().ok());
    let ip = socket.and_then(|socket| socket.get("address")?.as_str()?.parse().ok());
    // An admin on the wildcard address also listens on loopback.
    let ip = ip.filter(|ip: &IpAddr| !ip.is_unspecified()).unwrap_or(localhost);
    Ok(SocketAddr::new(ip, port.unwrap_or(config.proxy.proxy_admin_port)))
}

/// Points clusters that lead to the admin's port at the socket instead, such as that of the scrape port.
fn redirect(value: &mut Value, from: SocketAddr, to: &Value) {
    match value {
        Value::Object(fields) => {
            let is_admin = fields.get("socket_address").is_some_and(|socket| {
                let ip = socket.get("address").and_then(|ip| ip.as_str()?.parse::<IpAddr>().ok());
                let port = socket.get("port_value").and_then(Value::as_u64);
                ip.is_some_and(|ip| ip.is_loopback()) && port == Some(from.port().into())
            });
            if is_admin {
                *value = to.clone();
            } else {
                fields.values_mut().for_each(|value| redirect(value, from, to));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| redirect(value, from, to)),
        _ => {}
    }
}

/// xDS resources that the bootstrap subscribes to; a custom one may need no control plane.
fn expected(bootstrap: &Value) -> Expected {
    let subscribes = |field: &str| bootstrap.pointer(&format!("/dynamic_resources/{field}")).is_some();
    match (subscribes("cds_config"), subscribes("lds_config")) {
        (true, true) => Expected::ClustersAndListeners,
        (false, true) => Expected::Listeners,
        (true, false) => Expected::Clusters,
        (false, false) => Expected::Nothing,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_of_the_admin_port_are_redirected_to_the_admin_socket() {
        let at =
            |port: u64| json!({"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}});
        let mut clusters =
            json!([{"name": "prometheus_stats", "endpoint": at(15000)}, {"endpoint": at(15020)}]);
        let pipe = json!({"pipe": {"path": "run/admin"}});
        redirect(&mut clusters, "127.0.0.1:15000".parse().unwrap(), &pipe);
        let expected =
            json!([{"name": "prometheus_stats", "endpoint": {"address": pipe}}, {"endpoint": at(15020)}]);
        assert_eq!(clusters, expected);
    }

    #[test]
    fn expected_resources_follow_the_bootstraps_subscriptions() {
        let ads = json!({"ads": {}});
        let both = json!({"dynamic_resources": {"cds_config": ads, "lds_config": ads}});
        assert_eq!(expected(&both), Expected::ClustersAndListeners);
        assert_eq!(expected(&json!({"dynamic_resources": {"lds_config": ads}})), Expected::Listeners);
        assert_eq!(expected(&json!({"static_resources": {}})), Expected::Nothing);
    }
}

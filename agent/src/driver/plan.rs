//! What one revision is: everything a start needs, and how the agent reaches the Envoy it makes.
//!
//! Deliberately reads no file: what is desired has been read, and what is started is written by others.

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
    envoy_admin::{Address, EnvoyAdmin},
    status::Expected,
    supervisor::Revision,
};

/// Everything that was wanted and may still be started.
#[derive(Debug)]
pub(super) struct Plans {
    known: BTreeMap<Revision, Arc<Plan>>,
    latest: Revision,
    access: Access,
}

/// What an Envoy of one revision is started with.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) desired: Arc<DesiredState>,
    pub(super) expected: Expected,
    bootstrap: Value,
    admin: Admin,
}

/// Who may reach Envoy's admin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// The agent, which lets others have a part of it.
    Agent,
    /// Whoever reaches the port: `--rawAdmin`.
    Everybody,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admin {
    /// On a socket of its own for each Envoy. On the port it would have had, others find the agent.
    Socket(SocketAddr),
    Port(SocketAddr),
}

// === impl Plans ===

impl Plans {
    /// With the first revision.
    pub(super) fn new(first: Arc<DesiredState>, access: Access) -> anyhow::Result<Self> {
        let plan = Plan::new(first, access)?;
        let known = BTreeMap::from([(Revision::FIRST, Arc::new(plan))]);
        Ok(Self { known, latest: Revision::FIRST, access })
    }

    pub(super) fn get(&self, revision: Revision) -> Option<&Arc<Plan>> {
        self.known.get(&revision)
    }

    /// The one wanted last.
    pub(super) fn latest(&self) -> Option<&Arc<Plan>> {
        self.known.get(&self.latest)
    }

    /// The revision of what is desired: that which runs, if it is the same, else a new one. What nobody can
    /// start any more is forgotten.
    pub(super) fn desire(
        &mut self,
        desired: Arc<DesiredState>,
        running: impl Iterator<Item = Revision> + Clone,
    ) -> anyhow::Result<Revision> {
        let same = |revision: &Revision| self.hash(*revision) == Some(desired.hash);
        if let Some(revision) = running.clone().find(same) {
            return Ok(revision);
        }
        self.desire_again(desired, running)
    }

    /// A new revision, though nothing in it may be new.
    pub(super) fn desire_again(
        &mut self,
        desired: Arc<DesiredState>,
        running: impl Iterator<Item = Revision>,
    ) -> anyhow::Result<Revision> {
        let plan = Plan::new(desired, self.access)?;
        let (before, in_use) = (self.latest, running.collect::<Vec<_>>());
        self.known.retain(|revision, _| *revision == before || in_use.contains(revision));
        self.latest = self.latest.next();
        self.known.insert(self.latest, Arc::new(plan));
        Ok(self.latest)
    }

    fn hash(&self, revision: Revision) -> Option<ConfigHash> {
        self.get(revision).map(|plan| plan.desired.hash)
    }
}

// === impl Plan ===

impl Plan {
    fn new(desired: Arc<DesiredState>, access: Access) -> anyhow::Result<Self> {
        let bootstrap: Value =
            serde_json::from_str(&desired.rendered.json).context("read the rendered bootstrap")?;
        let overlay = desired.config.envoy.overlay.as_deref().map(serde_json::from_str::<Value>);
        let overlay = overlay.transpose().context("read the bootstrap's overlay")?.unwrap_or_default();
        let own = "/admin/address";
        let admin = match (access, overlay.pointer(own)) {
            // What lies over the bootstrap would win over a socket of ours.
            (Access::Everybody, _) | (Access::Agent, Some(_)) => {
                let placed = if overlay.pointer(own).is_some() { &overlay } else { &bootstrap };
                Admin::Port(port(placed, &desired.config)?)
            }
            (Access::Agent, None) => Admin::Socket(port(&bootstrap, &desired.config)?),
        };
        let expected = expected(&bootstrap);
        Ok(Self { desired, expected, bootstrap, admin })
    }

    pub(super) fn config(&self) -> &Config {
        &self.desired.config
    }

    /// Where the agent is to let others have a part of the admin; `None`: they have all of it.
    pub(super) fn admin_port(&self) -> Option<SocketAddr> {
        match self.admin {
            Admin::Socket(port) => Some(port),
            Admin::Port(_) => None,
        }
    }

    /// The bootstrap of one Envoy, and where its admin will be: at `socket`, if that is up to us.
    pub(super) fn bootstrap(&self, socket: &Path) -> (String, EnvoyAdmin) {
        let mut bootstrap = self.bootstrap.clone();
        let admin = match self.admin {
            Admin::Port(port) => EnvoyAdmin::at(port),
            Admin::Socket(port) => {
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
                EnvoyAdmin::at(Address::Unix(socket.to_owned()))
            }
        };
        (format!("{bootstrap:#}\n"), admin)
    }
}

/// A bootstrap of the user's own may put the admin elsewhere.
fn port(bootstrap: &Value, config: &Config) -> anyhow::Result<SocketAddr> {
    let localhost: IpAddr = config.family.localhost().parse().context("the loopback address")?;
    let socket = bootstrap.pointer("/admin/address/socket_address");
    let port =
        socket.and_then(|socket| socket.get("port_value")?.as_u64()).and_then(|port| port.try_into().ok());
    let ip = socket.and_then(|socket| socket.get("address")?.as_str()?.parse().ok());
    // An admin that listens everywhere also listens here.
    let ip = ip.filter(|ip: &IpAddr| !ip.is_unspecified()).unwrap_or(localhost);
    Ok(SocketAddr::new(ip, port.unwrap_or(config.proxy.proxy_admin_port)))
}

/// Envoy's own scrape port asks its own admin: by the shortest way, wherever that is.
fn redirect(value: &mut Value, from: SocketAddr, to: &Value) {
    match value {
        Value::Object(fields) => {
            let is_it = fields.get("socket_address").is_some_and(|socket| {
                let ip = socket.get("address").and_then(|ip| ip.as_str()?.parse::<IpAddr>().ok());
                let port = socket.get("port_value").and_then(Value::as_u64);
                ip.is_some_and(|ip| ip.is_loopback()) && port == Some(from.port().into())
            });
            if is_it {
                *value = to.clone();
            } else {
                fields.values_mut().for_each(|value| redirect(value, from, to));
            }
        }
        Value::Array(values) => values.iter_mut().for_each(|value| redirect(value, from, to)),
        _ => {}
    }
}

/// A bootstrap of the user's own may need no control plane.
fn expected(bootstrap: &Value) -> Expected {
    let asks = |field: &str| bootstrap.pointer(&format!("/dynamic_resources/{field}")).is_some();
    match (asks("cds_config"), asks("lds_config")) {
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
    fn envoys_own_way_to_its_admin_follows_the_admin() {
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
    fn readiness_waits_for_what_the_bootstrap_asks_for() {
        let ads = json!({"ads": {}});
        let both = json!({"dynamic_resources": {"cds_config": ads, "lds_config": ads}});
        assert_eq!(expected(&both), Expected::ClustersAndListeners);
        assert_eq!(expected(&json!({"dynamic_resources": {"lds_config": ads}})), Expected::Listeners);
        assert_eq!(expected(&json!({"static_resources": {}})), Expected::Nothing);
    }
}

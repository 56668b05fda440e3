//! Changes that an event makes to the world, as keys of a push.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;

use super::ServiceKey;
use super::resolve::endpoints_are_config;
use crate::model::{ChangeKind, ConfigKey, ConfigKind, Endpoint, Health, Namespace, Resolution};

/// Changes that an event makes. Empty: nothing observable.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Changed objects.
    pub keys: BTreeSet<ConfigKey>,
    /// An endpoint that took traffic was removed; the push is urgent.
    pub endpoint_removed: bool,
}

// === impl Changes ===

impl Changes {
    /// Returns `true` if nothing changed.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Adds the changes of another event.
    pub fn merge(&mut self, other: Self) {
        self.keys.extend(other.keys);
        self.endpoint_removed |= other.endpoint_removed;
    }

    pub(super) fn service(&mut self, (host, namespace): &ServiceKey) {
        self.add(ChangeKind::Service, namespace.clone(), host.as_str().into());
    }

    pub(super) fn endpoints(
        &mut self,
        (host, namespace): &ServiceKey,
        resolution: Option<&Resolution>,
        before: &[Endpoint],
        after: &[Endpoint],
    ) {
        let kind = if resolution.is_some_and(endpoints_are_config) {
            ChangeKind::Service
        } else {
            ChangeKind::Endpoints
        };
        self.add(kind, namespace.clone(), host.as_str().into());
        let identities = |endpoints: &[Endpoint]| -> BTreeSet<Arc<str>> {
            endpoints
                .iter()
                .map(|endpoint| endpoint.service_account.clone())
                .filter(|id| !id.is_empty())
                .collect()
        };
        // Clusters with mutual TLS contain the identities of their servers.
        if identities(before) != identities(after) {
            self.service(&(host.clone(), namespace.clone()));
        }
        let place =
            |endpoint: &Endpoint| (endpoint.address.clone(), endpoint.port, endpoint.port_name.clone());
        let serving: BTreeSet<_> =
            after.iter().filter(|endpoint| endpoint.health == Health::Healthy).map(place).collect();
        self.endpoint_removed |= before
            .iter()
            .filter(|endpoint| endpoint.health == Health::Healthy)
            .any(|endpoint| !serving.contains(&place(endpoint)));
    }

    pub(super) fn config(&mut self, kind: ConfigKind, namespace: &Namespace, name: &Arc<str>) {
        self.add(ChangeKind::Config(kind), namespace.clone(), name.clone());
    }

    pub(super) fn mesh(&mut self) {
        self.add(ChangeKind::MeshConfig, "".into(), "mesh".into());
    }

    pub(super) fn proxy(&mut self, ip: IpAddr) {
        self.add(ChangeKind::Proxy, "".into(), ip.to_string().into());
    }

    fn add(&mut self, kind: ChangeKind, namespace: Namespace, name: Arc<str>) {
        self.keys.insert(ConfigKey { kind, namespace, name });
    }
}

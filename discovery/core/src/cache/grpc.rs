//! Inputs of resources of a gRPC library with xDS.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use super::{Generated, Made, View};
use crate::generate::cluster::ClusterRole;
use crate::generate::grpc::{
    GrpcListener, SERVER_LISTENER_PREFIX, authority, listener, resolver_candidates, split_authority,
};
use crate::generate::traffic_policy::MergedTrafficPolicy;
use crate::model::{ClusterName, Direction, NameSet};
use crate::scope::Visible;

// === impl View ===

impl View<'_> {
    pub(super) fn grpc_listeners(self, names: Option<&NameSet>) -> Generated {
        let mut generated = Generated::default();
        let listeners = match names {
            None => self
                .every_target()
                .map(|(seen, port)| client(seen, port, seen.service.hostname.as_str()))
                .collect(),
            Some(names) => names.iter().flat_map(|name| self.asked(name)).collect::<Vec<_>>(),
        };
        for inputs in listeners {
            generated.take(
                &self.cache.grpc_listeners.get(&inputs, |inputs| {
                    Made::run(&inputs.name(), || (Some(listener(inputs)), Vec::new()))
                }),
            );
        }
        generated
    }

    pub(super) fn grpc_clusters(self, names: Option<&NameSet>) -> Generated {
        let mut generated = Generated::default();
        let clusters: Vec<ClusterName> = match names {
            None => self
                .every_target()
                .map(|(seen, port)| ClusterName::outbound(port, &seen.service.hostname))
                .collect(),
            Some(names) => names.iter().filter_map(|name| self.target(name)).map(|(name, _)| name).collect(),
        };
        let by_mesh = Arc::new(MergedTrafficPolicy::of(None, None, 0, &self.mesh_policy()));
        for name in clusters {
            generated.take(&self.cluster(ClusterRole::Proxyless(name), by_mesh.clone()));
        }
        generated
    }

    pub(super) fn grpc_routes(self, names: &NameSet) -> Generated {
        let mut generated = Generated::default();
        for name in names {
            if let Some((target, seen)) = self.target(name) {
                generated.take(&self.target_routes(name, seen, target.port));
            }
        }
        generated
    }

    /// Returns all that a client can connect to: each port of each service.
    fn every_target(&self) -> impl Iterator<Item = (&Visible, u16)> {
        self.scope.services().iter().flat_map(|seen| {
            let ports = seen.ports().filter(|port| seen.service.is_proxied_at(port));
            ports.map(|port| port.port).collect::<BTreeSet<u16>>().into_iter().map(move |port| (seen, port))
        })
    }

    /// Returns the service and port of a cluster name.
    fn target(&self, name: &str) -> Option<(ClusterName, &Visible)> {
        let name: ClusterName = name.parse().ok()?;
        let seen = self.scope.by_host(&name.host)?;
        let ours = name.direction == Direction::Outbound && seen.has_subset(&name.subset);
        (ours && seen.port(name.port).is_some()).then_some((name, seen))
    }

    /// Returns the listeners of a name: `host:port`, `host` for all its ports, or a server's own.
    fn asked(&self, name: &str) -> Vec<GrpcListener> {
        if let Some(own) = name.strip_prefix(SERVER_LISTENER_PREFIX) {
            return self.server(own).into_iter().collect();
        }
        let (host, port) = split_authority(name).map_or((name, None), |(host, port)| (host, Some(port)));
        let meant = resolver_candidates(host, &self.proxy.id.dns_domain);
        let Some(seen) = meant.iter().find_map(|full| self.scope.by_host(full.as_str())) else {
            return Vec::new();
        };
        let ports: BTreeSet<u16> = seen
            .service
            .ports
            .iter()
            .filter(|declared| seen.service.is_proxied_at(declared))
            .filter(|declared| port.is_none_or(|port| declared.port == port))
            .map(|declared| declared.port)
            .collect();
        ports.into_iter().map(|port| client(seen, port, host)).collect()
    }

    fn server(&self, own: &str) -> Option<GrpcListener> {
        let (host, port) = split_authority(own)?;
        let served = self.push.service_targets(self.proxy).iter().any(|target| target.target_port == port);
        served.then(|| GrpcListener::Server { host: host.to_owned(), port })
    }
}

fn client(seen: &Visible, port: u16, spelled: &str) -> GrpcListener {
    let unspecified = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
    GrpcListener::Client {
        name: authority(spelled, port),
        address: seen.service.addresses.first().map_or(unspecified, |vip| vip.ip),
        cluster: ClusterName::outbound(port, &seen.service.hostname),
    }
}

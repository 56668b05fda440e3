//! Inputs of inbound clusters: for ports of services, or those of the ingress listeners of a `Sidecar`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use pilot_proto::mesh::InboundTrafficMode;

use super::clusters::rule_name;
use super::{View, settings};
use crate::api::destination_rule::ConnectionPool;
use crate::api::sidecar::{IngressListener, SidecarPort};
use crate::generate::cluster::{ClusterRole, InboundCluster, WorkloadAddress};
use crate::generate::traffic_policy::{MergedTrafficPolicy, MeshPolicy};
use crate::generate::{IpFamilies, inbound};
use crate::model::{Namespace, Protocol, Proxy, Service, ServicePort, Shared, TargetPort};
use crate::push::{Rule, ServiceTarget};

// === impl View ===

impl View<'_> {
    pub(super) fn inbound(self, mesh: &Arc<MeshPolicy>) -> Vec<(ClusterRole, Arc<MergedTrafficPolicy>)> {
        let targets = self.push.service_targets(self.proxy);
        let declared = self.scope.sidecar_spec().map(|spec| spec.ingress.as_slice()).unwrap_or_default();
        let found: Vec<InboundCluster> = if declared.is_empty() {
            let interception = settings::interception(self.proxy, &targets);
            let reserved_ports = settings::reserved_ports(&self.push.mesh, self.proxy);
            // Findings about targets are reported with the listeners.
            let (by_port, _) = inbound::targets(&targets, &interception, &reserved_ports);
            by_port.into_iter().filter_map(|(port, services)| self.of_services(port, &services)).collect()
        } else {
            declared.iter().filter_map(|listener| self.of_sidecar(listener, &targets)).collect()
        };
        let policed = |mut inbound: InboundCluster| {
            let rule = inbound.services.first().and_then(|service| self.rule_for_all(service));
            let mut policy = MergedTrafficPolicy::of(rule.as_deref(), None, inbound.port.port, mesh);
            if let Some(own) = self.own_pool(inbound.target_port) {
                policy.connection_pool = Some(own.clone());
            }
            inbound.rule = rule.as_deref().filter(|rule| rule.traffic_policy.is_some()).and_then(rule_name);
            (ClusterRole::Inbound(inbound), Arc::new(policy.connection_limits()))
        };
        found.into_iter().map(policed).collect()
    }

    fn of_services(self, target_port: u16, services: &[&ServiceTarget]) -> Option<InboundCluster> {
        let port = &services.first()?.port;
        let mut distinct: Vec<Shared<Service>> = Vec::new();
        for target in services.iter().filter(|target| target.service.port(port.port).is_some()) {
            let service = Shared::from(target.service.clone());
            if !distinct.contains(&service) {
                distinct.push(service);
            }
        }
        Some(InboundCluster {
            target_port,
            services: distinct,
            port: port.clone(),
            workload_address: self.met_at(target_port),
            families: IpFamilies::of(self.proxy),
            rule: None,
        })
    }

    /// Returns the address of the workload for a port, by the mesh configuration.
    fn met_at(self, port: u16) -> WorkloadAddress {
        match self.push.mesh.inbound_traffic_policy.mode {
            InboundTrafficMode::Passthrough => WorkloadAddress::OriginalDst,
            InboundTrafficMode::Localhost => WorkloadAddress::Ip(IpFamilies::of(self.proxy).loopback(), port),
        }
    }

    /// Returns the inbound cluster of an ingress listener. It belongs to the first service with this target port, if there is
    /// one.
    fn of_sidecar(self, listener: &IngressListener, targets: &[ServiceTarget]) -> Option<InboundCluster> {
        let port = listener.port.as_ref()?;
        let number = u16::try_from(port.number).ok().filter(|number| *number > 0)?;
        let of = targets.iter().find(|target| target.target_port == number);
        Some(InboundCluster {
            target_port: number,
            services: of.map(|target| target.service.clone().into()).into_iter().collect(),
            port: service_port(port, number),
            workload_address: backend(&listener.default_endpoint, self.proxy),
            families: IpFamilies::of(self.proxy),
            rule: None,
        })
    }

    /// Returns the rule for all clients of a service; rules for some clients do not apply to the server.
    fn rule_for_all(self, service: &Service) -> Option<Shared<Rule>> {
        let root = Namespace::from(&*self.push.mesh.root_namespace);
        let Self { push, proxy, .. } = self;
        push.rules.find(&service.hostname, &service.namespace, &proxy.namespace, &root, |_| false)
    }

    /// Returns the connection pool of the `Sidecar` for a port.
    fn own_pool(&self, port: u16) -> Option<&ConnectionPool> {
        let spec = self.scope.sidecar_spec()?;
        let is_it = |own: &SidecarPort| own.number == u32::from(port);
        let mut own = spec.ingress.iter().filter(|listener| listener.port.as_ref().is_some_and(is_it));
        own.find_map(|listener| listener.connection_pool.as_ref()).or(spec.inbound_connection_pool.as_ref())
    }
}

fn service_port(port: &SidecarPort, number: u16) -> ServicePort {
    ServicePort {
        name: port.name.as_str().into(),
        port: number,
        protocol: Protocol::parse(&port.protocol),
        target: TargetPort::Number(number),
    }
}

/// Parses `defaultEndpoint`: `127.0.0.1:<port>` and `[::1]:<port>` are whichever of the two the proxy has; `0.0.0.0:<port>` and
/// `[::]:<port>` are the proxy's own address; also `unix:///<path>`. Anything else, and none, is the original destination.
fn backend(text: &str, proxy: &Proxy) -> WorkloadAddress {
    if let Some(path) = text.strip_prefix("unix://") {
        return WorkloadAddress::Unix(path.into());
    }
    let Some((host, port)) = text.rsplit_once(':') else { return WorkloadAddress::OriginalDst };
    let Ok(port) = port.parse() else { return WorkloadAddress::OriginalDst };
    let host: Result<IpAddr, _> = host.trim_matches(['[', ']']).parse();
    let own = |family: fn(&IpAddr) -> bool| proxy.ips.iter().find(|ip| family(ip)).copied();
    let (v4, v6) = (IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST));
    match host {
        Ok(ip) if ip == IpAddr::V4(Ipv4Addr::UNSPECIFIED) => {
            WorkloadAddress::Ip(own(IpAddr::is_ipv4).unwrap_or(v4), port)
        }
        Ok(ip) if ip == IpAddr::V6(Ipv6Addr::UNSPECIFIED) => {
            WorkloadAddress::Ip(own(IpAddr::is_ipv6).unwrap_or(v6), port)
        }
        Ok(ip) if ip == v4 => WorkloadAddress::Ip(if proxy.has_ipv4() { v4 } else { v6 }, port),
        Ok(ip) if ip == v6 => WorkloadAddress::Ip(if proxy.has_ipv6() { v6 } else { v4 }, port),
        _ => WorkloadAddress::OriginalDst,
    }
}

//! Resources of an Envoy beside a workload, and the clusters of a gateway.

use std::sync::Arc;
use std::time::Duration;

use pilot_proto::node::{InterceptionMode, NodeType};

use super::{Generated, Made, Member, Set, View, settings};
use crate::generate::cluster::{self, Answers, ClusterInputs, ClusterRole, Discovery};
use crate::generate::endpoint::{AssignmentInputs, Served, Unhealthy, assignment};
use crate::generate::listener::{ListenerInputs, listener};
use crate::generate::outbound::{self, PlanInputs, listens_on_members};
use crate::generate::route::{HTTP_PROXY, Hosts, RouteInputs, route};
use crate::generate::{Families, inbound};
use crate::model::{ClusterName, Direction, Endpoint, Protocol, Resolution, Service, ServicePort};
use crate::push::ServiceTarget;
use crate::scope::{Scope, Shared, Visible};

/// Everything the outbound clusters of a class of proxies depend on.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct ClusterSet {
    scope: Shared<Scope>,
    /// Endpoints of the services that proxies resolve by DNS, in the scope's order.
    resolved: Vec<Shared<[Endpoint]>>,
    node: Option<Arc<str>>,
    families: Families,
    original_dst: OriginalDst,
    connect_timeout: Duration,
    dns_refresh_rate: Duration,
}

/// Whether the proxy knows where a connection was going before it was redirected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum OriginalDst {
    Known,
    /// Gateways, and sidecars without interception: they are told the endpoints instead.
    Unknown,
}

// === impl View ===

impl View<'_> {
    pub(super) fn clusters(self) -> Generated {
        let mut generated = Generated::default();
        let (NodeType::Sidecar | NodeType::Router) = self.proxy.node_type() else { return generated };
        let set = self.cluster_set();
        let made = self.cache.cluster_sets.get(&set, |set| Arc::new(self.outbound_clusters(set)));
        generated.take_set(&made, None);

        let mut fixed = vec![ClusterRole::BlackHole];
        if self.proxy.node_type() == NodeType::Sidecar {
            fixed.extend([ClusterRole::Passthrough, ClusterRole::InboundPassthrough(set.families)]);
            let targets = self.push.service_targets(self.proxy);
            let settings = settings::listeners(&self.push.mesh, self.proxy, &targets);
            // The listeners report what is wrong with targets.
            let (by_port, _) = inbound::targets(&targets, &settings);
            for (target_port, services) in by_port {
                fixed.extend(inbound_cluster(target_port, &services, set.families));
            }
        }
        for role in fixed {
            generated.take(&self.cluster(role));
        }
        generated
    }

    pub(super) fn cluster(self, role: ClusterRole) -> Made {
        let inputs = ClusterInputs { role, connect_timeout: self.push.mesh.connect_timeout };
        self.cache.clusters.get(&inputs, |inputs| {
            Made::run(&inputs.name(), || match cluster::cluster(inputs) {
                Ok(cluster) => (Some(cluster), Vec::new()),
                Err(rejected) => (None, vec![rejected]),
            })
        })
    }

    pub(super) fn listeners(self) -> Generated {
        let mut generated = Generated::default();
        if self.proxy.node_type() != NodeType::Sidecar {
            return generated;
        }
        let targets = self.push.service_targets(self.proxy);
        let mesh = &self.push.mesh;
        let settings = settings::listeners(mesh, self.proxy, &targets);
        let with_members = self.scope.services().iter().filter(|seen| listens_on_members(&seen.service));
        let inputs = PlanInputs {
            scope: self.scope.clone().into(),
            members: with_members.map(|seen| self.push.endpoints_of(&seen.service).into()).collect(),
            settings,
        };
        let plan = self.cache.plans.get(&inputs, |inputs| Arc::new(self.planned(inputs)));
        generated.take_set(&plan, self.proxy.ips.first().copied());

        let settings = &inputs.settings;
        let (by_port, rejected) = inbound::targets(&targets, settings);
        generated.report.absorb(&rejected);
        let proxy_port = settings::http_proxy_port(mesh, self.proxy);
        let own = [
            outbound::virtual_outbound(mesh, settings),
            inbound::virtual_inbound(&by_port, mesh, settings),
            proxy_port.map(|port| outbound::http_proxy(port, settings)),
        ];
        for inputs in own.into_iter().flatten() {
            generated.take(&self.listener(&Arc::new(inputs)));
        }
        generated
    }

    fn listener(self, inputs: &Arc<ListenerInputs>) -> Made {
        self.cache
            .listeners
            .get(inputs, |inputs| Made::run(&inputs.name, || (Some(listener(inputs)), Vec::new())))
    }

    pub(super) fn routes<'n>(self, names: impl Iterator<Item = &'n Arc<str>>) -> Generated {
        let mut generated = Generated::default();
        if self.proxy.node_type() == NodeType::Sidecar {
            for name in names {
                if let Some((hosts, services)) = self.hosts(name) {
                    generated.take(&self.route(name, hosts, services));
                }
            }
        }
        generated
    }

    pub(super) fn route(self, name: &Arc<str>, hosts: Hosts, services: Arc<[Visible]>) -> Made {
        let inputs = RouteInputs {
            name: name.clone(),
            hosts,
            services,
            dns_domain: self.proxy.id.dns_domain.as_str().into(),
            families: Families::of(self.proxy),
            unknown: self.push.mesh.outbound_traffic_policy.mode,
        };
        self.cache.routes.get(&inputs, |inputs| {
            Made::run(&inputs.name, || {
                let (routes, rejected) = route(inputs);
                (Some(routes), rejected)
            })
        })
    }

    /// What the name of a route configuration means: `<port>`, `<host>:<port>` or `http_proxy`.
    fn hosts(self, name: &str) -> Option<(Hosts, Arc<[Visible]>)> {
        if name == HTTP_PROXY {
            return Some((Hosts::All, self.scope.services().clone()));
        }
        if let Some((host, port)) = name.rsplit_once(':') {
            let port = port_number(port)?;
            let seen = self.scope.by_host(host).filter(|seen| seen.service.port(port).is_some())?;
            return Some((Hosts::Only(port), Arc::from([seen.clone()])));
        }
        // A port that no service has (any more) still lets through what the mesh lets through.
        let port = port_number(name)?;
        Some((Hosts::OnPort(port), self.scope.on_port(port).cloned().unwrap_or_default()))
    }

    pub(super) fn endpoints<'n>(self, names: impl Iterator<Item = &'n Arc<str>>) -> Generated {
        let mut generated = Generated::default();
        for name in names {
            let inputs = AssignmentInputs { cluster: name.clone(), served: self.served_by(name) };
            generated.take(&self.cache.assignments.get(&inputs, |inputs| {
                Made::run(&inputs.cluster, || {
                    let (assignment, rejected) = assignment(inputs);
                    (Some(assignment), rejected)
                })
            }));
        }
        generated
    }

    fn served_by(self, cluster: &str) -> Option<Served> {
        let name: ClusterName = cluster.parse().ok()?;
        if name.direction == Direction::Inbound || !name.subset.is_empty() {
            return None;
        }
        let service = &self.scope.by_host(&name.host)?.service;
        if matches!(service.resolution, Resolution::Dns | Resolution::DnsRoundRobin)
            && !self.proxy.is_proxyless()
        {
            // The cluster has changed from EDS to DNS; the proxy is about to learn that.
            return None;
        }
        let port = service.port(name.port)?;
        let endpoints = self.push.endpoints_of(service).into();
        let unhealthy = if self.proxy.is_proxyless() { Unhealthy::Withheld } else { Unhealthy::Sent };
        Some(served(service, port, endpoints, self.node().as_ref(), unhealthy))
    }

    fn node(self) -> Option<Arc<str>> {
        self.proxy.metadata.node_name.as_deref().map(Arc::from)
    }

    fn cluster_set(self) -> ClusterSet {
        let blind =
            self.proxy.node_type() == NodeType::Router || self.proxy.interception() == InterceptionMode::None;
        let by_dns = self.scope.services().iter().filter(|seen| answers(&seen.service).is_some());
        let resolved: Vec<Shared<[Endpoint]>> =
            by_dns.map(|seen| self.push.endpoints_of(&seen.service).into()).collect();
        ClusterSet {
            scope: self.scope.clone().into(),
            node: self.node().filter(|_| !resolved.is_empty()),
            resolved,
            families: Families::of(self.proxy),
            original_dst: if blind { OriginalDst::Unknown } else { OriginalDst::Known },
            connect_timeout: self.push.mesh.connect_timeout,
            dns_refresh_rate: self.push.mesh.dns_refresh_rate,
        }
    }

    fn outbound_clusters(self, inputs: &ClusterSet) -> Set {
        let mut set = Set { resources: Vec::new(), rejected: Vec::new() };
        let mut resolved = inputs.resolved.iter();
        for seen in inputs.scope.services().iter() {
            let service = &seen.service;
            let endpoints = if answers(service).is_some() { resolved.next() } else { None };
            let mut numbers = std::collections::BTreeSet::new();
            for port in service.ports.iter().filter(|port| port.protocol != Protocol::Udp) {
                if numbers.insert(port.port) {
                    let discovery = inputs.discovery(service, port, endpoints);
                    let role =
                        ClusterRole::Outbound { service: service.clone(), port: port.clone(), discovery };
                    set.take(self.cluster(role), None);
                }
            }
        }
        set
    }

    fn planned(self, inputs: &PlanInputs) -> Set {
        let (plan, rejected) = outbound::plan(inputs);
        let mut set = Set { resources: Vec::new(), rejected };
        for planned in plan {
            set.take(self.listener(&planned.inputs), planned.member);
        }
        set
    }
}

// === impl ClusterSet ===

impl ClusterSet {
    fn discovery(
        &self,
        service: &Service,
        port: &ServicePort,
        endpoints: Option<&Shared<[Endpoint]>>,
    ) -> Discovery {
        match (answers(service), endpoints) {
            (Some(answers), Some(endpoints)) => Discovery::Dns {
                served: served(service, port, endpoints.clone(), self.node.as_ref(), Unhealthy::Sent),
                answers,
                refresh: self.dns_refresh_rate,
                families: self.families,
            },
            _ if service.resolution == Resolution::Passthrough && self.original_dst == OriginalDst::Known => {
                Discovery::OriginalDst
            }
            _ => Discovery::Eds,
        }
    }
}

// === impl Set ===

impl Set {
    fn take(&mut self, made: Made, unless: Option<std::net::IpAddr>) {
        self.rejected.extend_from_slice(&made.rejected);
        self.resources.extend(made.resource.map(|resource| Member { resource, unless }));
    }
}

/// How a service is resolved by DNS, if it is.
fn answers(service: &Service) -> Option<Answers> {
    match service.resolution {
        Resolution::Dns => Some(Answers::All),
        Resolution::DnsRoundRobin => Some(Answers::First),
        Resolution::ClientSideLb | Resolution::Passthrough | Resolution::Alias(_) => None,
    }
}

fn served(
    service: &Service,
    port: &ServicePort,
    endpoints: Shared<[Endpoint]>,
    node: Option<&Arc<str>>,
    unhealthy: Unhealthy,
) -> Served {
    Served {
        service: service.hostname.clone(),
        endpoints,
        port_name: port.name.clone(),
        // A client that does not say where it runs is near to nothing.
        node: service.node_local.then(|| node.cloned().unwrap_or_default()),
        unhealthy,
    }
}

fn inbound_cluster(target_port: u16, services: &[&ServiceTarget], families: Families) -> Option<ClusterRole> {
    let first = services.first()?;
    let mut distinct: Vec<Shared<Service>> = Vec::new();
    for target in services {
        let service = Shared::from(target.service.clone());
        if !distinct.contains(&service) {
            distinct.push(service);
        }
    }
    Some(ClusterRole::Inbound { target_port, services: distinct, port: first.port.clone(), families })
}

/// A port as we spell it: nothing else is a name of ours.
fn port_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port: &u16| *port != 0 && port.to_string() == text)
}

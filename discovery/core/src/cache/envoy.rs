//! Endpoints, listeners and routes of an Envoy beside a workload.

use std::net::IpAddr;
use std::sync::Arc;

use pilot_proto::node::NodeType;

use super::{Generated, Made, Member, Set, View, settings};
use crate::generate::endpoint::{AssignmentInputs, Served, Unhealthy, assignment};
use crate::generate::listener::{ListenerInputs, listener};
use crate::generate::outbound::{self, PlanInputs, listens_on_members};
use crate::generate::route::{HTTP_PROXY, Hosts, RouteInputs, route};
use crate::generate::{Families, inbound};
use crate::model::{ClusterName, Direction, Endpoint, Resolution, Service, ServicePort};
use crate::scope::{Shared, Visible};

// === impl View ===

impl View<'_> {
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

    pub(super) fn node(self) -> Option<Arc<str>> {
        self.proxy.metadata.node_name.as_deref().map(Arc::from)
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

// === impl Set ===

impl Set {
    pub(super) fn take(&mut self, made: Made, unless: Option<IpAddr>) {
        self.rejected.extend_from_slice(&made.rejected);
        self.resources.extend(made.resource.map(|resource| Member { resource, unless }));
    }
}

pub(super) fn served(
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

/// A port as we spell it: nothing else is a name of ours.
fn port_number(text: &str) -> Option<u16> {
    text.parse().ok().filter(|port: &u16| *port != 0 && port.to_string() == text)
}

//! Inputs of listeners of an Envoy beside a workload.

use std::sync::Arc;

use pilot_proto::ResourceType;
use pilot_proto::mesh::MeshConfig;
use pilot_proto::node::NodeType;

use super::endpoints::Outlook;
use super::patched::direction_of_listener;
use super::{Generated, Made, Set, View, settings};
use crate::generate::listener::{ListenerInputs, listener};
use crate::generate::outbound::{self, ListenerSettings, PlanInputs};
use crate::generate::route::InformationalHeaders;
use crate::generate::telemetry::TrafficSide;
use crate::generate::{IpFamilies, inbound};
use crate::model::{Direction, NameSet, Shared};
use crate::patch::RoutePatches;
use crate::scope::Scope;

/// Inputs of all resources that are requested by name.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Named {
    kind: ResourceType,
    names: NameSet,
    scope: Shared<Scope>,
    /// Identity of the snapshot, for endpoints; routes do not depend on it.
    moment: Option<Shared<()>>,
    /// View on endpoints; routes do not depend on it.
    outlook: Option<Arc<Outlook>>,
    /// Informational headers; endpoints do not depend on them.
    informational_headers: InformationalHeaders,
    dns_domain: Arc<str>,
    families: IpFamilies,
    mesh: Shared<MeshConfig>,
    patches: RoutePatches,
}

/// Sets of fewer names are not cached: building one costs no more than finding it.
const FEW: usize = 8;

// === impl View ===

impl View<'_> {
    pub(super) fn listeners(self) -> Generated {
        match self.proxy.node_type() {
            NodeType::Sidecar => {}
            NodeType::Router => return self.gateway_listeners(),
            _ => return Generated::default(),
        }
        let targets = self.push.service_targets(self.proxy);
        let mesh = &self.push.mesh;
        let steering = self.steering();
        let (filters, unreported) = settings::filters(self, TrafficSide::Client, &steering);
        let settings = settings::listeners(self, &targets, filters);
        let with_members = self.scope.met_at_members().iter();
        let inputs = PlanInputs {
            scope: self.scope.clone().into(),
            headless_endpoints: with_members
                .map(|seen| self.push.endpoints_of(&seen.service).into())
                .collect(),
            settings,
        };
        let inputs = self.patched_listener(inputs, Direction::Outbound);
        let plan = self.cache.plans.get(&inputs, |patched| Arc::new(self.planned(&patched.inputs)));
        let mut generated = plan.seen_from(self.proxy.ips.first().copied());

        generated.reject(&unreported);
        let settings = &inputs.inputs.settings;
        let (filters, unreported) = settings::filters(self, TrafficSide::Server, &steering);
        generated.reject(&unreported);
        let arriving = ListenerSettings { filters, ..settings.clone() };
        let (by_port, rejected) =
            inbound::targets(&targets, &settings.interception, &settings.reserved_ports);
        generated.reject(&rejected);
        let (ports, rejected) = inbound::ports(&by_port, self.scope.sidecar(), &arriving);
        generated.reject(&rejected);
        let proxy_port = settings::http_proxy_port(mesh, self.proxy);
        let own = [
            outbound::virtual_outbound(mesh, settings),
            inbound::virtual_inbound(&ports, mesh, &arriving),
            proxy_port.map(|port| outbound::http_proxy(port, settings)),
        ];
        for inputs in own.into_iter().flatten().chain(inbound::bound_listeners(&ports, &arriving)) {
            generated.take(&self.listener(&Arc::new(inputs)));
        }
        self.add_listeners(&mut generated);
        generated
    }

    pub(super) fn listener(self, inputs: &Arc<ListenerInputs>) -> Made {
        let inputs = self.patched_listener(inputs.clone(), direction_of_listener(inputs.role));
        self.cache.listeners.get(&inputs, |patched| {
            Made::run(&patched.inputs.name, || patched.listener(listener(&patched.inputs)))
        })
    }

    /// Returns the resources of these names.
    pub(super) fn named(
        self,
        kind: ResourceType,
        (outlook, informational_headers): (Option<&Arc<Outlook>>, InformationalHeaders),
        names: &NameSet,
        make: impl Fn(&Arc<str>) -> Option<Made>,
    ) -> Generated {
        let all = || {
            let mut generated = Generated::default();
            names.iter().filter_map(&make).for_each(|made| generated.take(&made));
            generated
        };
        if names.len() < FEW {
            return all();
        }
        let inputs = Named {
            kind,
            names: names.clone(),
            scope: self.scope.clone().into(),
            moment: (kind == ResourceType::Endpoint).then(|| self.push.moment.clone()),
            outlook: outlook.cloned(),
            informational_headers,
            dns_domain: self.proxy.id.dns_domain.as_str().into(),
            families: IpFamilies::of(self.proxy),
            mesh: self.push.mesh.clone().into(),
            patches: self.patches.routes().clone(),
        };
        self.cache.named.get(&inputs, |_| all())
    }

    fn planned(self, inputs: &PlanInputs) -> Set {
        let (plan, rejected) = outbound::plan(inputs);
        let mut set = Set::default();
        set.generated.reject(&rejected);
        for planned in plan {
            set.take(&self.listener(&planned.inputs), planned.endpoint_address);
        }
        set
    }
}

//! Inputs of listeners and routes of a gateway.

use std::collections::BTreeSet;
use std::sync::Arc;

use pilot_proto::mesh::proxy_config::ControlPlaneOptions;

use super::{Generated, Made, Set, View, settings};
use crate::generate::Rejected;
use crate::generate::gateway::{self, GatewayInputs, GatewayRouteInputs, RoutedServer, gateway_routes};
use crate::generate::outbound::{Interception, ListenerSettings, PrivilegedPorts};
use crate::generate::telemetry::TrafficSide;
use crate::model::{Direction, NameSet};
use crate::patch::GatewayPorts;

// === impl View ===

impl View<'_> {
    pub(super) fn gateway_listeners(self) -> Generated {
        let (inputs, unreported) = self.gateway(&self.steering());
        let inputs = self.patched_listener(inputs, Direction::Outbound);
        let set = self.cache.gateways.get(&inputs, |patched| {
            let inputs = &patched.inputs;
            let (listeners, rejected) = gateway::listeners(inputs, &gateway::merge(inputs));
            let mut set = Set::default();
            set.generated.reject(&rejected);
            for inputs in listeners {
                set.take(&self.listener(&Arc::new(inputs)), None);
            }
            Arc::new(set)
        });
        let mut generated = set.seen_from(None);
        generated.reject(&unreported);
        self.add_listeners(&mut generated);
        generated
    }

    /// Returns the routes that listeners of the gateway refer to. A removed server has no routes, and its listener is about to be
    /// removed.
    pub(super) fn gateway_routes(self, names: &NameSet) -> Generated {
        let steering = self.steering();
        // Findings about collectors are reported with the listeners.
        let (inputs, _) = self.gateway(&steering);
        let merged = gateway::merge(&inputs);
        let mut ports = GatewayPorts::new();
        for (declared, target) in inputs.ports.iter().filter(|(declared, target)| declared != target) {
            ports.entry((*target).into()).or_default().insert((*declared).into());
        }
        let mut generated = Generated::default();
        for name in names {
            let servers = merged.by_route.get(name).map(Vec::as_slice).unwrap_or_default();
            let routes = GatewayRouteInputs {
                name: name.clone(),
                servers: servers.iter().map(|at| RoutedServer::of(at, &inputs)).collect(),
                retries: settings::retries(&self.push.mesh),
                informational_headers: settings::informational_headers(&steering),
            };
            let routes = self.patched_routes(routes, &ports);
            generated.take(&self.cache.gateway_routes.get(&routes, |patched| {
                Made::run(&patched.inputs.name, || patched.routes(gateway_routes(&patched.inputs)))
            }));
        }
        generated
    }

    fn gateway(self, steering: &ControlPlaneOptions) -> (GatewayInputs, Vec<Rejected>) {
        let targets = self.push.service_targets(self.proxy);
        let unprivileged = self.proxy.metadata.unprivileged_pod.is_some_and(|flag| flag.0);
        let interception = Interception::Off {
            privileged_ports: if unprivileged {
                PrivilegedPorts::Forbidden
            } else {
                PrivilegedPorts::Allowed
            },
            workload_ports: BTreeSet::new(),
        };
        let (filters, unreported) = settings::filters(self, TrafficSide::Client, steering);
        let settings = settings::listeners(self, &targets, filters);
        let inputs = GatewayInputs {
            scope: self.scope.clone().into(),
            ports: gateway::target_ports(&targets),
            settings: ListenerSettings { interception, ..settings },
            topology: settings::topology(&steering.topology),
            tls_defaults: self.push.mesh.tls_defaults.clone().unwrap_or_default(),
        };
        (inputs, unreported)
    }
}

//! Listeners and routes of a gateway.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Generated, Made, Set, View, settings};
use crate::generate::gateway::{self, GatewayInputs, GatewayRouteInputs, RoutedServer, gateway_routes};
use crate::generate::outbound::{Capture, ListenerSettings, LowPorts};
use crate::model::NameSet;

// === impl View ===

impl View<'_> {
    pub(super) fn gateway_listeners(self) -> Generated {
        let inputs = self.gateway();
        let set = self.cache.gateways.get(&inputs, |inputs| {
            let (listeners, rejected) = gateway::listeners(inputs, &gateway::merge(inputs));
            let mut set = Set::default();
            set.generated.reject(&rejected);
            for inputs in listeners {
                set.take(&self.listener(&Arc::new(inputs)), None);
            }
            Arc::new(set)
        });
        set.seen_from(None)
    }

    /// The routes that listeners of the gateway name. Of a server that is gone there are none, and that is an answer: its
    /// listener is about to go.
    pub(super) fn gateway_routes(self, names: &NameSet) -> Generated {
        let inputs = self.gateway();
        let merged = gateway::merge(&inputs);
        let mut generated = Generated::default();
        for name in names {
            let servers = merged.by_route.get(name).map(Vec::as_slice).unwrap_or_default();
            let inputs = GatewayRouteInputs {
                name: name.clone(),
                servers: servers.iter().map(|at| RoutedServer::of(at, &inputs)).collect(),
                retries: settings::retries(&self.push.mesh),
            };
            generated.take(&self.cache.gateway_routes.get(&inputs, |inputs| {
                Made::run(&inputs.name, || {
                    let (routes, rejected) = gateway_routes(inputs);
                    (Some(routes), rejected)
                })
            }));
        }
        generated
    }

    pub(super) fn gateway(self) -> GatewayInputs {
        let targets = self.push.service_targets(self.proxy);
        let unprivileged = self.proxy.metadata.unprivileged_pod.is_some_and(|flag| flag.0);
        let capture = Capture::Bound {
            low_ports: if unprivileged { LowPorts::Forbidden } else { LowPorts::Free },
            workload: BTreeSet::new(),
        };
        let settings = settings::listeners(self.push, self.scope, self.proxy, &targets);
        GatewayInputs {
            scope: self.scope.clone().into(),
            ports: gateway::ports(&targets),
            settings: ListenerSettings { capture, ..settings },
            edge: settings::edge(&self.push.mesh, self.proxy),
        }
    }
}

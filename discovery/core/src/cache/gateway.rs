//! Listeners and routes of a gateway.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Generated, Set, View, settings};
use crate::generate::gateway::{self, GatewayInputs};
use crate::generate::outbound::{Capture, ListenerSettings, LowPorts};

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

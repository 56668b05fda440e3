//! Probes out of turn if a new Envoy is LIVE: when the agent is about to end, or its predecessor has died.
//!
//! The [`Observer`](super::observer) may not have noticed an Envoy that became LIVE milliseconds ago, and the listeners of its
//! predecessor are closed already.

use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{
    Driver,
    observer::{Observation, ObservationKind},
};
use crate::{
    envoy_admin::{AdminError, Identity},
    supervisor::{Event, Launch, PredecessorAdmin},
};

/// Limit for one answer. Envoy's main thread answers within a millisecond when it is idle.
const PROBE_TIMEOUT: Duration = Duration::from_millis(50);

impl Driver {
    /// Probes an Envoy after a pause and reports [`Event::Live`] or [`Event::NotLive`].
    pub(super) fn probe(&mut self, launch: Launch, predecessor: Launch, after: Duration) {
        let predecessor = self.records.instances.get(predecessor).map(|instance| instance.admin.clone());
        let Some(instance) = self.records.instances.get(launch) else {
            return self.pending.push_back(Event::NotLive(launch, PredecessorAdmin::Open));
        };
        let (admin, (epoch, bootstrap)) = (instance.admin.clone(), instance.identity.clone());
        let observations = self.inputs.observation_sender.clone();
        self.inputs.observers.spawn(async move {
            sleep(after).await;
            let identity = timeout(PROBE_TIMEOUT, admin.identify(epoch, &bootstrap)).await;
            let event = if let Ok(Ok(Identity::Live)) = identity {
                Event::Live(launch)
            } else {
                let answer = match &predecessor {
                    Some(admin) => timeout(PROBE_TIMEOUT, admin.ready()).await.ok(),
                    None => None,
                };
                let closed = matches!(answer, Some(Err(AdminError::Connect(_))));
                let admin = if closed { PredecessorAdmin::Closed } else { PredecessorAdmin::Open };
                Event::NotLive(launch, admin)
            };
            // Fails only when the driver has ended.
            drop(observations.send(Observation { launch, kind: ObservationKind::Event(event) }).await);
        });
    }
}

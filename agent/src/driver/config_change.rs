//! A change of the desired state: new configuration, or a forced restart.

use std::sync::Arc;

use tracing::{error, info, warn};

use super::Driver;
use crate::{
    desired::ConfigUpdate,
    supervisor::{Event, Revision},
};

impl Driver {
    /// Handles changed or unreadable configuration.
    pub(super) fn config_changed(&mut self, update: ConfigUpdate) {
        match update {
            ConfigUpdate::Changed(desired) => {
                for warning in desired.config.warnings.iter().chain(&desired.rendered.warnings) {
                    warn!("{warning}");
                }
                info!(hash = %desired.hash, "the configuration has changed");
                let in_use = self.revisions();
                let revision = self.records.launch_specs.add_changed(desired, &in_use);
                self.desire(revision);
            }
            ConfigUpdate::Rejected(faults) => {
                for fault in faults.iter() {
                    error!("{fault}; the configuration in use stays");
                }
                let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
                self.outputs.publisher.config_rejected(String::new(), faults.join("; "));
            }
            ConfigUpdate::Recovered => info!("the configuration can be read again, and is the one in use"),
        }
        self.publish();
    }

    /// Starts a new Envoy though nothing has changed: `POST /restart`, SIGHUP.
    pub(super) fn restart(&mut self) {
        if !self.outputs.backend.is_on() {
            warn!("hot restart is off: the Envoy that runs stays");
            return;
        }
        let Some(desired) = self.records.launch_specs.latest().map(|spec| Arc::clone(&spec.desired)) else {
            return;
        };
        info!("restart requested");
        let in_use = self.revisions();
        let revision = self.records.launch_specs.add(desired, &in_use);
        self.desire(revision);
    }

    fn desire(&mut self, revision: anyhow::Result<Revision>) {
        match revision {
            Ok(revision) => self.pending.push_back(Event::Desired(revision)),
            Err(error) => error!("{error:#}; the configuration in use stays"),
        }
    }

    /// Revisions of Envoys that run or may be started again.
    pub(super) fn revisions(&self) -> Vec<Revision> {
        let phase = self.supervisor.phase();
        phase.generations().map(|generation| generation.revision).chain(phase.last_live).collect()
    }
}

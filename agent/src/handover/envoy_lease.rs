//! Hot-restart resources of one Envoy. They are released when the Envoy has exited.

use std::{sync::Arc, time::SystemTime};

use tokio::{sync::watch, task::JoinSet};
use tracing::{debug, warn};

use super::HandoverMode;
use crate::hot_restart::{
    BaseIdLease, ChildClient, ParentEmulator, ParentEvent, RestartEpoch, RetainedListeners, SocketAnswer,
};

/// Hot-restart resources of one Envoy.
#[derive(Debug)]
pub(super) struct EnvoyLease {
    pub(super) base_id: Arc<BaseIdLease>,
    pub(super) epoch: RestartEpoch,
    pub(super) mode: HandoverMode,
    /// Tasks that answer it as its parent.
    emulators: JoinSet<()>,
    /// Sends it requests as its child.
    pub(super) child: Option<ChildClient>,
}

// === impl EnvoyLease ===

impl EnvoyLease {
    pub(super) fn new(base_id: BaseIdLease, epoch: RestartEpoch, mode: HandoverMode) -> Self {
        Self::sharing(Arc::new(base_id), epoch, mode)
    }

    /// Creates the lease of an Envoy that shares the base id of its predecessor.
    pub(super) fn sharing(base_id: Arc<BaseIdLease>, epoch: RestartEpoch, mode: HandoverMode) -> Self {
        Self { base_id, epoch, mode, emulators: JoinSet::new(), child: None }
    }

    /// Returns `true` if the agent has taken over the socket of its parent.
    pub(super) fn has_emulated_parent(&self) -> bool {
        !self.emulators.is_empty()
    }

    /// Takes over the socket of its parent and answers it until it ends the protocol or the lease is dropped.
    pub(super) fn emulate_parent(
        &mut self,
        parent: RestartEpoch,
        since: SystemTime,
        retained: watch::Receiver<RetainedListeners>,
    ) -> std::io::Result<()> {
        let emulator = ParentEmulator::bind(&self.base_id, parent, since)?;
        self.emulators.spawn(async {
            let report = |event| match event {
                ParentEvent::SocketRequested { address, worker, answer: SocketAnswer::NotRetained } => {
                    debug!(address, worker, "a new Envoy binds a socket of its own");
                }
                ParentEvent::Malformed(_) | ParentEvent::Unknown | ParentEvent::Unanswered(_) => {
                    warn!(?event, "hot restart protocol");
                }
                event => debug!(?event, "hot restart protocol"),
            };
            if let Err(error) = emulator.serve(retained, report).await {
                warn!(%error, "emulate the parent of an Envoy");
            }
        });
        Ok(())
    }
}

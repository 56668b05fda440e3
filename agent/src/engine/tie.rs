//! What belongs to one Envoy's hot restart, and goes with it.

use std::{sync::Arc, time::SystemTime};

use tokio::{sync::watch, task::JoinSet};
use tracing::{debug, warn};

use super::Way;
use crate::hot_restart::{Answer, Child, Happened, Held, Lineage, RestartEpoch, StandIn};

/// What ties one Envoy to others.
#[derive(Debug)]
pub(super) struct Tie {
    pub(super) lineage: Arc<Lineage>,
    pub(super) epoch: RestartEpoch,
    pub(super) way: Way,
    /// Who answers it in the place of its predecessor.
    stand_ins: JoinSet<()>,
    /// Who asks it in the place of its successor.
    pub(super) child: Option<Child>,
}

// === impl Tie ===

impl Tie {
    pub(super) fn new(lineage: Lineage, epoch: RestartEpoch, way: Way) -> Self {
        Self::of(Arc::new(lineage), epoch, way)
    }

    pub(super) fn of(lineage: Arc<Lineage>, epoch: RestartEpoch, way: Way) -> Self {
        Self { lineage, epoch, way, stand_ins: JoinSet::new(), child: None }
    }

    /// `true` if the agent has taken its predecessor's place.
    pub(super) fn is_answered(&self) -> bool {
        !self.stand_ins.is_empty()
    }

    pub(super) fn stand_in(
        &mut self,
        parent: RestartEpoch,
        since: SystemTime,
        held: watch::Receiver<Held>,
    ) -> std::io::Result<()> {
        let stand_in = StandIn::bind(&self.lineage, parent, since)?;
        self.stand_ins.spawn(async {
            let note = |happened| match happened {
                Happened::Asked { address, worker, answer: Answer::NotHeld } => {
                    debug!(address, worker, "a new Envoy binds a socket of its own");
                }
                Happened::Garbled(_) | Happened::Unknown | Happened::Unanswered(_) => {
                    warn!(?happened, "hot restart protocol");
                }
                happened => debug!(?happened, "hot restart protocol"),
            };
            if let Err(error) = stand_in.serve(held, note).await {
                warn!(%error, "stand in for an Envoy");
            }
        });
        Ok(())
    }
}

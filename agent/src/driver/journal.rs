//! What the agent's log says of Envoy's life: one line per decision.

use std::{error::Error, fmt};

use tracing::{info, warn};

use crate::supervisor::{Event, Phase, Stage, Status};

/// One event that changed the phase.
pub(super) fn log(event: Event, before: Phase, after: Phase) {
    let (from, to, launch) = (before.stage.as_str(), after.stage.as_str(), after.launch);
    match event {
        Event::Died(epoch, status)
            if !matches!(status, Status::Exited(0)) && before.stage != Stage::Stopping =>
        {
            warn!(%epoch, %status, from, to, launch, "Envoy died");
        }
        Event::Died(epoch, status) => info!(%epoch, %status, from, to, launch, "Envoy ended"),
        Event::Live(epoch) => info!(%epoch, from, to, launch, "Envoy is LIVE"),
        Event::AdminSilent => warn!(from, to, launch, "Envoy's admin has stopped answering"),
        _ => info!(?event, from, to, launch, "phase changed"),
    }
}

/// An error with its causes in one line.
pub(super) struct Chain<'a>(pub(super) &'a dyn Error);

impl fmt::Display for Chain<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

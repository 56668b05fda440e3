//! What the rest of the agent may know of Envoy's life: published by the driver, read by the status
//! server, the metrics and the observer.

use std::{fmt, time::Instant};

use super::Epoch;

/// One moment of Envoy's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phase {
    /// The how manieth Envoy this is since the agent started. What was seen of one says nothing about
    /// the next, though both have epoch 0.
    pub launch: u32,
    /// Its epoch, if there is an Envoy.
    pub epoch: Option<Epoch>,
    /// Where in its life it is.
    pub stage: Stage,
    /// Whether we want new work for it.
    pub offer: Offer,
}

/// Where in its life Envoy is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    /// Started, not LIVE yet.
    Starting,
    /// LIVE.
    Running,
    /// Was LIVE, and its admin no longer answers.
    Silent,
    /// Dead; the next one waits for its turn.
    BackingOff,
    /// Finishing what it has.
    Draining,
    /// Told to go.
    Stopping,
    /// Gone, and so are we.
    Exited,
}

/// Whether this sidecar is in service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Offer {
    /// It is.
    Offered,
    /// It was taken out by `POST /drain`.
    Withdrawn {
        /// Since when load balancers can know.
        since: Instant,
    },
}

// === impl Stage ===

impl Stage {
    /// All of them, in the order of life.
    pub const ALL: [Self; 7] = [
        Self::Starting,
        Self::Running,
        Self::Silent,
        Self::BackingOff,
        Self::Draining,
        Self::Stopping,
        Self::Exited,
    ];

    /// The word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Starting => "starting",
            Self::Running => "running",
            Self::Silent => "silent",
            Self::BackingOff => "backing-off",
            Self::Draining => "draining",
            Self::Stopping => "stopping",
            Self::Exited => "exited",
        }
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

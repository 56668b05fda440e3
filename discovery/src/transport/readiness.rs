//! Readiness of the process: it changes once from starting to ready, and at the end to draining.

use tokio::sync::watch;

/// State of readiness.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Readiness {
    /// Sources have not synced.
    Starting,
    /// Streams are accepted.
    Ready,
    /// The process is shutting down.
    Draining,
}

/// Readiness of the process, shared by the HTTP page, gRPC's health service and the xDS streams.
pub(crate) struct Health {
    readiness: watch::Sender<Readiness>,
}

// === impl Health ===

impl Health {
    /// Creates the readiness in this state.
    pub(crate) fn new(readiness: Readiness) -> Self {
        Self { readiness: watch::Sender::new(readiness) }
    }

    /// Returns the reason for which no streams are accepted; `None` when the process is ready.
    pub(crate) fn not_ready(&self) -> Option<&'static str> {
        match *self.readiness.borrow() {
            Readiness::Draining => Some("shutting down"),
            Readiness::Starting => Some("sources have not synced"),
            Readiness::Ready => None,
        }
    }

    /// Makes a starting process ready, after its first snapshot.
    pub(crate) fn synced(&self) {
        self.readiness.send_if_modified(|readiness| {
            let first = *readiness == Readiness::Starting;
            if first {
                *readiness = Readiness::Ready;
            }
            first
        });
    }

    /// Makes the process draining.
    pub(crate) fn drain(&self) {
        self.readiness.send_replace(Readiness::Draining);
    }

    /// Returns a receiver of all later changes.
    pub(crate) fn subscribe(&self) -> watch::Receiver<Readiness> {
        self.readiness.subscribe()
    }
}

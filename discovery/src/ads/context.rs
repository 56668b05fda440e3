//! State that every xDS stream uses: connected proxies, generation, limits, metrics.

use std::sync::Arc;

use pilot_core::push::PushContext;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::{Generation, Hub, Quarantine};
use crate::config::Limits;
use crate::metrics::Metrics;
use crate::transport::{Admission, Connections, Health};

/// State shared by all xDS streams of this process.
pub(crate) struct Context {
    /// Connected proxies and the push queue.
    pub(crate) hub: Hub,
    /// Versions of resources that proxies rejected.
    pub(crate) quarantine: Quarantine,
    /// Counters and histograms of the process.
    pub(crate) metrics: Metrics,
    /// Generators with their cache.
    pub(crate) generation: Generation,
    /// The current snapshot of the mesh.
    pub(crate) snapshots: watch::Receiver<Arc<PushContext>>,
    /// Name of this instance, sent as the identifier of the control plane.
    pub(crate) instance: String,
    /// Connections of the gRPC ports.
    pub(crate) connections: Arc<Connections>,
    /// Rate limit of new streams.
    pub(crate) admission: Admission,
    /// Limits on requests and streams.
    pub(crate) limits: Limits,
    /// Readiness of the process.
    pub(crate) health: Arc<Health>,
    /// Cancelled when streams and tasks have to end.
    pub(crate) stop: CancellationToken,
}

// === impl Context ===

impl Context {
    /// Returns the current snapshot of the mesh.
    pub(crate) fn snapshot(&self) -> Arc<PushContext> {
        self.snapshots.borrow().clone()
    }
}

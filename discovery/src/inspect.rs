//! Running state of this instance, read by debug pages and metrics. They change it only by operations of the parts.

use std::sync::Arc;

use crate::ads;
use crate::config::debug::DebugConfig;
use crate::source::SourceStatus;
use crate::transport::Load;

/// Running state of this instance.
pub(crate) struct RunningState {
    /// Proxies, generation, snapshot and metrics.
    pub(crate) ads: Arc<ads::Context>,
    /// Status of every source.
    pub(crate) sources: Vec<Arc<SourceStatus>>,
    /// Name of the cluster that this instance runs in.
    pub(crate) cluster_id: String,
    /// Access rules of the debug pages.
    pub(crate) debug: DebugConfig,
    /// Identifier of this process among the instances that compare their loads.
    pub(crate) id: String,
}

// === impl RunningState ===

impl RunningState {
    /// Creates the state of a ready instance with this snapshot, for tests.
    #[cfg(test)]
    pub(crate) fn with(snapshot: pilot_core::push::PushContext, debug: DebugConfig) -> Arc<Self> {
        use crate::config::Limits;
        use crate::source::RegistryKind;
        use crate::transport::{Admission, Health, Readiness};
        // The receiver holds the last value after the sender is dropped.
        let (_, snapshots) = tokio::sync::watch::channel(Arc::new(snapshot));
        let context = ads::Context {
            hub: ads::Hub::new(1),
            quarantine: ads::Quarantine::default(),
            metrics: crate::metrics::Metrics::new(),
            generation: ads::Generation::default(),
            snapshots,
            instance: "istiod-1".to_owned(),
            connections: Arc::default(),
            admission: Admission::new(Limits::default().opens_per_second),
            limits: Limits::default(),
            health: Arc::new(Health::new(Readiness::Ready)),
            stop: tokio_util::sync::CancellationToken::new(),
        };
        Arc::new(Self {
            ads: Arc::new(context),
            sources: vec![Arc::new(SourceStatus::new(RegistryKind::File.source_id()))],
            cluster_id: "Kubernetes".to_owned(),
            debug,
            id: "istiod-1".to_owned(),
        })
    }

    /// Returns the load of this instance, as other instances read it for rebalancing.
    pub(crate) fn load(&self) -> Load {
        Load {
            id: self.id.clone(),
            streams: self.ads.connections.streams(),
            draining: self.ads.health.not_ready().is_some(),
        }
    }
}

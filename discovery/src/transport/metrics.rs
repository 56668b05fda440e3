//! Metrics of the gRPC ports.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Why {
    reason: &'static str,
}

/// Counters; clones share them.
#[derive(Clone, Default)]
pub(crate) struct Metrics {
    connections: Family<Why, Counter>,
    refusals: Family<Why, Counter>,
    shed: Counter,
    /// Messages that a client did not read in time.
    pub(crate) write_timeouts: Counter,
}

// === impl Metrics ===

impl Metrics {
    /// Registers all metrics.
    pub(crate) fn register(&self, registry: &mut Registry) {
        registry.register(
            "pilot_grpc_connections_closed",
            "gRPC connections that ended, by reason",
            self.connections.clone(),
        );
        registry.register(
            "pilot_xds_refusals",
            "Streams and requests refused for a limit, by limit",
            self.refusals.clone(),
        );
        registry.register(
            "pilot_xds_shed",
            "Connections told to leave because other instances hold fewer",
            self.shed.clone(),
        );
        registry.register(
            "pilot_xds_write_timeout",
            "Messages that a client did not read in time",
            self.write_timeouts.clone(),
        );
    }

    pub(super) fn connection_ended(&self, reason: &'static str) {
        self.connections.get_or_create(&Why { reason }).inc();
    }

    /// Counts a refused stream or request by reason.
    pub(crate) fn refused(&self, reason: &'static str) {
        self.refusals.get_or_create(&Why { reason }).inc();
    }

    pub(super) fn shed(&self) {
        self.shed.inc();
    }
}

//! Metrics with Istio's names, labels and buckets. `/metrics` lists them with their meaning.
//!
//! Counters are incremented at the source; gauges are read at scrape time (`scrape`). Istio's counters have no suffix `_total`,
//! which `OpenMetrics` demands and dashboards do not expect: the page is in Prometheus' text format 0.0.4 (`text`).

mod labels;
mod scrape;
mod text;

use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use pilot_proto::ResourceType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};

pub(crate) use labels::by_type;
use labels::{Build, Quarantined, Reject, RejectedConfig, SourceEvent, Type, Version};

use crate::inspect::RunningState;
use crate::version::VERSION;

type ByType<M> = Family<Type, M>;

/// Findings of generators with Istio's metrics.
const CONFLICTS: [(&str, &str); 5] = [
    ("pilot_conflict_inbound_listener", "Target ports with conflicting protocols"),
    ("pilot_conflict_outbound_listener_tcp_over_current_tcp", "TCP services with the same address and port"),
    ("pilot_destrule_subsets", "Subsets with a duplicate name"),
    ("pilot_dns_cluster_without_endpoints", "DNS clusters without an address to resolve"),
    ("pilot_vservice_dup_domain", "Domains of more than one service"),
];

/// All metrics of the process.
pub(crate) struct Metrics {
    registry: Registry,
    started: Instant,
    uptime: Gauge<f64, AtomicU64>,
    connected: Family<Version, Gauge>,
    /// Sent responses, by type; failures as `cds_senderr` and so on.
    pub(crate) pushes: ByType<Counter>,
    /// Seconds to generate a response, by type.
    pub(crate) push_time: ByType<Histogram>,
    /// Seconds to hand a response to the connection.
    pub(crate) send_time: Histogram,
    /// Bytes of a response, by type URL.
    pub(crate) config_size: ByType<Histogram>,
    /// Seconds from the first change to the last type sent.
    pub(crate) convergence_time: Histogram,
    propagation_time: ByType<Histogram>,
    /// Seconds that a push waited for its turn.
    pub(crate) queue_time: Histogram,
    /// Seconds from the first change until the push was queued, with the build of the snapshot.
    pub(crate) debounce_time: Histogram,
    /// Seconds to build a snapshot.
    pub(crate) context_init: Histogram,
    /// Pushes by reason.
    pub(crate) push_triggers: ByType<Counter>,
    /// Received changes, by kind.
    pub(crate) inbound_updates: ByType<Counter>,
    /// Number of services.
    pub(crate) services: Gauge,
    /// Rejected responses, by type.
    pub(crate) rejects: ByType<Counter>,
    rejects_by_node: [(&'static str, Family<Reject, Gauge>); 4],
    /// Requests with an old nonce.
    pub(crate) expired_nonces: ByType<Counter>,
    /// Counters of the gRPC ports.
    pub(crate) transport: crate::transport::Metrics,
    received_max: Gauge,
    /// Internal errors.
    pub(crate) internal_errors: Counter,
    rejected_configs: Family<RejectedConfig, Gauge>,
    registry_events: Family<SourceEvent, Counter>,
    config_events: Family<SourceEvent, Counter>,
    conflicts: [(&'static str, Gauge); 5],
    no_instances: Gauge,
    not_ready: Gauge,
    no_pod: Gauge,
    cache_reads: ByType<Counter>,
    cache_evictions: ByType<Counter>,
    generated: ByType<Counter>,
    cache_size: Gauge,
    queue_length: Gauge,
    generations: Gauge,
    quarantined: Family<Quarantined, Gauge>,
    tasks: Gauge,
}

/// Registers a metric.
fn shown<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// Creates histograms of seconds, by type.
fn seconds_by_type() -> ByType<Histogram> {
    Family::new_with_constructor(|| Histogram::new([0.01, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0]))
}

/// Creates histograms of bytes, by type. Buckets: 4 MB is gRPC's default limit, 10 MB is a heavy load, 40 MB the largest observed
/// value.
fn bytes_by_type() -> ByType<Histogram> {
    Family::new_with_constructor(|| Histogram::new([1.0, 1e4, 1e6, 4e6, 1e7, 4e7]))
}

/// Converts a count to the type of gauges.
fn gauge(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

// === impl Metrics ===

impl Metrics {
    /// Creates and registers all metrics.
    #[rustfmt::skip]
    pub(crate) fn new() -> Self {
        let mut registry = Registry::default();
        let r = &mut registry;
        let transport = crate::transport::Metrics::default();
        transport.register(r);
        let slow = || Histogram::new([0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0]);
        let info = shown(r, "pilot_info", "Version of this instance", Family::<Version, Gauge>::default());
        info.get_or_create(&Version { version: VERSION.into() }).set(1);
        let build = shown(r, "istio_build", "Version of this component", Family::<Build, Gauge>::default());
        build.get_or_create(&Build { component: "pilot".into(), tag: VERSION.into() }).set(1);
        Self {
            started: Instant::now(),
            uptime: shown(r, "istiod_uptime_seconds", "Seconds since this instance started", Gauge::default()),
            connected: shown(r, "pilot_xds", "Connected proxies, by version", Family::default()),
            pushes: shown(r, "pilot_xds_pushes", "Responses sent, by type; <type>_senderr: could not be sent", Family::default()),
            push_time: shown(r, "pilot_xds_push_time", "Seconds to generate a response", seconds_by_type()),
            send_time: shown(r, "pilot_xds_send_time", "Seconds to hand a response to the connection",
                Histogram::new([0.01, 0.1, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0])),
            config_size: shown(r, "pilot_xds_config_size_bytes", "Bytes of a response, by type URL", bytes_by_type()),
            convergence_time: shown(r, "pilot_proxy_convergence_time", "Seconds from a change until all its types were sent to a proxy", slow()),
            propagation_time: shown(r, "pilot_propagation_time_seconds",
                "Seconds from a change until the ACK of a type", seconds_by_type()),
            queue_time: shown(r, "pilot_proxy_queue_time", "Seconds a push waited for its turn", slow()),
            debounce_time: shown(r, "pilot_debounce_time",
                "Seconds from the first change until the push was queued, including the build of the snapshot",
                Histogram::new([0.01, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0])),
            context_init: shown(r, "pilot_pushcontext_init_seconds", "Seconds to build a snapshot",
                Histogram::new([0.01, 0.1, 0.5, 1.0, 3.0, 5.0])),
            push_triggers: shown(r, "pilot_push_triggers", "Changes in pushes, by reason", Family::default()),
            inbound_updates: shown(r, "pilot_inbound_updates", "Received changes: config, eds, svc, svcdelete", Family::default()),
            services: shown(r, "pilot_services", "Number of services", Gauge::default()),
            rejects: shown(r, "pilot_total_xds_rejects", "Responses that proxies rejected, by type", Family::default()),
            rejects_by_node: ["cds", "eds", "lds", "rds"].map(|kind| {
                let help = "Rejected responses of a connected proxy since its last ACK";
                (kind, shown(r, &format!("pilot_xds_{kind}_reject"), help, Family::default()))
            }),
            expired_nonces: shown(r, "pilot_xds_expired_nonce", "Requests with an outdated nonce", Family::default()),
            transport,
            received_max: shown(r, "pilot_xds_recv_max", "Bytes of the largest request so far", Gauge::default()),
            internal_errors: shown(r, "pilot_total_xds_internal_errors", "Internal errors of the xDS server", Counter::default()),
            rejected_configs: shown(r, "pilot_total_rejected_configs", "Rejected configuration objects", Family::default()),
            registry_events: shown(r, "pilot_k8s_reg_events", "Objects of the registry added, updated and deleted", Family::default()),
            config_events: shown(r, "pilot_k8s_cfg_events", "Configuration objects added, updated and deleted", Family::default()),
            conflicts: CONFLICTS.map(|(name, help)| (name, shown(r, name, help, Gauge::default()))),
            no_instances: shown(r, "pilot_eds_no_instances", "Ports of services without an endpoint", Gauge::default()),
            not_ready: shown(r, "pilot_endpoint_not_ready", "Endpoints that are not ready", Gauge::default()),
            no_pod: shown(r, "endpoint_no_pod", "Endpoints without a known workload", Gauge::default()),
            cache_reads: shown(r, "xds_cache_reads", "Look-ups in the cache: hit, miss", Family::default()),
            cache_evictions: shown(r, "xds_cache_evictions", "Evicted resources", Family::default()),
            generated: shown(r, "pilot_xds_generated_resources", "Generated resources that were not cached, by type", Family::default()),
            cache_size: shown(r, "xds_cache_size", "Resources in the cache", Gauge::default()),
            queue_length: shown(r, "pilot_push_queue_length", "Proxies that wait for their turn in a push", Gauge::default()),
            generations: shown(r, "pilot_generations_running", "Answers that are being generated", Gauge::default()),
            quarantined: shown(r, "pilot_xds_quarantined_resources",
                "Versions of resources that a proxy rejected and is not sent again, by type and object", Family::default()),
            tasks: shown(r, "tokio_alive_tasks", "Tasks that have not ended", Gauge::default()),
            registry,
        }
    }

    /// Counts a proxy of this version: 1 connected, -1 disconnected.
    pub(crate) fn connected(&self, version: &str, change: i64) {
        self.connected.get_or_create(&Version { version: version.to_owned() }).inc_by(change);
    }

    /// Notes the size of a request.
    pub(crate) fn received(&self, bytes: usize) {
        // Of two concurrent updates the smaller may remain, until the next one.
        self.received_max.set(self.received_max.get().max(gauge(bytes)));
    }

    /// Counts a response that could not be sent to a connected client.
    pub(crate) fn send_error(&self, kind: ResourceType) {
        self.pushes.get_or_create(&by_type(&format!("{}_senderr", kind.short()))).inc();
    }

    /// Notes the time from a change to the ACK of a type.
    pub(crate) fn propagated(&self, kind: ResourceType, after: Duration) {
        self.propagation_time.get_or_create(&by_type(kind.short())).observe(after.as_secs_f64());
    }

    /// Returns the page.
    pub(crate) fn page(&self, state: &RunningState) -> String {
        scrape::scrape(self, state);
        self.uptime.set(self.started.elapsed().as_secs_f64());
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            // Writing to a String does not fail.
            text.push('\n');
        }
        text::to_text_0_0_4(&text)
    }
}

#[cfg(test)]
mod tests;

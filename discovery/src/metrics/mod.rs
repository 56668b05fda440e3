//! Metrics under Istio's names.
//!
//! Istio's counters carry no `_total`, which `OpenMetrics` demands and dashboards do not expect: the page is
//! served in Prometheus' text format 0.0.4, where a counter may have any name.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::sync::atomic::AtomicU64;
use std::time::Instant;

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::server::Shared;
use crate::version::VERSION;

/// One label, `type`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Type {
    /// `cds`, `eds`, ...
    pub(crate) r#type: String,
}

/// Labels of a rejected resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reject {
    /// Node id of the proxy.
    node: String,
    /// Code of the error detail.
    err: String,
}

/// Labels of configuration that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RejectedConfig {
    /// Kind of the object.
    r#type: String,
    /// `<namespace>/<name>`
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Version {
    version: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Build {
    component: String,
    tag: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct RegistryEvent {
    r#type: String,
    event: String,
}

type ByType<M> = Family<Type, M>;

/// What generation cannot make, under Istio's names.
const CONFLICTS: [(&str, &str); 4] = [
    ("pilot_conflict_inbound_listener", "Target ports wanted for different protocols"),
    (
        "pilot_conflict_outbound_listener_tcp_over_current_tcp",
        "TCP services that want the same address and port",
    ),
    ("pilot_dns_cluster_without_endpoints", "DNS clusters without an address to resolve"),
    ("pilot_vservice_dup_domain", "Domains that more than one service has"),
];

/// Every metric.
pub(crate) struct Metrics {
    registry: Registry,
    started: Instant,
    uptime: Gauge<f64, AtomicU64>,
    connected: Family<Version, Gauge>,
    /// Responses sent, by type.
    pub(crate) pushes: ByType<Counter>,
    /// Seconds to generate a response, by type.
    pub(crate) push_time: Family<Type, Histogram>,
    /// Seconds to hand a response to the connection.
    pub(crate) send_time: Histogram,
    /// Bytes of a response, by type.
    pub(crate) config_size: Family<Type, Histogram>,
    /// Seconds from the first change to the last type sent.
    pub(crate) convergence_time: Histogram,
    /// Seconds a push waited for its turn.
    pub(crate) queue_time: Histogram,
    /// Seconds changes were collected.
    pub(crate) debounce_time: Histogram,
    /// Seconds to build a snapshot.
    pub(crate) context_init: Histogram,
    /// Pushes by reason.
    pub(crate) push_triggers: ByType<Counter>,
    /// Changes that came in, by kind.
    pub(crate) inbound_updates: ByType<Counter>,
    /// Services known.
    pub(crate) services: Gauge,
    /// Rejected responses, by type.
    pub(crate) rejects: ByType<Counter>,
    /// Rejected responses, by type and proxy.
    rejects_by_node: [(&'static str, Family<Reject, Gauge>); 4],
    /// Requests with a nonce that is not the last one.
    pub(crate) expired_nonces: ByType<Counter>,
    /// Faults of ours.
    pub(crate) internal_errors: Counter,
    /// Configuration that cannot be used.
    rejected_configs: Family<RejectedConfig, Gauge>,
    /// What happened to objects that sources read.
    registry_events: Family<RegistryEvent, Gauge>,
    /// What could not be generated, by Istio's metric.
    conflicts: [(&'static str, Gauge); 4],
}

// === impl Metrics ===

impl Metrics {
    /// Registers everything.
    pub(crate) fn new() -> Self {
        let fast = || Histogram::new([0.01, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0]);
        let slow = || Histogram::new([0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0]);
        let sizes: fn() -> Histogram = || Histogram::new([1.0, 1e4, 1e6, 4e6, 1e7, 4e7]);
        let times: fn() -> Histogram = || Histogram::new([0.01, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0]);
        let mut metrics = Self {
            registry: Registry::default(),
            started: Instant::now(),
            uptime: Gauge::default(),
            connected: Family::default(),
            pushes: Family::default(),
            push_time: Family::new_with_constructor(times),
            send_time: fast(),
            config_size: Family::new_with_constructor(sizes),
            convergence_time: slow(),
            queue_time: slow(),
            debounce_time: fast(),
            context_init: fast(),
            push_triggers: Family::default(),
            inbound_updates: Family::default(),
            services: Gauge::default(),
            rejects: Family::default(),
            rejects_by_node: ["cds", "eds", "lds", "rds"].map(|kind| (kind, Family::default())),
            expired_nonces: Family::default(),
            internal_errors: Counter::default(),
            rejected_configs: Family::default(),
            registry_events: Family::default(),
            conflicts: CONFLICTS.map(|(name, _)| (name, Gauge::default())),
        };
        metrics.register();
        metrics
    }

    fn register(&mut self) {
        let r = &mut self.registry;
        r.register("istiod_uptime_seconds", "Seconds since this instance started", self.uptime.clone());
        r.register("pilot_xds", "Proxies connected over xDS", self.connected.clone());
        r.register("pilot_xds_pushes", "Responses sent", self.pushes.clone());
        r.register("pilot_xds_push_time", "Seconds to generate a response", self.push_time.clone());
        r.register(
            "pilot_xds_send_time",
            "Seconds to hand a response to the connection",
            self.send_time.clone(),
        );
        r.register("pilot_xds_config_size_bytes", "Bytes of a response", self.config_size.clone());
        r.register(
            "pilot_proxy_convergence_time",
            "Seconds from a change until all types were sent",
            self.convergence_time.clone(),
        );
        r.register("pilot_proxy_queue_time", "Seconds a push waited for its turn", self.queue_time.clone());
        r.register("pilot_debounce_time", "Seconds that changes were collected", self.debounce_time.clone());
        r.register(
            "pilot_pushcontext_init_seconds",
            "Seconds to build a snapshot",
            self.context_init.clone(),
        );
        r.register("pilot_push_triggers", "Pushes by reason", self.push_triggers.clone());
        r.register("pilot_inbound_updates", "Changes that came in", self.inbound_updates.clone());
        r.register("pilot_services", "Services known", self.services.clone());
        r.register("pilot_total_xds_rejects", "Responses that proxies rejected", self.rejects.clone());
        for (kind, family) in &self.rejects_by_node {
            r.register(format!("pilot_xds_{kind}_reject"), "Responses that a proxy rejected", family.clone());
        }
        r.register("pilot_xds_expired_nonce", "Requests with an outdated nonce", self.expired_nonces.clone());
        r.register(
            "pilot_total_xds_internal_errors",
            "Faults of the xDS server",
            self.internal_errors.clone(),
        );
        r.register(
            "pilot_total_rejected_configs",
            "Configuration that could not be used",
            self.rejected_configs.clone(),
        );
        r.register(
            "pilot_k8s_reg_events",
            "Objects added, updated and deleted",
            self.registry_events.clone(),
        );
        for ((name, gauge), (_, help)) in self.conflicts.iter().zip(CONFLICTS) {
            r.register(*name, help, gauge.clone());
        }
        let info = Family::<Version, Gauge>::default();
        info.get_or_create(&Version { version: VERSION.into() }).set(1);
        r.register("pilot_info", "Version of this instance", info);
        let build = Family::<Build, Gauge>::default();
        build.get_or_create(&Build { component: "pilot".into(), tag: VERSION.into() }).set(1);
        r.register("istio_build", "Version of this component", build);
    }

    /// A proxy of this version came (1) or went (-1).
    pub(crate) fn connected(&self, version: &str, change: i64) {
        self.connected.get_or_create(&Version { version: version.to_owned() }).inc_by(change);
    }

    /// A proxy rejected a response.
    pub(crate) fn rejected(&self, kind: &str, node: &str, code: i32) {
        self.rejects.get_or_create(&by_type(kind)).inc();
        if let Some((_, family)) = self.rejects_by_node.iter().find(|(known, _)| *known == kind) {
            family.get_or_create(&Reject { node: node.to_owned(), err: code.to_string() }).inc();
        }
    }

    /// A proxy accepted a response (or left): it rejects nothing any more.
    pub(crate) fn accepted(&self, kind: &str, node: &str, code: i32) {
        if let Some((_, family)) = self.rejects_by_node.iter().find(|(known, _)| *known == kind) {
            family.remove(&Reject { node: node.to_owned(), err: code.to_string() });
        }
    }

    /// The page. What others keep is read now.
    pub(crate) fn page(&self, shared: &Shared) -> String {
        self.rejected_configs.clear();
        for problem in shared.files.problems() {
            let object = problem.object.clone().unwrap_or_default();
            let (kind, name) = object.split_once(' ').unwrap_or(("", ""));
            let labels = RejectedConfig { r#type: kind.to_owned(), name: name.to_owned() };
            self.rejected_configs.get_or_create(&labels).inc();
        }
        for (kind, fate, count) in shared.files.events() {
            let labels = RegistryEvent { r#type: kind.as_str().to_owned(), event: fate.as_str().to_owned() };
            self.registry_events.get_or_create(&labels).set(i64::try_from(count).unwrap_or(i64::MAX));
        }
        let rejected = shared.hub.rejected();
        for (metric, gauge) in &self.conflicts {
            let named = rejected.iter().filter(|(_, rejected)| rejected.reason.metric() == Some(metric));
            let subjects: BTreeSet<&str> = named.map(|(_, rejected)| rejected.subject.as_str()).collect();
            gauge.set(i64::try_from(subjects.len()).unwrap_or(i64::MAX));
        }
        self.text()
    }

    fn text(&self) -> String {
        self.uptime.set(self.started.elapsed().as_secs_f64());
        let mut text = String::new();
        if prometheus_client::encoding::text::encode(&mut text, &self.registry).is_err() {
            // Writing to a String does not fail; a page cut short is better than none.
            text.push('\n');
        }
        to_text_0_0_4(&text)
    }
}

/// The label set `{type="..."}`.
pub(crate) fn by_type(kind: &str) -> Type {
    Type { r#type: kind.to_owned() }
}

/// `OpenMetrics` to text format 0.0.4: no `# EOF`, no `# UNIT`, and counters without the `_total` that the encoder added.
fn to_text_0_0_4(open_metrics: &str) -> String {
    let mut text = String::with_capacity(open_metrics.len());
    let mut counter = None;
    for line in open_metrics.lines().filter(|line| *line != "# EOF" && !line.starts_with("# UNIT")) {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            counter = rest.strip_suffix(" counter");
        }
        let sample =
            counter.and_then(|name| line.strip_prefix(name)?.strip_prefix("_total").map(|rest| (name, rest)));
        let written = match sample {
            Some((name, rest)) => writeln!(text, "{name}{rest}"),
            None => writeln!(text, "{line}"),
        };
        debug_assert!(written.is_ok(), "a String takes everything");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_carry_istios_names() {
        let metrics = Metrics::new();
        metrics.pushes.get_or_create(&by_type("cds")).inc();
        metrics.rejected("cds", "sidecar~1", 13);
        let page = metrics.text();
        assert!(
            page.contains("# TYPE pilot_xds_pushes counter\npilot_xds_pushes{type=\"cds\"} 1\n"),
            "{page}"
        );
        assert!(page.contains("pilot_xds_cds_reject{node=\"sidecar~1\",err=\"13\"} 1\n"), "{page}");
        assert!(!page.contains("_total{") && !page.contains("# EOF"), "{page}");
    }
}

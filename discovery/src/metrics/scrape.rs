//! Values that are read at scrape time: state of other parts, and series that end with a connection. A disconnected proxy has no
//! series, so their number is bounded by the connected proxies.

use std::collections::BTreeMap;

use pilot_core::model::{Endpoint, EndpointAddress, Health, Protocol, Resolution, ServicePort};
use pilot_core::push::PushContext;
use pilot_core::validate::Severity;
use prometheus_client::metrics::counter::Counter;

use super::labels::{Quarantined, Reject, RejectedConfig, SourceEvent, by_type};
use super::{Metrics, gauge};
use crate::debug::troubles;
use crate::inspect::RunningState;
use crate::source::objects::ObjectKind;

/// Reads all values.
pub(super) fn scrape(metrics: &Metrics, state: &RunningState) {
    proxies(metrics, state);
    sources(metrics, state);
    cache(metrics, state);
    endpoints(metrics, &state.ads.snapshot());
    metrics.queue_length.set(gauge(state.ads.hub.waiting()));
    metrics.quarantined.clear();
    for (_, kind, refused) in state.ads.quarantine.all() {
        let resource = refused.refusal.name.to_string();
        let object = refused.origins.into_iter().next().unwrap_or(resource);
        metrics.quarantined.get_or_create(&Quarantined { r#type: kind.short().to_owned(), object }).inc();
    }
    if let Ok(runtime) = tokio::runtime::Handle::try_current() {
        metrics.tasks.set(gauge(runtime.metrics().num_alive_tasks()));
    }
    metrics.generations.set(gauge(state.ads.generation.running()));
}

fn proxies(metrics: &Metrics, state: &RunningState) {
    let clients = state.ads.hub.clients();
    for (_, family) in &metrics.rejects_by_node {
        family.clear();
    }
    for client in &clients {
        for (kind, known) in client.types().into_iter().filter(|(_, known)| known.refused.count > 0) {
            let family = metrics.rejects_by_node.iter().find(|(known, _)| *known == kind.short());
            if let Some((_, family)) = family {
                let labels =
                    Reject { node: client.proxy.id.to_string(), err: known.refused.code.to_string() };
                family.get_or_create(&labels).inc_by(known.refused.count.into());
            }
        }
    }
    let troubles = troubles(&clients);
    for (metric, found) in &metrics.conflicts {
        found.set(gauge(troubles.get(metric).map_or(0, BTreeMap::len)));
    }
}

fn sources(metrics: &Metrics, state: &RunningState) {
    metrics.rejected_configs.clear();
    let problems = state.sources.iter().flat_map(|source| source.problems());
    for problem in problems.filter(|problem| problem.severity == Severity::Error) {
        let object = problem.object.clone().unwrap_or_default();
        let (kind, name) = object.split_once(' ').unwrap_or(("", ""));
        let labels = RejectedConfig { r#type: kind.to_owned(), name: name.to_owned() };
        metrics.rejected_configs.get_or_create(&labels).inc();
    }
    let mut events: BTreeMap<_, u64> = BTreeMap::new();
    for (kind, action, count) in state.sources.iter().flat_map(|source| source.events()) {
        *events.entry((kind, action)).or_default() += count;
    }
    for ((kind, action), count) in events {
        let (family, kind) = match kind {
            ObjectKind::Config(kind) => (&metrics.config_events, kind.as_str()),
            // Spelling of Istio's registry.
            ObjectKind::Namespace => (&metrics.registry_events, "Namespaces"),
            ObjectKind::Node => (&metrics.registry_events, "Nodes"),
            ObjectKind::Pod => (&metrics.registry_events, "Pods"),
            ObjectKind::Service => (&metrics.registry_events, "Services"),
            ObjectKind::EndpointSlice | ObjectKind::Endpoints => (&metrics.registry_events, kind.as_str()),
        };
        let labels = SourceEvent { r#type: kind.to_owned(), event: action.as_str().to_owned() };
        catch_up(&family.get_or_create(&labels), count);
    }
}

fn cache(metrics: &Metrics, state: &RunningState) {
    let counts = state.ads.generation.cache();
    let sum = |of: fn(&pilot_core::cache::Stats) -> u64| counts.values().map(of).sum::<u64>();
    catch_up(&metrics.cache_reads.get_or_create(&by_type("hit")), sum(|cached| cached.hits));
    catch_up(&metrics.cache_reads.get_or_create(&by_type("miss")), sum(|cached| cached.misses));
    for (kind, of_kind) in &counts {
        catch_up(&metrics.generated.get_or_create(&by_type(kind.short())), of_kind.misses);
    }
    catch_up(&metrics.cache_evictions.get_or_create(&by_type("size")), sum(|cached| cached.evictions));
    metrics.cache_size.set(i64::try_from(sum(|cached| cached.entries)).unwrap_or(i64::MAX));
}

/// Counts endpoints of the snapshot. Istio counts them during generation, once for each proxy.
fn endpoints(metrics: &Metrics, snapshot: &PushContext) {
    let (mut without, mut unready, mut no_pod) = (0, 0, 0);
    for service in snapshot.services.values() {
        let endpoints = snapshot.endpoints_of(service);
        if service.resolution == Resolution::ClientSideLb {
            let unserved = |port: &&ServicePort| {
                port.protocol != Protocol::Udp
                    && endpoints.iter().all(|endpoint| endpoint.port_name != port.name)
            };
            without += service.ports.iter().filter(unserved).count();
        }
        unready += endpoints.iter().filter(|endpoint| endpoint.health == Health::Unhealthy).count();
        if service.registry.has_pods() {
            let podless = |endpoint: &&Endpoint| match &endpoint.address {
                EndpointAddress::Ip(ip) => !snapshot.workloads.contains_key(ip),
                EndpointAddress::Unix(_) | EndpointAddress::Dns(_) => false,
            };
            no_pod += endpoints.iter().filter(podless).count();
        }
    }
    metrics.no_instances.set(gauge(without));
    metrics.not_ready.set(gauge(unready));
    metrics.no_pod.set(gauge(no_pod));
}

/// Advances a counter to a total that is kept elsewhere.
fn catch_up(counter: &Counter, total: u64) {
    counter.inc_by(total.saturating_sub(counter.get()));
}

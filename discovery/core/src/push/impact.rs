//! Resource types that a change can affect, by type of proxy.
//!
//! A table of the inputs of the generators. A type too many costs a comparison: equal resources are not sent. The scope of a
//! proxy is not considered here.

use std::collections::BTreeSet;

use pilot_proto::ResourceType;
use pilot_proto::node::NodeType;

use super::{PushRequest, Reason};
use crate::model::{ChangeKind, ConfigKind};

/// Returns the types to generate for a proxy, in push order.
pub fn touched(request: &PushRequest, node_type: NodeType) -> BTreeSet<ResourceType> {
    if request.forced {
        return ResourceType::ALL.into();
    }
    let mut kinds: BTreeSet<ResourceType> =
        request.updated.iter().flat_map(|key| touched_by(key.kind, node_type)).copied().collect();
    if is_headless_only(request) {
        // Names of services and ports are unchanged, and clusters are generated from nothing else.
        kinds.remove(&ResourceType::Cluster);
        kinds.remove(&ResourceType::Route);
        // Only sidecars have a listener for each address of a headless service.
        if node_type == NodeType::Router {
            kinds.remove(&ResourceType::Listener);
        }
    }
    kinds
}

const fn touched_by(kind: ChangeKind, node_type: NodeType) -> &'static [ResourceType] {
    use ResourceType::{Cluster, Endpoint, Extension, Listener, Route};
    match kind {
        ChangeKind::Service | ChangeKind::Config(ConfigKind::ServiceEntry | ConfigKind::DestinationRule) => {
            &[Cluster, Endpoint, Listener, Route]
        }
        // The mesh configuration names the root namespace, whose objects apply to all.
        ChangeKind::MeshConfig => &[Cluster, Endpoint, Listener, Route, Extension],
        ChangeKind::Endpoints | ChangeKind::Config(ConfigKind::WorkloadEntry) => &[Endpoint],
        ChangeKind::Config(ConfigKind::Sidecar) if matches!(node_type, NodeType::Router) => &[],
        ChangeKind::Config(ConfigKind::Gateway) if !matches!(node_type, NodeType::Router) => &[],
        // Clusters too: a destination is visible to all clients of its rule.
        ChangeKind::Config(ConfigKind::VirtualService | ConfigKind::Sidecar | ConfigKind::Gateway) => {
            &[Cluster, Listener, Route]
        }
        ChangeKind::Config(ConfigKind::EnvoyFilter) => &[Cluster, Listener, Route, Extension],
        ChangeKind::Config(ConfigKind::Telemetry) => &[Listener],
        // Read at start, by the agent and by machines that register themselves.
        ChangeKind::Config(ConfigKind::ProxyConfig | ConfigKind::WorkloadGroup) => &[],
        // Labels of a proxy can match any selector.
        ChangeKind::Proxy => &ResourceType::ALL,
    }
}

/// Returns `true` if services are in the request only because endpoints of headless ones changed.
fn is_headless_only(request: &PushRequest) -> bool {
    request.reasons.contains_key(&Reason::HeadlessEndpoint)
        && !request.reasons.contains_key(&Reason::Service)
        && request.updated.iter().all(|key| key.kind == ChangeKind::Service)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ConfigKey;

    fn check(kinds: &[ChangeKind], reasons: &[Reason], node_type: NodeType, expected: &str) {
        let key = |kind| ConfigKey { kind, namespace: "default".into(), name: "a".into() };
        let request = PushRequest {
            updated: kinds.iter().copied().map(key).collect(),
            reasons: reasons.iter().map(|reason| (*reason, 1)).collect(),
            ..PushRequest::default()
        };
        let touched: Vec<&str> = touched(&request, node_type).iter().map(|kind| kind.short()).collect();
        assert_eq!(touched.join(" "), expected, "{kinds:?} {reasons:?} {node_type}");
    }

    #[test]
    fn each_kind_touches_what_is_made_from_it() {
        for node_type in [NodeType::Sidecar, NodeType::Router] {
            for (kind, expected) in [
                (ChangeKind::Service, "cds eds lds rds"),
                (ChangeKind::Endpoints, "eds"),
                (ChangeKind::Config(ConfigKind::WorkloadEntry), "eds"),
                (ChangeKind::MeshConfig, "cds eds lds rds ecds"),
                (ChangeKind::Config(ConfigKind::DestinationRule), "cds eds lds rds"),
                (ChangeKind::Config(ConfigKind::VirtualService), "cds lds rds"),
                (ChangeKind::Config(ConfigKind::EnvoyFilter), "cds lds rds ecds"),
                (ChangeKind::Config(ConfigKind::Telemetry), "lds"),
                (ChangeKind::Config(ConfigKind::ProxyConfig), ""),
                (ChangeKind::Config(ConfigKind::WorkloadGroup), ""),
                (ChangeKind::Proxy, "cds eds lds rds sds ecds"),
            ] {
                check(&[kind], &[Reason::Config], node_type, expected);
            }
            check(&[], &[], node_type, "");
            check(&[ChangeKind::Endpoints, ChangeKind::Proxy], &[], node_type, "cds eds lds rds sds ecds");
        }
    }

    #[test]
    fn sidecars_know_no_gateways_and_gateways_no_sidecars() {
        for (kind, sidecar, router) in [
            (ChangeKind::Config(ConfigKind::Sidecar), "cds lds rds", ""),
            (ChangeKind::Config(ConfigKind::Gateway), "", "cds lds rds"),
        ] {
            check(&[kind], &[Reason::Config], NodeType::Sidecar, sidecar);
            check(&[kind], &[Reason::Config], NodeType::Router, router);
        }
    }

    #[test]
    fn endpoints_of_headless_services_touch_only_sidecars_listeners() {
        use Reason::{Endpoint, HeadlessEndpoint, Service};
        let service: &[ChangeKind] = &[ChangeKind::Service];
        check(service, &[HeadlessEndpoint], NodeType::Sidecar, "eds lds");
        check(service, &[HeadlessEndpoint], NodeType::Router, "eds");
        check(service, &[HeadlessEndpoint, Service], NodeType::Router, "cds eds lds rds");
        let more: &[ChangeKind] = &[ChangeKind::Service, ChangeKind::Endpoints];
        check(more, &[HeadlessEndpoint, Endpoint], NodeType::Sidecar, "cds eds lds rds");
    }

    #[test]
    fn force_touches_everything() {
        let request = PushRequest::forced(Reason::Debug);
        assert_eq!(touched(&request, NodeType::Sidecar), ResourceType::ALL.into());
    }
}

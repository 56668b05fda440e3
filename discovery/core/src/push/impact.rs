//! Which types of resources a change can touch, for which kind of proxy.
//!
//! A table of what generators read. It errs on the side of a type too many: what turns out to be equal is not sent.
//! Whether a change is in a proxy's scope at all is not decided here.

use std::collections::BTreeSet;

use pilot_proto::ResourceType;
use pilot_proto::node::NodeType;

use super::{PushRequest, Reason};
use crate::model::Kind;

/// The types to generate for a proxy, in push order.
pub fn touched(request: &PushRequest, node_type: NodeType) -> BTreeSet<ResourceType> {
    if request.forced {
        return ResourceType::ALL.into();
    }
    let mut kinds: BTreeSet<ResourceType> =
        request.updated.iter().flat_map(|key| touched_by(key.kind, node_type)).copied().collect();
    if is_headless_only(request) {
        // Names of services and ports are as they were, and these two are made from nothing else.
        kinds.remove(&ResourceType::Cluster);
        kinds.remove(&ResourceType::Route);
        // Only sidecars listen on each address of a headless service.
        if node_type == NodeType::Router {
            kinds.remove(&ResourceType::Listener);
        }
    }
    kinds
}

const fn touched_by(kind: Kind, node_type: NodeType) -> &'static [ResourceType] {
    use ResourceType::{Cluster, Endpoint, Extension, Listener, Route};
    match kind {
        Kind::ServiceEntry | Kind::DestinationRule => &[Cluster, Endpoint, Listener, Route],
        // It says which namespace's objects are for all.
        Kind::MeshConfig => &[Cluster, Endpoint, Listener, Route, Extension],
        Kind::Endpoints | Kind::WorkloadEntry => &[Endpoint],
        Kind::Sidecar if matches!(node_type, NodeType::Router) => &[],
        Kind::Gateway if !matches!(node_type, NodeType::Router) => &[],
        // Clusters too: what a rule leads to is visible to whoever the rule is for.
        Kind::VirtualService | Kind::Sidecar | Kind::Gateway => &[Cluster, Listener, Route],
        Kind::EnvoyFilter => &[Cluster, Listener, Route, Extension],
        Kind::Telemetry => &[Listener],
        // Read at start, by the agent and by machines that register themselves.
        Kind::ProxyConfig | Kind::WorkloadGroup => &[],
        // Its labels select whatever can be selected.
        Kind::Proxy => &ResourceType::ALL,
    }
}

/// Whether services are named only because endpoints of headless ones changed.
fn is_headless_only(request: &PushRequest) -> bool {
    request.reasons.contains_key(&Reason::HeadlessEndpoint)
        && !request.reasons.contains_key(&Reason::Service)
        && request.updated.iter().all(|key| key.kind == Kind::ServiceEntry)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::ConfigKey;

    fn check(kinds: &[Kind], reasons: &[Reason], node_type: NodeType, expected: &str) {
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
                (Kind::ServiceEntry, "cds eds lds rds"),
                (Kind::Endpoints, "eds"),
                (Kind::WorkloadEntry, "eds"),
                (Kind::MeshConfig, "cds eds lds rds ecds"),
                (Kind::DestinationRule, "cds eds lds rds"),
                (Kind::VirtualService, "cds lds rds"),
                (Kind::EnvoyFilter, "cds lds rds ecds"),
                (Kind::Telemetry, "lds"),
                (Kind::ProxyConfig, ""),
                (Kind::WorkloadGroup, ""),
                (Kind::Proxy, "cds eds lds rds sds ecds"),
            ] {
                check(&[kind], &[Reason::Config], node_type, expected);
            }
            check(&[], &[], node_type, "");
            check(&[Kind::Endpoints, Kind::Proxy], &[], node_type, "cds eds lds rds sds ecds");
        }
    }

    #[test]
    fn sidecars_know_no_gateways_and_gateways_no_sidecars() {
        for (kind, sidecar, router) in
            [(Kind::Sidecar, "cds lds rds", ""), (Kind::Gateway, "", "cds lds rds")]
        {
            check(&[kind], &[Reason::Config], NodeType::Sidecar, sidecar);
            check(&[kind], &[Reason::Config], NodeType::Router, router);
        }
    }

    #[test]
    fn endpoints_of_headless_services_touch_only_sidecars_listeners() {
        use Reason::{Endpoint, HeadlessEndpoint, Service};
        let service: &[Kind] = &[Kind::ServiceEntry];
        check(service, &[HeadlessEndpoint], NodeType::Sidecar, "eds lds");
        check(service, &[HeadlessEndpoint], NodeType::Router, "eds");
        check(service, &[HeadlessEndpoint, Service], NodeType::Router, "cds eds lds rds");
        let more: &[Kind] = &[Kind::ServiceEntry, Kind::Endpoints];
        check(more, &[HeadlessEndpoint, Endpoint], NodeType::Sidecar, "cds eds lds rds");
    }

    #[test]
    fn force_touches_everything() {
        let request = PushRequest::forced(Reason::Debug);
        assert_eq!(touched(&request, NodeType::Sidecar), ResourceType::ALL.into());
    }
}

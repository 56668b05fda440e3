//! Affected proxies of changes, in a mesh of two namespaces.

use pilot_proto::node::{NodeId, NodeMetadata, NodeType};

use super::*;
use crate::model::{Locality, Location, Registry, Resolution, Service};
use crate::push::Reason;
use crate::world::World;

fn proxy(namespace: &str, ip: &str) -> Proxy {
    let id = format!("p.{namespace}");
    Proxy {
        id: NodeId { node_type: NodeType::Sidecar, ip: ip.into(), id, dns_domain: String::new() },
        ips: vec![ip.parse().unwrap()],
        namespace: namespace.into(),
        metadata: NodeMetadata::default(),
        locality: Locality::default(),
        service_cluster: String::new(),
    }
}

fn key(kind: ChangeKind, namespace: &str, name: &str) -> ConfigKey {
    ConfigKey { kind, namespace: namespace.into(), name: name.into() }
}

fn clusters(hosts: &str) -> NameSet {
    hosts.split_whitespace().map(|host| format!("outbound|80||{host}").into()).collect()
}

/// Members 1 and 2 are in `shop` and subscribe to `a` and `b`; 3 is there and subscribes to `b`; 4 is in `bank` and subscribes to
/// `a`.
fn index() -> Index<u8> {
    let mut index = Index::default();
    let members = [(1, "shop", "a b"), (2, "shop", "a b"), (3, "shop", "b"), (4, "bank", "a")];
    for (member, namespace, hosts) in members {
        index.join(member, &proxy(namespace, &format!("10.0.0.{member}")));
        index.follow(member, &clusters(hosts));
    }
    index
}

/// Checks the affected proxies, and the number of keys of each.
fn told(index: &Index<u8>, keys: &[ConfigKey], push: &PushContext) -> Vec<(u8, usize)> {
    let request = Arc::new(PushRequest::of(keys.iter().cloned(), Reason::Config));
    let mut told: Vec<(u8, usize)> = index
        .concerned(&request, &PushContext::default(), push)
        .into_iter()
        .map(|(member, request)| (member, request.updated.len()))
        .collect();
    told.sort_unstable();
    told
}

fn nothing() -> PushContext {
    PushContext::default().next(&World::new("cluster.local", []))
}

/// A mesh with a service of this host in `shop`.
fn with(host: &str, export_to: &[ExportTo]) -> PushContext {
    let mut push = nothing();
    let service = Service {
        hostname: host.into(),
        namespace: "shop".into(),
        name: host.into(),
        registry: Registry::Kubernetes,
        ports: Vec::new(),
        addresses: Vec::new(),
        resolution: Resolution::ClientSideLb,
        location: Location::MeshInternal,
        export_to: export_to.to_vec(),
        labels: BTreeMap::new(),
        selector: BTreeMap::new(),
        service_accounts: Vec::new(),
        created: 0,
        node_local: false,
        distribution: crate::model::Distribution::Any,
    };
    push.services.insert((host.into(), "shop".into()), Arc::new(service));
    push
}

#[test]
fn endpoints_concern_those_who_asked_for_them() {
    let (index, push) = (index(), nothing());
    assert_eq!(told(&index, &[key(ChangeKind::Endpoints, "x", "a")], &push), [(1, 1), (2, 1), (4, 1)]);
    assert_eq!(told(&index, &[key(ChangeKind::Endpoints, "x", "b")], &push), [(1, 1), (2, 1), (3, 1)]);
    assert_eq!(told(&index, &[key(ChangeKind::Endpoints, "x", "c")], &push), []);
    let both = [key(ChangeKind::Endpoints, "x", "a"), key(ChangeKind::Endpoints, "x", "b")];
    assert_eq!(told(&index, &both, &push), [(1, 2), (2, 2), (3, 1), (4, 1)]);
}

#[test]
fn a_service_concerns_whoever_sees_it_or_asked_for_it() {
    let index = index();
    for (export_to, expected) in [
        (vec![], vec![1, 2, 3, 4]),
        (vec![ExportTo::Private], vec![1, 2, 3]),
        (vec![ExportTo::To("bank".into())], vec![1, 2, 3, 4]),
        (vec![ExportTo::To("other".into())], vec![1, 2, 3]),
    ] {
        let push = with("new", &export_to);
        let members: Vec<u8> = told(&index, &[key(ChangeKind::Service, "shop", "new")], &push)
            .into_iter()
            .map(|it| it.0)
            .collect();
        assert_eq!(members, expected, "{export_to:?}");
    }
    // Removed, and its visibility is unknown: proxies that subscribe to its endpoints are affected.
    let gone: Vec<u8> =
        told(&index, &[key(ChangeKind::Service, "x", "a")], &nothing()).into_iter().map(|it| it.0).collect();
    assert_eq!(gone, [1, 2, 4]);
}

#[test]
fn a_workload_concerns_the_proxy_beside_it() {
    let (index, push) = (index(), nothing());
    let own = key(ChangeKind::Proxy, "", "10.0.0.3");
    assert_eq!(told(&index, std::slice::from_ref(&own), &push), [(3, 1)]);
    assert_eq!(
        told(&index, &[key(ChangeKind::Endpoints, "x", "a"), own], &push),
        [(1, 1), (2, 1), (3, 1), (4, 1)]
    );
    assert_eq!(told(&index, &[key(ChangeKind::Proxy, "", "nonsense")], &push), []);
}

#[test]
fn the_mesh_concerns_everybody() {
    assert_eq!(told(&index(), &[key(ChangeKind::MeshConfig, "", "mesh")], &nothing()).len(), 4);
    let forced = Arc::new(PushRequest::forced(Reason::Debug));
    assert_eq!(index().concerned(&forced, &nothing(), &nothing()).len(), 4);
}

#[test]
fn who_left_or_asks_for_something_else_is_not_told() {
    let mut index = index();
    index.leave(1);
    index.follow(2, &clusters("c"));
    assert_eq!(told(&index, &[key(ChangeKind::Endpoints, "x", "a")], &nothing()), [(4, 1)]);
    for member in [2, 3, 4] {
        index.leave(member);
    }
    assert!(index.members.is_empty() && index.audiences.is_empty());
    assert!(index.by_host.is_empty() && index.by_address.is_empty(), "nothing is left behind");
}

#[test]
fn an_audience_knows_which_of_its_endpoints_a_push_touches() {
    let audience = Audience::of(&clusters("a b c d"));
    let touched =
        |keys: &[ConfigKey]| audience.touched(&PushRequest::of(keys.iter().cloned(), Reason::Config));
    assert_eq!(touched(&[key(ChangeKind::Endpoints, "x", "a")]), Some(clusters("a")));
    let both = [key(ChangeKind::Endpoints, "x", "z"), key(ChangeKind::Service, "x", "b")];
    assert_eq!(touched(&both), Some(clusters("b")));
    assert_eq!(touched(&[key(ChangeKind::Config(ConfigKind::WorkloadEntry), "x", "a")]), Some(clusters("")));
    assert_eq!(
        touched(&[key(ChangeKind::Endpoints, "x", "a"), key(ChangeKind::MeshConfig, "", "mesh")]),
        None
    );
    assert_eq!(
        touched(&[key(ChangeKind::Config(ConfigKind::DestinationRule), "x", "rule")]),
        None,
        "subsets may have other labels now"
    );
    assert_eq!(audience.touched(&PushRequest::forced(Reason::Debug)), None);
}

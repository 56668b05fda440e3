//! Scopes over histories of a mesh: an incremental scope equals a new one, and affected proxies are notified.

use pilot_proto::mesh::MeshConfig;
use pilot_proto::node::{NodeId, NodeMetadata};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};

use super::*;
use crate::model::{
    Change, ConfigKey, ConfigKind, ConfigMeta, Locality, Location, Protocol, Registry, SourceEvent, SourceId,
    TargetPort,
};
use crate::push::{PushRequest, Reason};
use crate::world::World;

const NAMESPACES: [&str; 3] = ["shop", "bank", "istio-system"];

fn source() -> SourceId {
    SourceId("test".into())
}

fn service(host: &str, namespace: &str, port: u16, export_to: &str, resolution: Resolution) -> Change {
    Change::Service(Arc::new(Service {
        hostname: host.into(),
        namespace: namespace.into(),
        name: host.into(),
        registry: Registry::External,
        ports: vec![ServicePort {
            name: "http".into(),
            port,
            protocol: Protocol::Http,
            target: TargetPort::Number(port),
        }],
        addresses: Vec::new(),
        resolution,
        location: Location::MeshInternal,
        export_to: vec![ExportTo::parse(export_to)],
        labels: [].into(),
        selector: [].into(),
        service_accounts: Vec::new(),
        created: 0,
        node_local: false,
        distribution: crate::model::Distribution::Any,
    }))
}

fn config(name: &str, namespace: &str, spec: ConfigSpec) -> Change {
    let meta = ConfigMeta {
        namespace: namespace.into(),
        name: name.into(),
        labels: [].into(),
        annotations: [].into(),
        created: 0,
    };
    Change::Config(Arc::new(ConfigObject { meta, spec }))
}

fn sidecar_of(namespace: &str, spec: &Value) -> Change {
    config("s", namespace, ConfigSpec::Sidecar(serde_json::from_value(spec.clone()).unwrap()))
}

fn proxy(namespace: &str, last: u8) -> Proxy {
    let (ip, id) = (format!("10.0.0.{last}"), format!("p.{namespace}"));
    Proxy {
        ips: vec![ip.parse().unwrap()],
        id: NodeId { node_type: NodeType::Sidecar, ip, id, dns_domain: String::new() },
        namespace: namespace.into(),
        metadata: NodeMetadata::default(),
        locality: Locality::default(),
        service_cluster: String::new(),
    }
}

fn change() -> impl Strategy<Value = Change> {
    let host = || select(vec!["a.x", "b.x", "c.x"]);
    let namespace = || select(NAMESPACES.to_vec());
    let resolution = select(vec![
        Resolution::ClientSideLb,
        Resolution::Dns,
        Resolution::Passthrough,
        Resolution::Alias("a.x".into()),
    ]);
    let hosts = select(vec!["*/*", "./*", "shop/*", "shop/a.x", "*/b.x", "~/*", "bank/c.x"]);
    let egress = (hosts, select(vec![0, 80, 81])).prop_map(|(hosts, port)| {
        let port = (port > 0).then(|| json!({"number": port, "protocol": "HTTP", "name": "http"}));
        json!({"hosts": [hosts], "port": port})
    });
    let sidecar = (prop::collection::vec(egress, 0..3), any::<bool>()).prop_map(|(egress, proxied)| {
        let proxy = proxied.then(|| json!({"mode": "ALLOW_ANY", "egressProxy": {"host": "c.x"}}));
        json!({"egress": egress, "outboundTrafficPolicy": proxy})
    });
    prop_oneof![
        4 => (host(), namespace(), select(vec![80, 81]), select(vec!["*", ".", "bank"]), resolution)
            .prop_map(|(host, namespace, port, to, resolution)| service(host, namespace, port, to, resolution)),
        2 => (host(), namespace()).prop_map(|(host, namespace)| Change::ServiceGone(namespace.into(), host.into())),
        1 => (namespace(), sidecar).prop_map(|(namespace, spec)| sidecar_of(namespace, &spec)),
        1 => namespace().prop_map(|namespace| Change::ConfigGone(ConfigKind::Sidecar, namespace.into(), "s".into())),
        1 => (host(), host(), namespace()).prop_map(|(host, to, namespace)| {
            let spec = json!({"hosts": [host], "http": [{"route": [{"destination": {"host": to}}]}]});
            config("v", namespace, ConfigSpec::VirtualService(serde_json::from_value(spec).unwrap()))
        }),
    ]
}

/// All of a scope that anything is made from.
fn seen(scope: &Scope) -> impl PartialEq + std::fmt::Debug + use<> {
    let hosts: BTreeSet<&str> = scope.by_host.keys().map(Hostname::as_str).collect();
    let hosts: Vec<String> = hosts.into_iter().map(str::to_owned).collect();
    (
        (scope.sidecar.clone(), scope.unknown.clone(), scope.named_hosts, hosts),
        (scope.egress.to_vec(), scope.services.to_vec()),
        (scope.resolved_by_dns.to_vec(), scope.met_at_members.to_vec()),
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, ..ProptestConfig::default() })]

    #[test]
    fn what_follows_a_mesh_is_what_a_fresh_look_finds(history in prop::collection::vec(change(), 1..24)) {
        let mut world = World::new("cluster.local", [source()]);
        drop(world.set_mesh(Arc::new(MeshConfig::default())));
        let mut push = PushContext::default().next(&world);
        let proxies: Vec<Proxy> = NAMESPACES.iter().zip(1..).map(|(namespace, at)| proxy(namespace, at)).collect();
        let mut index = Index::default();
        for (proxy, member) in proxies.iter().zip(0_usize..) {
            index.join(member, proxy);
        }
        let follow = |push: &PushContext, proxy: &Proxy, before: Option<&Known>| Known::of(push, ScopeKey::of(push, proxy), before);
        let mut known: Vec<Known> = proxies.iter().map(|proxy| follow(&push, proxy, None)).collect();
        for change in history {
            let changes = world.apply(&source(), SourceEvent::Change(change.clone()));
            let next = push.next(&world);
            let keys: BTreeSet<ConfigKey> = changes.keys;
            let request = Arc::new(PushRequest::of(keys, Reason::Config));
            let told: BTreeSet<usize> =
                index.concerned(&request, &push, &next).into_iter().map(|(member, _)| member).collect();
            for (at, proxy) in proxies.iter().enumerate() {
                let fresh = Scope::of(&next, ScopeKey::of(&next, proxy), None);
                let before = seen(known[at].scope());
                known[at] = follow(&next, proxy, Some(&known[at]));
                prop_assert_eq!(seen(known[at].scope()), seen(&fresh), "{:?}", change);
                prop_assert!(told.contains(&at) || before == seen(&fresh), "{:?} is seen from {}", change, proxy.namespace);
            }
            push = next;
        }
    }
}

/// Checks the affected proxies of a service of `shop`, with these `Sidecar`s in each namespace: `<namespace> <host> ...`.
fn told_of(host: &str, sidecars: &[&str], more: &[Change]) -> Vec<usize> {
    let mut world = World::new("cluster.local", [source()]);
    let mut say = |change: Change| world.apply(&source(), SourceEvent::Change(change));
    for line in sidecars {
        let (namespace, hosts) = line.split_once(' ').unwrap();
        let hosts: Vec<&str> = hosts.split(' ').collect();
        drop(say(sidecar_of(namespace, &json!({"egress": [{"hosts": hosts}]}))));
    }
    for change in more {
        drop(say(change.clone()));
    }
    let changes = say(service(host, "shop", 80, "*", Resolution::ClientSideLb));
    let after = PushContext::default().next(&world);
    let mut index = Index::default();
    for (namespace, member) in NAMESPACES.iter().zip(0_usize..) {
        index.join(member, &proxy(namespace, 1));
    }
    let request = Arc::new(PushRequest::of(changes.keys, Reason::Service));
    // The mesh before was the same but for the service.
    let mut told: Vec<usize> =
        index.concerned(&request, &after, &after).into_iter().map(|(member, _)| member).collect();
    told.sort_unstable();
    told
}

#[test]
fn a_service_that_no_sidecar_imports_is_nobodys_business_elsewhere() {
    let rule = |to: &str| {
        let spec = json!({"hosts": ["web.x"], "http": [{"route": [{"destination": {"host": to}}]}]});
        config("v", "bank", ConfigSpec::VirtualService(serde_json::from_value(spec).unwrap()))
    };
    for (sidecars, more, expected) in [
        (&[][..], &[][..], &[0, 1, 2][..]),
        (&["bank shop/b.x"], &[], &[0, 2]),
        (&["bank shop/a.x"], &[], &[0, 1, 2]),
        (&["bank ./*", "istio-system ./*"], &[], &[0]),
        (&["istio-system ./*"], &[], &[0]),
        (&["bank */*", "istio-system ./*"], &[], &[0, 1]),
        (&["bank ./*"], &[rule("a.x")], &[0, 1, 2]),
        (&["bank ./*"], &[rule("b.x")], &[0, 2]),
    ] {
        assert_eq!(told_of("a.x", sidecars, more), expected, "{sidecars:?}");
    }
}

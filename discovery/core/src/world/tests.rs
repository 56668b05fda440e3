//! Resolution of events of sources to a world.

use proptest::prelude::*;

use super::resync::DeclarationKey;
use super::*;
use crate::api::selector::WorkloadSelector;
use crate::api::service_entry::{ServiceEntryPort, ServiceEntryResolution};
use crate::api::{ServiceEntry, WorkloadEntry};
use crate::model::{
    ConfigMeta, Health, Labels, Locality, Location, Protocol, Registry, Resolution, ServicePort, TargetPort,
    TlsMode, Vip,
};
use crate::push::PushContext;

fn source(name: &str) -> SourceId {
    SourceId(name.into())
}

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn service(host: &str, created: i64) -> Arc<Service> {
    Arc::new(Service {
        hostname: host.into(),
        namespace: "default".into(),
        name: host.into(),
        registry: Registry::Kubernetes,
        ports: vec![ServicePort {
            name: "http".into(),
            port: 80,
            protocol: Protocol::Http,
            target: TargetPort::Number(8080),
        }],
        addresses: vec![Vip::host([10, 0, 0, 1].into())],
        resolution: Resolution::ClientSideLb,
        location: Location::MeshInternal,
        export_to: vec![],
        labels: BTreeMap::new(),
        selector: labels(&[("app", "a")]),
        service_accounts: vec![],
        created,
        node_local: false,
        distribution: crate::model::Distribution::Any,
    })
}

fn endpoint(last: u8) -> Endpoint {
    Endpoint {
        address: EndpointAddress::Ip([10, 1, 0, last].into()),
        port: 8080,
        port_name: "http".into(),
        labels: Labels::default(),
        service_account: "".into(),
        network: "".into(),
        locality: Locality::default(),
        weight: 1,
        health: Health::Healthy,
        tls_mode: TlsMode::Disabled,
        namespace: "default".into(),
        workload: "".into(),
        node: "".into(),
    }
}

fn meta(name: &str, object_labels: &[(&str, &str)]) -> ConfigMeta {
    ConfigMeta {
        namespace: "default".into(),
        name: name.into(),
        labels: labels(object_labels),
        annotations: BTreeMap::new(),
        created: 0,
    }
}

fn entry(host: &str, resolution: ServiceEntryResolution) -> ServiceEntry {
    let port = ServiceEntryPort { number: 80, protocol: "HTTP".into(), name: "http".into(), target_port: 0 };
    ServiceEntry { hosts: vec![host.into()], ports: vec![port], resolution, ..ServiceEntry::default() }
}

/// The same at another port, served at `10.1.0.<last>`.
fn at(mut entry: ServiceEntry, port: u32, last: u8) -> ServiceEntry {
    entry.ports[0].number = port;
    // Some call every port the same.
    entry.ports[0].name = if last == 0 { "http".into() } else { format!("http-{port}") };
    entry.endpoints = vec![WorkloadEntry { address: format!("10.1.0.{last}"), ..WorkloadEntry::default() }];
    entry
}

fn config(name: &str, spec: ConfigSpec) -> Change {
    Change::Config(Arc::new(ConfigObject { meta: meta(name, &[]), spec }))
}

fn machine(name: &str, ip: &str, app: &str) -> Change {
    let entry =
        WorkloadEntry { address: ip.into(), labels: labels(&[("app", app)]), ..WorkloadEntry::default() };
    config(name, ConfigSpec::WorkloadEntry(entry))
}

fn pod(name: &str, last: u8, app: &str) -> Change {
    Change::Workload(Arc::new(Workload {
        kind: WorkloadKind::Pod,
        namespace: "default".into(),
        name: name.into(),
        addresses: vec![EndpointAddress::Ip([10, 1, 0, last].into())],
        labels: labels(&[("app", app)]).into(),
        ports: BTreeMap::from([("web".into(), 9090)]),
        service_account: "".into(),
        network: "".into(),
        locality: Locality::default(),
        weight: 1,
        health: Health::Healthy,
        tls_mode: TlsMode::Disabled,
        node: "".into(),
    }))
}

struct Story {
    world: World,
    file: SourceId,
}

impl Story {
    fn new() -> Self {
        Self { world: World::new("cluster.local", [source("file")]), file: source("file") }
    }

    fn says(&mut self, change: Change) -> Changes {
        self.world.apply(&self.file.clone(), SourceEvent::Change(change))
    }

    fn keys(&mut self, change: Change) -> Vec<String> {
        self.says(change).keys.iter().map(ToString::to_string).collect()
    }

    fn endpoints(&self, host: &str) -> Vec<String> {
        let key = (host.into(), "default".into());
        let endpoints = self.world.endpoints().get(&key).cloned().unwrap_or_default();
        endpoints.iter().map(|endpoint| format!("{}:{}", endpoint.address, endpoint.port)).collect()
    }
}

#[test]
fn what_is_said_twice_changes_nothing() {
    let mut story = Story::new();
    assert_eq!(story.keys(Change::Service(service("a", 1))), ["ServiceEntry/default/a"]);
    assert!(story.keys(Change::Service(service("a", 1))).is_empty());
    let endpoints = Change::Endpoints("default".into(), "a".into(), vec![endpoint(1)]);
    assert_eq!(story.keys(endpoints.clone()), ["Endpoints/default/a", "Proxy//10.1.0.1"]);
    assert!(story.keys(endpoints).is_empty());
}

#[test]
fn an_endpoint_that_goes_is_urgent_and_one_that_comes_is_not() {
    let mut story = Story::new();
    let set = |endpoints: &[u8]| {
        Change::Endpoints(
            "default".into(),
            "a".into(),
            endpoints.iter().map(|last| endpoint(*last)).collect(),
        )
    };
    assert!(!story.says(set(&[1])).endpoint_removed);
    assert!(!story.says(set(&[1, 2])).endpoint_removed);
    assert!(story.says(set(&[2])).endpoint_removed);
    let unhealthy = Endpoint { health: Health::Unhealthy, ..endpoint(2) };
    assert!(story.says(Change::Endpoints("default".into(), "a".into(), vec![unhealthy])).endpoint_removed);
}

#[test]
fn what_a_resync_does_not_mention_is_gone_and_only_at_its_end() {
    let mut story = Story::new();
    story.says(Change::Service(service("a", 1)));
    story.says(Change::Service(service("b", 1)));
    let file = story.file.clone();
    assert!(!story.world.is_synced());
    assert!(story.world.apply(&file, SourceEvent::Resync).is_empty());
    story.says(Change::Service(service("b", 1)));
    assert_eq!(story.world.services().len(), 2, "nothing is dropped while the source is away");
    let changes = story.world.apply(&file, SourceEvent::Synced);
    assert_eq!(changes.keys.iter().map(ToString::to_string).collect::<Vec<_>>(), ["ServiceEntry/default/a"]);
    assert!(story.world.is_synced());
}

#[test]
fn resync_that_restates_everything_changes_nothing() {
    let mut story = Story::new();
    let host = Hostname::from("a");
    let entry = entry("b", ServiceEntryResolution::Dns);
    let statements = [
        Change::Service(service("a", 0)),
        Change::Endpoints("default".into(), host, vec![endpoint(1)]),
        pod("p", 1, "a"),
        config("b", ConfigSpec::ServiceEntry(entry)),
    ];
    for statement in statements.clone() {
        assert!(!story.says(statement).is_empty());
    }
    // The first resynchronization is interrupted.
    for restated in [&statements[..1], &statements[..]] {
        assert!(story.world.apply(&story.file, SourceEvent::Resync).is_empty());
        for statement in restated {
            assert!(story.says(statement.clone()).is_empty(), "{statement:?}");
        }
    }
    assert!(story.world.apply(&story.file, SourceEvent::Synced).is_empty());
}

#[test]
fn a_resync_of_one_source_leaves_the_other_alone() {
    let mut story = Story::new();
    let other = source("other");
    story.world.apply(&other, SourceEvent::Change(Change::Service(service("a", 1))));
    let file = story.file.clone();
    story.world.apply(&file, SourceEvent::Resync);
    story.world.apply(&file, SourceEvent::Synced);
    assert_eq!(story.world.services().len(), 1);
}

#[test]
fn kubernetes_wins_a_host_and_then_the_oldest() {
    let mut story = Story::new();
    story.says(config("se", ConfigSpec::ServiceEntry(entry("a", ServiceEntryResolution::Static))));
    let key = ("a".into(), "default".into());
    assert_eq!(story.world.services()[&key].registry, Registry::External);
    story.says(Change::Service(service("a", 9)));
    assert_eq!(story.world.services()[&key].registry, Registry::Kubernetes);
    story.world.apply(&source("other"), SourceEvent::Change(Change::Service(service("a", 3))));
    assert_eq!(story.world.services()[&key].created, 3);
    story.says(Change::ServiceGone("default".into(), "a".into()));
    assert_eq!(story.world.services()[&key].created, 3);
}

#[test]
fn a_service_entry_serves_from_what_it_lists() {
    let mut story = Story::new();
    let listed = |address: &str, port: u32| WorkloadEntry {
        address: address.into(),
        ports: BTreeMap::from([("http".into(), port)]),
        ..WorkloadEntry::default()
    };
    let mut spec = entry("x.com", ServiceEntryResolution::Static);
    spec.endpoints = vec![
        listed("1.1.1.1", 81),
        WorkloadEntry { address: "1.1.1.2".into(), ..WorkloadEntry::default() },
        listed("unix:///s", 5),
    ];
    story.says(config("se", ConfigSpec::ServiceEntry(spec)));
    assert_eq!(story.endpoints("x.com"), ["1.1.1.1:81", "1.1.1.2:80", "unix:///s:0"]);
}

#[test]
fn dns_without_endpoints_is_the_host_itself() {
    let mut story = Story::new();
    let keys =
        story.keys(config("se", ConfigSpec::ServiceEntry(entry("x.com", ServiceEntryResolution::Dns))));
    assert_eq!(story.endpoints("x.com"), ["x.com:80"]);
    assert_eq!(
        keys,
        ["ServiceEntry/default/x.com"],
        "endpoints inside a cluster are a change of the cluster"
    );
}

#[test]
fn a_service_entry_selects_pods_and_machines_of_its_namespace() {
    let mut story = Story::new();
    let mut spec = entry("x.com", ServiceEntryResolution::Static);
    spec.workload_selector = Some(WorkloadSelector { labels: labels(&[("app", "x")]) });
    story.says(config("se", ConfigSpec::ServiceEntry(spec)));
    story.says(pod("p", 1, "x"));
    story.says(pod("q", 2, "y"));
    story.says(machine("m", "10.9.0.1", "x"));
    assert_eq!(story.endpoints("x.com"), ["10.1.0.1:80", "10.9.0.1:80"]);
    story.says(pod("p", 1, "y"));
    story.says(pod("q", 2, "x"));
    assert_eq!(story.endpoints("x.com"), ["10.1.0.2:80", "10.9.0.1:80"]);
    story.says(Change::ConfigGone(ConfigKind::WorkloadEntry, "default".into(), "m".into()));
    assert_eq!(story.endpoints("x.com"), ["10.1.0.2:80"]);
    story.says(Change::ConfigGone(ConfigKind::ServiceEntry, "default".into(), "se".into()));
    assert!(story.endpoints("x.com").is_empty() && story.world.services().is_empty());
}

#[test]
fn service_entries_of_one_host_are_one_service() {
    use ServiceEntryResolution::{Dns, DnsRoundRobin, Static};
    let mut story = Story::new();
    let says = |story: &mut Story, name: &str, entry: ServiceEntry| {
        story.says(config(name, ConfigSpec::ServiceEntry(entry)));
        let service = &story.world.services()[&("x.com".into(), "default".into())];
        let ports: Vec<u16> = service.ports.iter().map(|port| port.port).collect();
        (ports, service.service_accounts.clone())
    };
    let first = at(entry("x.com", Static), 80, 1);
    assert_eq!(says(&mut story, "a", first), (vec![80], vec![]));
    let mut second = at(entry("x.com", Static), 81, 2);
    second.subject_alt_names = vec!["spiffe://b".into()];
    let both = (vec![80, 81], vec!["spiffe://b".into()]);
    assert_eq!(says(&mut story, "b", second.clone()), both);
    assert_eq!(story.endpoints("x.com"), ["10.1.0.1:80", "10.1.0.2:81"]);
    // What is not more of the same service says nothing of its ports; where it is served counts all the same.
    let others = [
        at(entry("x.com", Dns), 82, 3),
        ServiceEntry { export_to: vec![".".into()], ..at(entry("x.com", Static), 82, 3) },
        ServiceEntry {
            workload_selector: Some(WorkloadSelector { labels: labels(&[("app", "x")]) }),
            ..at(entry("x.com", Static), 82, 3)
        },
    ];
    for other in others {
        assert_eq!(says(&mut story, "c", other.clone()), both, "{other:?}");
    }
    story.says(Change::ConfigGone(ConfigKind::ServiceEntry, "default".into(), "a".into()));
    assert_eq!(says(&mut story, "b", second), (vec![81], vec!["spiffe://b".into()]));

    // A port is one by its number, whatever it is called.
    let called = |name: &str, port, last| {
        let mut entry = at(entry("y.com", Static), port, last);
        entry.ports[0].name = name.into();
        config(&format!("{name}-{port}"), ConfigSpec::ServiceEntry(entry))
    };
    for change in [called("http", 80, 1), called("http", 81, 2), called("web", 80, 3)] {
        story.says(change);
    }
    let named = |story: &Story| -> Vec<String> {
        let endpoints = &story.world.endpoints()[&("y.com".into(), "default".into())];
        endpoints.iter().map(|endpoint| format!("{} {}", endpoint.address, endpoint.port_name)).collect()
    };
    assert_eq!(named(&story), ["10.1.0.1 http", "10.1.0.2 http-81", "10.1.0.3 http"]);
    story.says(Change::ConfigGone(ConfigKind::ServiceEntry, "default".into(), "http-80".into()));
    assert_eq!(named(&story), ["10.1.0.2 http", "10.1.0.3 web"]);
    let mut nowhere = entry("y.com", Static);
    nowhere.ports[0].number = 79;
    story.says(config("a", ConfigSpec::ServiceEntry(nowhere)));
    story.says(Change::ConfigGone(ConfigKind::ServiceEntry, "default".into(), "web-80".into()));
    assert_eq!(named(&story), ["10.1.0.2 http-81"]);

    // One answer at a time: the first entry's for each port.
    story.says(Change::ConfigGone(ConfigKind::ServiceEntry, "default".into(), "c".into()));
    says(&mut story, "b", at(entry("x.com", DnsRoundRobin), 80, 9));
    says(&mut story, "c", at(entry("x.com", DnsRoundRobin), 80, 1));
    assert_eq!(story.endpoints("x.com"), ["10.1.0.9:80"]);
    says(&mut story, "d", at(entry("x.com", DnsRoundRobin), 81, 2));
    assert_eq!(story.endpoints("x.com"), ["10.1.0.2:81", "10.1.0.9:80"]);
    story.says(Change::ConfigGone(ConfigKind::ServiceEntry, "default".into(), "b".into()));
    assert_eq!(story.endpoints("x.com"), ["10.1.0.1:80", "10.1.0.2:81"]);
}

#[test]
fn a_pod_that_is_not_ready_is_not_selected() {
    let mut story = Story::new();
    let mut spec = entry("x.com", ServiceEntryResolution::Static);
    spec.workload_selector = Some(WorkloadSelector { labels: labels(&[("app", "x")]) });
    story.says(config("se", ConfigSpec::ServiceEntry(spec)));
    let Change::Workload(ready) = pod("p", 1, "x") else {
        unreachable!("pod() says that a workload is there")
    };
    for (health, expected) in
        [(Health::Unhealthy, &[][..]), (Health::Healthy, &["10.1.0.1:80"]), (Health::Terminating, &[])]
    {
        story.says(Change::Workload(Arc::new(Workload { health, ..(*ready).clone() })));
        assert_eq!(story.endpoints("x.com"), expected, "{health:?}");
    }
}

#[test]
fn a_kubernetes_service_selects_machines() {
    let mut story = Story::new();
    story.says(machine("m", "10.9.0.1", "a"));
    story.says(Change::Service(service("a", 1)));
    assert_eq!(story.endpoints("a"), ["10.9.0.1:8080"]);
    story.says(machine("m", "10.9.0.2", "a"));
    assert_eq!(story.endpoints("a"), ["10.9.0.2:8080"]);
    story.says(Change::ServiceGone("default".into(), "a".into()));
    assert!(story.endpoints("a").is_empty());
}

#[test]
fn a_proxy_knows_its_services_by_pod_by_address_and_by_its_own_word() {
    use pilot_proto::node::{NodeId, NodeMetadata, NodeType};
    let mut proxy = crate::model::Proxy {
        id: NodeId {
            node_type: NodeType::Sidecar,
            ip: "10.1.0.1".into(),
            id: "p.default".into(),
            dns_domain: "default.svc".into(),
        },
        ips: vec![[10, 1, 0, 1].into()],
        namespace: "default".into(),
        metadata: NodeMetadata::default(),
        locality: Locality::default(),
        service_cluster: String::new(),
    };
    let mut story = Story::new();
    story.says(Change::Service(service("a", 1)));
    let targets = |story: &Story, proxy: &crate::model::Proxy| -> Vec<(String, u16)> {
        let targets = PushContext::default().next(&story.world).service_targets(proxy);
        targets.iter().map(|target| (target.service.hostname.to_string(), target.target_port)).collect()
    };
    assert!(targets(&story, &proxy).is_empty());
    proxy.metadata.labels = labels(&[("app", "a")]);
    assert_eq!(targets(&story, &proxy), [("a".into(), 8080)], "by its own word");
    proxy.metadata.labels.clear();
    story.says(Change::Endpoints("default".into(), "a".into(), vec![Endpoint { port: 7070, ..endpoint(1) }]));
    assert_eq!(targets(&story, &proxy), [("a".into(), 7070)], "by address");
    let mut named = (*service("b", 0)).clone();
    named.ports[0].target = TargetPort::Name("web".into());
    story.says(Change::Service(Arc::new(named)));
    story.says(pod("p", 1, "a"));
    assert_eq!(
        targets(&story, &proxy),
        [("b".into(), 9090), ("a".into(), 7070), ("a".into(), 8080)],
        "by pod, oldest first"
    );
}

/// A small universe of statements, so that random series collide.
fn statement() -> impl Strategy<Value = Change> {
    let host = prop_oneof![Just("a"), Just("b")];
    let app = prop_oneof![Just("a"), Just("x")];
    prop_oneof![
        (host.clone(), 0..3_i64).prop_map(|(host, created)| Change::Service(service(host, created))),
        host.clone().prop_map(|host| Change::ServiceGone("default".into(), host.into())),
        (host, prop::collection::vec(1..4_u8, 0..3)).prop_map(|(host, last)| {
            Change::Endpoints("default".into(), host.into(), last.into_iter().map(endpoint).collect())
        }),
        (1..3_u8, app.clone()).prop_map(|(last, app)| pod(&format!("p{last}"), last, app)),
        (1..3_u8).prop_map(|last| Change::WorkloadGone(
            WorkloadKind::Pod,
            "default".into(),
            format!("p{last}").into()
        )),
        (1..3_u8, app.clone()).prop_map(|(last, app)| machine(
            &format!("m{last}"),
            &format!("10.9.0.{last}"),
            app
        )),
        (1..3_u8).prop_map(|last| Change::ConfigGone(
            ConfigKind::WorkloadEntry,
            "default".into(),
            format!("m{last}").into()
        )),
        (
            0..3_u8,
            80..83_u32,
            prop_oneof![Just(ServiceEntryResolution::Static), Just(ServiceEntryResolution::DnsRoundRobin)]
        )
            .prop_map(|(last, port, resolution)| {
                let name = format!("more{last}");
                config(&name, ConfigSpec::ServiceEntry(at(entry("x.com", resolution), port, last)))
            }),
        (0..3_u8).prop_map(|last| Change::ConfigGone(
            ConfigKind::ServiceEntry,
            "default".into(),
            format!("more{last}").into()
        )),
        (prop_oneof![Just("a"), Just("x.com")], app).prop_map(|(host, app)| {
            let mut spec = entry(host, ServiceEntryResolution::Static);
            spec.workload_selector = Some(WorkloadSelector { labels: labels(&[("app", app)]) });
            config("se", ConfigSpec::ServiceEntry(spec))
        }),
        Just(Change::ConfigGone(ConfigKind::ServiceEntry, "default".into(), "se".into())),
    ]
}

proptest! {
    /// However the world came to be, it is the one that the final statements alone would make.
    #[test]
    fn any_history_ends_like_a_fresh_start(history in prop::collection::vec(statement(), 0..40)) {
        let mut story = Story::new();
        let mut last: BTreeMap<DeclarationKey, Change> = BTreeMap::new();
        for change in history {
            last.insert(DeclarationKey::of(&change), change.clone());
            story.says(change);
        }
        let mut fresh = Story::new();
        for change in last.into_values() {
            fresh.says(change);
        }
        prop_assert_eq!(story.world.services(), fresh.world.services());
        prop_assert_eq!(story.world.endpoints(), fresh.world.endpoints());
        prop_assert_eq!(story.world.served_at(), fresh.world.served_at());
        prop_assert_eq!(story.world.in_namespace(), fresh.world.in_namespace());
    }
}

#[test]
fn a_service_changes_when_its_endpoints_have_other_identities() {
    let mut story = Story::new();
    story.says(Change::Service(service("a", 1)));
    let with = |last: u8, account: &str| Endpoint { service_account: account.into(), ..endpoint(last) };
    let mut keys = |endpoints: Vec<Endpoint>| {
        let keys = story.keys(Change::Endpoints("default".into(), "a".into(), endpoints));
        keys.into_iter().filter(|key| !key.starts_with("Proxy/")).collect::<Vec<_>>()
    };
    let both = ["ServiceEntry/default/a", "Endpoints/default/a"];
    assert_eq!(keys(vec![with(1, "spiffe://a")]), both);
    assert_eq!(keys(vec![with(1, "spiffe://a"), with(2, "spiffe://a")]), both[1..], "more of the same");
    assert_eq!(keys(vec![with(1, "spiffe://a"), with(2, "spiffe://b")]), both);
}

#[test]
fn of_two_workloads_at_one_address_it_is_not_the_last_word_that_counts() {
    let ended = |change: Change| {
        let Change::Workload(pod) = change else { panic!() };
        Change::Workload(Arc::new(Workload { health: Health::Unhealthy, ..(*pod).clone() }))
    };
    let gone = |name: &str| Change::WorkloadGone(WorkloadKind::Pod, "default".into(), name.into());
    for (said, expected) in [
        (vec![pod("a", 1, "x"), pod("b", 1, "x")], Some("a")),
        (vec![pod("b", 1, "x"), pod("a", 1, "x")], Some("a")),
        (vec![ended(pod("a", 1, "x")), pod("b", 1, "x")], Some("b")),
        (vec![pod("a", 1, "x"), pod("b", 1, "x"), gone("a")], Some("b")),
        (vec![pod("a", 1, "x"), pod("b", 1, "x"), pod("a", 2, "x")], Some("b")),
        (vec![pod("a", 1, "x"), gone("a")], None),
    ] {
        let mut story = Story::new();
        for change in said {
            story.says(change);
        }
        let found = story.world.at_address().get(&IpAddr::from([10, 1, 0, 1]));
        assert_eq!(found.map(|workload| &*workload.name), expected);
    }
}

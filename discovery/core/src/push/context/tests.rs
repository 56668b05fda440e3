//! Indexes of a snapshot, and equality of incremental and full snapshots.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::api::destination_rule::{Subset, TrafficPolicy};
use crate::api::selector::MatchLabels;
use crate::api::virtual_service::{Delegate, Destination, HttpDestination, HttpRoute};
use crate::api::{DestinationRule, VirtualService};
use crate::model::{Change, ConfigMeta, ConfigSpec, SourceEvent, SourceId};

/// A world, and the snapshot of it.
struct Mesh {
    world: World,
    push: PushContext,
}

impl Mesh {
    fn new() -> Self {
        Self { world: World::new("cluster.local", []), push: PushContext::default() }
    }

    fn of(objects: impl IntoIterator<Item = ConfigObject>) -> Self {
        let mut mesh = Self::new();
        objects.into_iter().for_each(|object| mesh.say(Change::Config(Arc::new(object))));
        mesh.look();
        mesh
    }

    fn say(&mut self, change: Change) {
        drop(self.world.apply(&SourceId("File".into()), SourceEvent::Change(change)));
    }

    fn look(&mut self) {
        self.push = self.push.next(&self.world);
    }
}

fn object(namespace: &str, name: &str, created: i64, spec: ConfigSpec) -> ConfigObject {
    ConfigObject {
        meta: ConfigMeta {
            namespace: namespace.into(),
            name: name.into(),
            labels: BTreeMap::new(),
            annotations: BTreeMap::new(),
            created,
        },
        spec,
    }
}

fn to(host: &str) -> HttpRoute {
    let destination = Some(Destination { host: host.into(), ..Destination::default() });
    HttpRoute {
        route: vec![HttpDestination { destination, ..HttpDestination::default() }],
        ..HttpRoute::default()
    }
}

fn delegating(name: &str, namespace: &str) -> HttpRoute {
    let delegate = Some(Delegate { name: name.into(), namespace: namespace.into() });
    HttpRoute { delegate, ..HttpRoute::default() }
}

fn routing(hosts: &[&str], http: Vec<HttpRoute>, export_to: &[&str]) -> ConfigSpec {
    ConfigSpec::VirtualService(VirtualService {
        hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
        http,
        export_to: export_to.iter().map(|&text| text.to_owned()).collect(),
        ..VirtualService::default()
    })
}

fn rule(host: &str, subsets: &[&str], selector: &[(&str, &str)], export_to: &[&str]) -> DestinationRule {
    let labels = selector.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
    let subset = |name: &&str| Subset { name: (*name).to_owned(), ..Subset::default() };
    DestinationRule {
        host: host.into(),
        subsets: subsets.iter().map(subset).collect(),
        workload_selector: (!selector.is_empty()).then_some(MatchLabels { match_labels: labels }),
        export_to: export_to.iter().map(|&text| text.to_owned()).collect(),
        ..DestinationRule::default()
    }
}

fn destinations(mesh: &Mesh, name: &str) -> Vec<String> {
    let found = mesh.push.routings.iter().find(|routing| &*routing.name == name);
    found.into_iter().flat_map(|routing| routing.destinations()).map(|to| to.host.clone()).collect()
}

#[test]
fn names_are_of_the_namespace_of_their_object_wherever_it_is_used() {
    let mesh = Mesh::of([
        object("shop", "root", 0, routing(&["reviews"], vec![delegating("parts", "library")], &[])),
        object("library", "parts", 0, routing(&[], vec![to("books"), to("a.com")], &[])),
    ]);
    let root = mesh.push.routings.iter().next().unwrap();
    assert_eq!(root.hosts, [Hostname::from("reviews.shop.svc.cluster.local")]);
    assert_eq!(destinations(&mesh, "root"), ["books.library.svc.cluster.local", "a.com"]);
    assert_eq!(mesh.push.routings.iter().count(), 1, "a delegate is nobody's rule but its root's");
}

#[test]
fn a_root_is_read_again_when_its_delegate_comes_changes_and_goes() {
    let delegate = |host: &str| object("shop", "parts", 0, routing(&[], vec![to(host)], &[]));
    let mut mesh = Mesh::of([object("shop", "root", 0, routing(&["a"], vec![delegating("parts", "")], &[]))]);
    assert_eq!(destinations(&mesh, "root"), Vec::<String>::new());
    for host in ["b.com", "c.com"] {
        mesh.say(Change::Config(Arc::new(delegate(host))));
        mesh.look();
        assert_eq!(destinations(&mesh, "root"), [host]);
    }
    mesh.say(Change::ConfigGone(ConfigKind::VirtualService, "shop".into(), "parts".into()));
    mesh.look();
    assert_eq!(destinations(&mesh, "root"), Vec::<String>::new());
}

#[test]
fn only_who_may_see_a_delegate_can_delegate_to_it() {
    let mesh = Mesh::of([
        object("shop", "root", 0, routing(&["a"], vec![delegating("parts", "library")], &[])),
        object("library", "parts", 0, routing(&[], vec![to("b.com")], &["."])),
    ]);
    assert_eq!(destinations(&mesh, "root"), Vec::<String>::new());
}

#[test]
fn what_did_not_change_keeps_its_identity() {
    let mut mesh = Mesh::of([
        object("shop", "a", 0, routing(&["a"], vec![to("a")], &[])),
        object("shop", "b", 0, routing(&["b"], vec![to("b")], &[])),
        object("shop", "x", 0, ConfigSpec::DestinationRule(rule("x", &["v1"], &[], &[]))),
        object("shop", "y", 0, ConfigSpec::DestinationRule(rule("y", &["v1"], &[], &[]))),
    ]);
    let before = mesh.push.clone();
    mesh.say(Change::Config(Arc::new(object("shop", "b", 0, routing(&["b"], vec![to("c")], &[])))));
    let changed = ConfigSpec::DestinationRule(rule("y", &["v2"], &[], &[]));
    mesh.say(Change::Config(Arc::new(object("shop", "y", 0, changed))));
    mesh.look();
    let same: Vec<bool> =
        before.routings.iter().zip(mesh.push.routings.iter()).map(|(old, new)| old == new).collect();
    assert_eq!(same, [true, false]);
    let find = |push: &PushContext, host: &str| found(push, host, "shop", "shop").unwrap();
    assert_eq!(find(&before, "x.shop.svc.cluster.local"), find(&mesh.push, "x.shop.svc.cluster.local"));
    assert_ne!(find(&before, "y.shop.svc.cluster.local"), find(&mesh.push, "y.shop.svc.cluster.local"));
}

fn found(push: &PushContext, host: &str, service: &str, client: &str) -> Option<Shared<Rule>> {
    let selects = |selector: &crate::api::values::Map| selector.get("app").is_some_and(|app| app == "chosen");
    push.rules.find(&host.into(), &service.into(), &client.into(), &"istio-system".into(), selects)
}

#[test]
fn a_rule_is_looked_for_near_the_client_then_near_the_service_then_in_the_root_namespace() {
    let says = |namespace: &str, host: &str, subset: &str, export_to: &[&str]| {
        object(namespace, subset, 0, ConfigSpec::DestinationRule(rule(host, &[subset], &[], export_to)))
    };
    let client = || says("client", "*.com", "client", &[]);
    let near = || says("near", "a.com", "service", &[]);
    let wide = || says("near", "*.com", "wide", &[]);
    let root = || says("istio-system", "*", "root", &[]);
    for (objects, expected) in [
        (vec![client(), near(), root()], "client"),
        (vec![near(), wide(), root()], "service"),
        (vec![wide(), root()], "wide"),
        (vec![root()], "root"),
        (vec![says("near", "a.com", "hidden", &["."]), root()], "root"),
        (vec![says("near", "a.com", "for-client", &["client"])], "for-client"),
        (vec![says("near", "a.com", "for-other", &["other"])], ""),
        (vec![says("other", "a.com", "far", &[])], ""),
    ] {
        let mesh = Mesh::of(objects);
        let found = found(&mesh.push, "a.com", "near", "client");
        assert_eq!(found.as_ref().map_or("", |rule| &rule.subsets[0].name), expected);
    }
}

#[test]
fn rules_for_one_host_are_one_and_who_came_first_counts() {
    let policy = Some(TrafficPolicy::default());
    let mesh = Mesh::of([
        object("n", "young", 2, ConfigSpec::DestinationRule(rule("a.com", &["v1", "v3"], &[], &[]))),
        object(
            "n",
            "old",
            1,
            ConfigSpec::DestinationRule(DestinationRule {
                traffic_policy: policy.clone(),
                ..rule("a.com", &["v1", "v2"], &[], &[])
            }),
        ),
        object("n", "own", 3, ConfigSpec::DestinationRule(rule("a.com", &["v9"], &[("app", "chosen")], &[]))),
        object("n", "none", 0, ConfigSpec::DestinationRule(rule("b.com", &["v8"], &[("app", "x")], &[]))),
    ]);
    let names = |rule: &Rule| rule.subsets.iter().map(|subset| subset.name.clone()).collect::<Vec<_>>();
    let chosen = found(&mesh.push, "a.com", "n", "n").unwrap();
    assert_eq!(names(&chosen), ["v9"], "whoever is selected has a rule of his own");
    let others = found(&mesh.push, "a.com", "n", "elsewhere").unwrap();
    assert_eq!(
        (names(&others), &others.traffic_policy),
        (vec!["v1".into(), "v2".into(), "v3".into()], &policy)
    );
    assert_eq!((&others.duplicate_subsets, others.sources.len()), (&vec!["v1".to_owned()], 2));
    assert_eq!(found(&mesh.push, "b.com", "n", "n"), None, "it selects nobody here");
}

#[test]
fn proxies_are_known_by_the_selectors_that_somebody_wrote() {
    let mut mesh = Mesh::of([object(
        "n",
        "one",
        0,
        ConfigSpec::DestinationRule(rule("a.com", &[], &[("app", "chosen")], &[])),
    )]);
    let labels = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    };
    let count = |mesh: &Mesh, namespace: &str, own: &[(&str, &str)]| {
        mesh.push.selectors.matching(&namespace.into(), &"istio-system".into(), &labels(own)).len()
    };
    assert_eq!(count(&mesh, "n", &[("app", "chosen"), ("version", "v1")]), 1);
    assert_eq!(count(&mesh, "n", &[("app", "other")]), 0);
    assert_eq!(count(&mesh, "elsewhere", &[("app", "chosen")]), 0);
    mesh.say(Change::ConfigGone(ConfigKind::DestinationRule, "n".into(), "one".into()));
    mesh.look();
    assert_eq!(count(&mesh, "n", &[("app", "chosen")]), 0);
}

fn any_object() -> impl Strategy<Value = (bool, ConfigObject)> {
    let name = prop::sample::select(vec!["a", "b", "c", "d"]);
    let namespace = prop::sample::select(vec!["n", "m", "istio-system"]);
    let spec = prop_oneof![
        (prop::bool::ANY, prop::sample::select(vec!["a", "b", "c"]), prop::sample::select(vec!["n", "m"]))
            .prop_map(|(root, delegate, place)| {
                let hosts: &[&str] = if root { &["a.com"] } else { &[] };
                routing(hosts, vec![delegating(delegate, place), to(delegate)], &[])
            }),
        (prop::sample::select(vec!["a.com", "*.com", "*"]), any::<bool>(), any::<bool>()).prop_map(
            |(host, selects, private)| {
                let selector: &[(&str, &str)] = if selects { &[("app", "chosen")] } else { &[] };
                let export_to: &[&str] = if private { &["."] } else { &[] };
                ConfigSpec::DestinationRule(rule(host, &["v1"], selector, export_to))
            }
        ),
    ];
    (any::<bool>(), namespace, name, 0..3_i64, spec)
        .prop_map(|(gone, namespace, name, created, spec)| (gone, object(namespace, name, created, spec)))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn a_snapshot_built_on_another_is_what_a_fresh_one_is(
        steps in prop::collection::vec((any::<bool>(), any_object()), 1..30),
    ) {
        let mut mesh = Mesh::new();
        for (look, (gone, object)) in steps {
            let meta = object.meta.clone();
            let change = if gone {
                Change::ConfigGone(object.spec.kind(), meta.namespace, meta.name)
            } else {
                Change::Config(Arc::new(object))
            };
            mesh.say(change);
            if look {
                mesh.look();
            }
        }
        mesh.look();
        let fresh = PushContext::default().next(&mesh.world);
        // An object that is replaced by an equal one is the same to everybody, wherever it lies.
        let told = |sources: &[Shared<ConfigObject>]| -> Vec<ConfigObject> {
            sources.iter().map(|source| (**source).clone()).collect()
        };
        let values = |push: &PushContext| {
            let routings = push.routings.iter().map(|own| {
                (told(&own.sources), Routing { sources: Vec::new(), ..(**own).clone() })
            });
            let rules =
                push.rules.iter().map(|own| (told(&own.sources), Rule { sources: Vec::new(), ..(**own).clone() }));
            (routings.collect::<Vec<_>>(), rules.collect::<Vec<_>>(), format!("{:?}", push.selectors))
        };
        prop_assert_eq!(values(&mesh.push), values(&fresh));
        let roots = |push: &PushContext| format!("{:?}", push.routings.roots());
        prop_assert_eq!(roots(&mesh.push), roots(&fresh));
    }
}

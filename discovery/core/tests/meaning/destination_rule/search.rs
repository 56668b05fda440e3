//! Lookup of rules: order of namespaces, exports, selectors, merge of several rules.

use super::*;

pub(super) const TABLES: Tables =
    &[namespaces, hosts, exports, exports_of_the_root_namespace, selectors, several, several_of_a_selector];

/// Creates a mesh with rules that differ by their connect timeout: `namespace=seconds`, `namespace:host=seconds`, and
/// `namespace/exportTo=seconds`.
fn rules(said: &str) -> Mesh {
    let mut mesh = Mesh::of(services(), "");
    for (number, rule) in said.split_whitespace().enumerate() {
        let (who, seconds) = rule.split_once('=').unwrap();
        let (who, export) = who.split_once('/').map_or((who, ""), |(who, export)| (who, export));
        let (namespace, host) = who.split_once(':').unwrap_or((who, "b.default.svc.cluster.local"));
        let export = if export.is_empty() { String::new() } else { format!("exportTo: ['{export}']\n") };
        let spec = format!(
            "host: '{host}'\n{export}trafficPolicy: {{connectionPool: {{tcp: {{connectTimeout: {seconds}s}}}}}}"
        );
        mesh = mesh.and(&object("DestinationRule", &format!("rule-{number}.{namespace}"), &spec));
    }
    mesh
}

const CALL: &str = "http://b.default.svc.cluster.local/";
const LOOK: Look = Look::Settings("connects within");

fn from(namespace: &'static str) -> impl Fn(&str) -> Client {
    move |said| rules(said).sidecar(namespace, "app=web")
}

#[test]
fn namespaces() {
    check_each(
        LOOK,
        CALL,
        from("shop"),
        &[
            (
                "the rule of the client's namespace comes first",
                "istio-system=3 default=2 shop=1",
                "connects within 1s",
            ),
            (
                "the rule of the service's namespace comes second",
                "istio-system=3 default=2",
                "connects within 2s",
            ),
            ("the rule of the root namespace comes third", "istio-system=3", "connects within 3s"),
            ("where no rule is the mesh counts", "", "connects within 10s"),
            ("rules of other namespaces are for nobody here", "office=4", "connects within 10s"),
            (
                "a wildcard in the client's namespace comes before a whole name in the service's",
                "default=2 shop:*.default.svc.cluster.local=1",
                "connects within 1s",
            ),
        ],
    );
    check_each(
        LOOK,
        CALL,
        from("istio-system"),
        &[
            (
                "in the root namespace the service's rule comes before its own public one",
                "istio-system=3 default=2",
                "connects within 2s",
            ),
            (
                "in the root namespace its own private rule comes first",
                "istio-system/.=3 default=2",
                "connects within 3s",
            ),
        ],
    );
}

#[test]
fn hosts() {
    check_each(
        LOOK,
        CALL,
        from("shop"),
        &[
            (
                "a whole name comes before a wildcard",
                "shop:*.default.svc.cluster.local=2 shop=1",
                "connects within 1s",
            ),
            (
                "the longest wildcard comes first",
                "shop:*.cluster.local=3 shop:*.default.svc.cluster.local=2 shop:*=4",
                "connects within 2s",
            ),
            ("`*` is for every host", "shop:*=4", "connects within 4s"),
            ("a short host is one of the rule's own namespace", "shop:b=5", "connects within 10s"),
            (
                "a short host with a namespace is no host of Kubernetes",
                "shop:b.default=5",
                "connects within 10s",
            ),
        ],
    );
    check_each(
        LOOK,
        CALL,
        from("default"),
        &[("a short host in the service's namespace is the service", "default:b=5", "connects within 5s")],
    );
}

#[test]
fn exports() {
    check_each(
        LOOK,
        CALL,
        from("shop"),
        &[
            ("what is exported to all is for all", "default/*=2", "connects within 2s"),
            ("what is exported to `.` is for its own namespace", "default/.=2", "connects within 10s"),
            ("what is exported to a namespace is for that", "default/shop=2", "connects within 2s"),
            ("what is exported to another namespace is not seen", "default/office=2", "connects within 10s"),
            ("what cannot be seen hides nothing", "istio-system=3 default/office=2", "connects within 3s"),
            (
                "what a namespace exports to others alone is not for itself",
                "default=2 shop/office=1",
                "connects within 2s",
            ),
        ],
    );
    let of_mesh = |said: &str| rules("default=2").config(said).sidecar("shop", "app=web");
    check_each(
        LOOK,
        CALL,
        of_mesh,
        &[
            (
                "where a rule says nothing of exports the mesh says it",
                "defaultDestinationRuleExportTo: ['.']",
                "connects within 10s",
            ),
            ("where neither rule nor mesh speak of exports a rule is for all", "{}", "connects within 2s"),
        ],
    );
}

#[test]
fn exports_of_the_root_namespace() {
    check_each(
        LOOK,
        CALL,
        from("shop"),
        &[
            (
                "a private rule of the root namespace is for nobody else",
                "istio-system/.=3",
                "connects within 10s",
            ),
            (
                "a rule that the root namespace exports to a namespace is for that",
                "istio-system/shop=3",
                "connects within 3s",
            ),
        ],
    );
}

/// Creates a mesh with a rule for all clients, and one for selected clients.
fn selecting(all: &str, selected: &str) -> Mesh {
    let rule = |name: &str, more: &str| {
        let spec = format!("host: b.default.svc.cluster.local\n{more}");
        if more.is_empty() { String::new() } else { object("DestinationRule", name, &spec) }
    };
    let selected = if selected.is_empty() {
        String::new()
    } else {
        format!("workloadSelector: {{matchLabels: {{app: web}}}}\n{selected}")
    };
    Mesh::of(services(), &rule("all", all)).and(&rule("selected", &selected))
}

const ONE: &str = "trafficPolicy: {connectionPool: {tcp: {connectTimeout: 1s}}}";
const TWO: &str = "trafficPolicy: {connectionPool: {tcp: {connectTimeout: 2s}}}";

#[test]
fn selectors() {
    let client = |labels: &'static str| {
        move |said: &str| match said {
            "both" => selecting(ONE, TWO).sidecar("default", labels),
            _ => selecting("", TWO).sidecar("default", labels),
        }
    };
    check_each(
        LOOK,
        CALL,
        client("app=web"),
        &[("who is selected has a rule of his own", "both", "connects within 2s")],
    );
    check_each(
        LOOK,
        CALL,
        client("app=other"),
        &[
            ("who is not selected has the rule for all", "both", "connects within 1s"),
            ("who is not selected has no rule if there is none for all", "selected", "connects within 10s"),
        ],
    );
    check(
        &selecting("", TWO).sidecar("shop", "app=web"),
        LOOK,
        &[("a selector is for workloads of its own namespace", CALL, "connects within 10s")],
    );
    check(
        &selecting("subsets: [{name: v1}]", TWO).sidecar("default", "app=web"),
        Look::Verdict,
        &[("who has a rule of his own has the rest of the other too", "http://b/", "80||b")],
    );
}

#[test]
fn several() {
    let two = |first: &str, second: &str| {
        let rule = |name: &str, more: &str| object("DestinationRule", name, &format!("host: b\n{more}"));
        let to = |subset: &str| {
            format!(
                "{{match: [{{uri: {{prefix: /{subset}}}}}], route: [{{destination: {{host: b, subset: {subset}}}}}]}}"
            )
        };
        let routes = format!(
            "hosts: [b]\nhttp: [{}, {}, {{route: [{{destination: {{host: b}}}}]}}]",
            to("v1"),
            to("v2")
        );
        Mesh::of(services(), &rule("first", first))
            .and(&rule("second", second))
            .and(&object("VirtualService", "b", &routes))
            .sidecar("default", "app=web")
    };
    let client = two(
        &format!("subsets: [{{name: v1, {ONE}}}]"),
        &format!("{TWO}\nsubsets: [{{name: v2}}, {{name: v1, {TWO}}}]"),
    );
    check(
        &client,
        Look::Verdict,
        &[
            ("several rules for one host have the subsets of all", "http://b/v1", "80|v1|b"),
            ("the second of several rules has subsets too", "http://b/v2", "80|v2|b"),
        ],
    );
    check(
        &client,
        LOOK,
        &[
            ("a policy is the first one that anybody gives", "http://b/", "connects within 2s"),
            ("of two subsets of one name the older counts", "http://b/v1", "connects within 1s"),
            ("a subset has the policy of the whole", "http://b/v2", "connects within 2s"),
        ],
    );
    check(&two(ONE, TWO), LOOK, &[("of two policies the older counts", "http://b/", "connects within 1s")]);
}

#[test]
fn several_of_a_selector() {
    let rule = |name: &str, more: &str| {
        let spec = format!("host: b\nworkloadSelector: {{matchLabels: {{app: web}}}}\n{more}");
        object("DestinationRule", name, &spec)
    };
    let mesh = Mesh::of(services(), &rule("first", "subsets: [{name: v1}]")).and(&rule("second", TWO));
    check(
        &mesh.sidecar("default", "app=web"),
        LOOK,
        &[("several rules of one selector are one", "http://b/", "connects within 2s")],
    );
}

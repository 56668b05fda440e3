//! Selection and order of `EnvoyFilter`s, and failed patches.

use super::*;

pub(super) const TABLES: Tables = &[who_is_meant, proxies_that_match, order, what_does_not_fit];

/// Returns a client with a filter in a namespace, with a selector.
fn meant(said: &str) -> Client {
    let (filter, who) = said.split_once(" | ").unwrap();
    let (namespace, selector) = filter.split_once(' ').unwrap_or((filter, ""));
    let (place, labels) = who.split_once(' ').unwrap();
    let spec = format!("{selector}\nconfigPatches: [{}]", patch("CLUSTER", "", SLOW));
    mesh()
        .and(&object("EnvoyFilter", &format!("filter.{namespace}"), spec.trim_start()))
        .sidecar(place, labels)
}

#[test]
fn who_is_meant() {
    let slow = "connects within 99s";
    let not = "connects within 10s";
    check_each(
        Look::Settings("connects"),
        "http://a.default/",
        meant,
        &[
            ("a filter is for the workloads of its namespace", "default | default app=web", slow),
            ("a filter is for no other namespace", "shop | default app=web", not),
            ("a filter of the root namespace is for all", "istio-system | default app=web", slow),
            (
                "a selector is for those with its labels",
                "default workloadSelector: {labels: {app: web}} | default app=web",
                slow,
            ),
            (
                "a selector is for no others",
                "default workloadSelector: {labels: {app: web}} | default app=db",
                not,
            ),
            (
                "a selector of the root namespace selects in every namespace",
                "istio-system workloadSelector: {labels: {app: web}} | shop app=web",
                slow,
            ),
        ],
    );
}

#[test]
fn proxies_that_match() {
    let says = |metadata: &'static str| {
        move |said: &str| {
            let patches = patch("CLUSTER", &format!("proxy: {said}"), SLOW);
            with(&patches).proxy(introduced(
                "sidecar~10.9.0.1~pod.default~default.svc.cluster.local",
                metadata,
                "",
            ))
        }
    };
    check_each(
        Look::Settings("connects"),
        "http://a/",
        says("{ISTIO_VERSION: 1.29.3, CLUSTER_ID: east}"),
        &[
            ("a version is a pattern", "{proxyVersion: '^1\\.29.*'}", "connects within 99s"),
            ("another version does not match", "{proxyVersion: '^1\\.3.*'}", "connects within 10s"),
            ("metadata is equal", "{metadata: {CLUSTER_ID: east}}", "connects within 99s"),
            ("other metadata does not match", "{metadata: {CLUSTER_ID: west}}", "connects within 10s"),
        ],
    );
    check_each(
        Look::Settings("connects"),
        "http://a/",
        says("{}"),
        &[("who tells no version matches none", "{proxyVersion: '.*'}", "connects within 10s")],
    );
}

#[test]
fn order() {
    let filter = |name: &str, more: &str, seconds: u32| {
        let change = format!("operation: MERGE, value: {{connect_timeout: {seconds}s}}");
        object("EnvoyFilter", name, &format!("{more}configPatches: [{}]", patch("CLUSTER", "", &change)))
    };
    let two = |first: (&str, &str), second: (&str, &str)| {
        mesh().and(&filter(first.0, first.1, 1)).and(&filter(second.0, second.1, 2)).sidecar("default", "")
    };
    check_each(
        Look::Settings("connects"),
        "http://a/",
        |said| match said {
            "age" => two(("one", ""), ("two", "")),
            "root" => two(("one", ""), ("two.istio-system", "")),
            "priority" => two(("one", "priority: 5\n"), ("two", "")),
            _ => client(&format!(
                "{}, {}",
                patch("CLUSTER", "", "operation: MERGE, value: {connect_timeout: 3s}"),
                patch("CLUSTER", "", "operation: MERGE, value: {connect_timeout: 4s}")
            )),
        },
        &[
            ("the younger filter comes later, and has the last word", "age", "connects within 2s"),
            ("filters of the root namespace come before all", "root", "connects within 1s"),
            ("a greater priority comes later than age", "priority", "connects within 1s"),
            ("patches of one filter are in their order", "patches", "connects within 4s"),
        ],
    );
}

#[test]
fn what_does_not_fit() {
    let bad = patch(
        "NETWORK_FILTER",
        "listener: {filterChain: {filter: {name: envoy.filters.network.http_connection_manager}}}",
        "operation: MERGE, value: {typed_config: {'@type': type.googleapis.com/envoy.extensions.filters.network.tcp_proxy.v3.TcpProxy, cluster: BlackHoleCluster}}",
    );
    check_each(
        Look::Verdict,
        "http://a/",
        client,
        &[("a patch of another type than its filter changes nothing of it", &bad, "80||a")],
    );
    let good = patch("CLUSTER", "", SLOW);
    check_each(
        Look::Settings("connects"),
        "http://a/",
        client,
        &[(
            "patches beside one that does not fit do what they do",
            &format!("{bad}, {good}"),
            "connects within 99s",
        )],
    );
}

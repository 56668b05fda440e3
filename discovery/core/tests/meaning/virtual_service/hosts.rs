//! Which hosts rules are for, and where they are asked for.

use pilot_proto::ResourceType;

use super::*;

#[test]
fn a_rule_is_for_every_name_of_its_service() {
    let calls = ["a", "a.default", "a.default.svc", "a.default.svc.cluster.local", "10.0.0.1"];
    for host in calls {
        check(&format!("[{{{TO_B}}}]"), &[(&format!("http://{host}/"), "80||b")]);
    }
}

#[test]
fn the_most_specific_host_counts_and_of_equal_ones_the_oldest_object() {
    let to = |host: &str, to: &str| {
        format!("hosts: ['{host}']\nhttp: [{{route: [{{destination: {{host: {to}}}}}]}}]")
    };
    let wide = virtual_service("wide", &to("*.default.svc.cluster.local", "c"));
    let narrow = virtual_service("narrow", &to("a.default.svc.cluster.local", "b"));
    let later = virtual_service("later", &to("a.default.svc.cluster.local", "both"));
    let mesh = Mesh::of(services(), &wide).and(&narrow).and(&later);
    check_in(&mesh, &[("http://a/", "80||b"), ("http://b/", "80||c"), ("http://c/", "80||c")]);
    let push = mesh.push();
    let report = generate(&push, &client(&mesh).0.proxy, ResourceType::Route, Some(&names(["80"]))).report;
    assert_eq!(report.counters()["pilot_vservice_dup_domain"], 1, "{:?}", report.rejected);
}

#[test]
fn hosts_that_no_service_has_are_known_at_port_80_and_where_their_rules_serve_services() {
    let elsewhere =
        services().into_iter().chain([kubernetes("other.default").port("http", 8080).vip("10.0.0.9")]);
    let rules =
        virtual_service("x", "hosts: [x.com, '*.y.com', far]\nhttp: [{route: [{destination: {host: b}}]}]");
    let mesh = Mesh::of(elsewhere, &rules)
        .and(&virtual_service("z", "hosts: [z.com]\nhttp: [{route: [{destination: {host: b}}]}]"));
    let through = |host: &str, port: u16| format!("http://{host}:{port}/ | @10.9.9.9:{port}");
    for (host, port, expected) in [
        ("x.com", 80, "80||b"),
        ("any.y.com", 80, "80||b"),
        ("z.com", 80, "80||b"),
        ("x.com", 8080, "80||b"),
        ("z.com", 8080, "PassthroughCluster"),
        ("y.com", 80, "PassthroughCluster"),
    ] {
        check_in(&mesh, &[(&through(host, port), expected)]);
    }
}

#[test]
fn two_objects_for_one_host_without_service_are_told_apart_by_age() {
    let to = |to: &str| format!("hosts: [x.com]\nhttp: [{{route: [{{destination: {{host: {to}}}}}]}}]");
    let mesh = Mesh::of(services(), &virtual_service("old", &to("b"))).and(&virtual_service("new", &to("c")));
    check_in(&mesh, &[("http://x.com/ | @10.9.9.9:80", "80||b")]);
    let report =
        generate(&mesh.push(), &client(&mesh).0.proxy, ResourceType::Route, Some(&names(["80"]))).report;
    assert_eq!(report.counters()["pilot_vservice_dup_domain"], 1);
}

#[test]
fn a_route_names_the_object_that_it_was_made_from() {
    let trace =
        client(&rules_for_a(&format!("[{{name: first, match: [{{name: all}}], {TO_B}}}]"))).ask("http://a/");
    assert!(trace.origins().contains(&"VirtualService/default/a"), "{:?}", trace.origins());
    assert_eq!(trace.route.unwrap().name, "first.all");
}

#[test]
fn a_sniffed_port_has_the_rules_of_its_service() {
    let auto = kubernetes("auto.default").port("", 7000).vip("10.0.0.9").on("10.1.0.9");
    let rules = virtual_service(
        "auto",
        &format!("hosts: [auto]\nhttp: [{{match: [{{uri: {{prefix: /x}}}}], {TO_B}}}]"),
    );
    let mesh = Mesh::of(services().into_iter().chain([auto]), &rules);
    check_in(&mesh, &[("http://auto:7000/x", "80||b"), ("http://auto:7000/y", "404")]);
}

#[test]
fn a_proxy_port_has_the_rules_of_every_port() {
    let rules = virtual_service(
        "both",
        "hosts: [both]\nhttp: [{match: [{port: 8080}], route: [{destination: {host: b}}]}, {route: [{destination: {host: both}}]}]",
    );
    let alone = virtual_service("x", &format!("hosts: [x.com]\nhttp: [{{{TO_B}}}]"));
    let mesh = Mesh::of(services(), &rules).and(&alone).config("proxyHttpPort: 15080");
    for (host, expected) in
        [("both", "80||both"), ("both:8080", "80||b"), ("x.com", "80||b"), ("x.com:80", "80||b")]
    {
        check_in(&mesh, &[(&format!("http://{host}/ | @127.0.0.1:15080"), expected)]);
    }
}

#[test]
fn a_closed_mesh_follows_rules_and_nothing_else() {
    let mesh = rules_for_a(&format!("[{{{TO_B}}}]")).config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}");
    check_in(&mesh, &[("http://a/", "80||b"), ("http://x.com/ | @10.9.9.9:80", "502")]);
}

#[test]
fn a_sidecars_own_listener_knows_its_hosts_and_where_the_rest_goes() {
    let sidecar = "\n---\napiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: own}\nspec:\n  \
                   outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: c.default.svc.cluster.local, port: {number: 80}}}\n  \
                   egress:\n  - {port: {number: 80, protocol: HTTP, name: http}, hosts: ['./b.default.svc.cluster.local', './c.default.svc.cluster.local']}\n  \
                   - {port: {number: 9999, protocol: HTTP, name: own}, hosts: ['*/x.com', './far.default.svc.cluster.local']}\n";
    let rules = virtual_service("x", &format!("hosts: [x.com]\nhttp: [{{{TO_B}}}]"));
    let mesh = Mesh::of(services(), sidecar).and(&rules);
    check_in(
        &mesh,
        &[
            ("http://b/", "80||b"),
            // It is not let through.
            ("http://a/", "80||c"),
            ("http://stranger.com/ | @10.9.9.9:80", "80||c"),
        ],
    );
}

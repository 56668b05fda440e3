//! Hosts of routes, and their ports.

use pilot_proto::ResourceType;

use super::*;

pub(super) const TABLES: Tables = &[
    names_of_a_service,
    specific_hosts,
    hosts_without_a_service,
    two_objects_for_one_host,
    export_to,
    sniffed_port,
    proxy_port,
    closed_mesh,
    sidecars_own_listener,
];

#[test]
fn names_of_a_service() {
    check_rules(
        &format!("[{{{TO_B}}}]"),
        &[
            ("a rule is for the short name of its service", "http://a/", "80||b"),
            ("a rule is for the name with its namespace", "http://a.default/", "80||b"),
            ("a rule is for the name as a service's", "http://a.default.svc/", "80||b"),
            ("a rule is for the full name", "http://a.default.svc.cluster.local/", "80||b"),
            ("a rule is for the address", "http://10.0.0.1/", "80||b"),
        ],
    );
}

/// Returns an object for a host with a route to another.
fn leading(name: &str, host: &str, to: &str) -> String {
    virtual_service(name, &format!("hosts: ['{host}']\nhttp: [{{route: [{{destination: {{host: {to}}}}}]}}]"))
}

/// Returns the number of virtual hosts that were left out at port 80.
fn left_out(mesh: &Mesh) -> u64 {
    let (push, proxy) = (mesh.push(), client(mesh).0.proxy);
    let report = generate(&push, &proxy, ResourceType::Route, Some(&names(["80"]))).report;
    report.counters()["pilot_vservice_dup_domain"]
}

#[test]
fn specific_hosts() {
    let mesh = Mesh::of(services(), &leading("wide", "*.default.svc.cluster.local", "c"))
        .and(&leading("narrow", "a.default.svc.cluster.local", "b"))
        .and(&leading("later", "a.default.svc.cluster.local", "both"));
    check_in(
        &mesh,
        &[
            ("a whole name counts before a wildcard, and of two the older", "http://a/", "80||b"),
            ("a wildcard is for all that no other object names", "http://b/", "80||c"),
            ("a wildcard may lead to one that it is for itself", "http://c/", "80||c"),
        ],
    );
    assert_eq!(left_out(&mesh), 1, "the later one is reported");
    let wild = |host: &str| leading(&host.replace(['*', '.'], ""), host, "b");
    let mesh =
        Mesh::of(services(), &leading("all", "*.cluster.local", "c")).and(&wild("*.svc.cluster.local"));
    check_in(&mesh, &[("the longest wildcard counts", "http://a/", "80||b")]);
}

#[test]
fn hosts_without_a_service() {
    let elsewhere =
        services().into_iter().chain([kubernetes("other.default").port("http", 8080).vip("10.0.0.9")]);
    let rules =
        virtual_service("x", "hosts: [x.com, '*.y.com', far]\nhttp: [{route: [{destination: {host: b}}]}]");
    let mesh = Mesh::of(elsewhere, &rules).and(&leading("z", "z.com", "b"));
    check_in(
        &mesh,
        &[
            ("a host that no service has is known at port 80", "http://x.com:80/ | @10.9.9.9:80", "80||b"),
            (
                "a host that only a wildcard means is known at port 80",
                "http://any.y.com:80/ | @10.9.9.9:80",
                "80||b",
            ),
            (
                "a host of an object of its own is known at port 80",
                "http://z.com:80/ | @10.9.9.9:80",
                "80||b",
            ),
            ("it is known where its object serves services", "http://x.com:8080/ | @10.9.9.9:8080", "80||b"),
            (
                "a host that no service has is known nowhere else",
                "http://z.com:8080/ | @10.9.9.9:8080",
                "PassthroughCluster",
            ),
            (
                "a wildcard does not mean its own domain",
                "http://y.com:80/ | @10.9.9.9:80",
                "PassthroughCluster",
            ),
        ],
    );
}

#[test]
fn two_objects_for_one_host() {
    let mesh = Mesh::of(services(), &leading("old", "x.com", "b")).and(&leading("new", "x.com", "c"));
    check_in(
        &mesh,
        &[(
            "of two objects for a host without a service the older counts",
            "http://x.com/ | @10.9.9.9:80",
            "80||b",
        )],
    );
    assert_eq!(left_out(&mesh), 1, "the younger one is reported");
}

#[test]
fn export_to() {
    let from = |namespace: &'static str| {
        move |list: &str| {
            let spec = format!("hosts: [a.default.svc.cluster.local]\nexportTo: {list}\nhttp: [{{{TO_B}}}]");
            Mesh::of(services(), &virtual_service("a", &spec)).sidecar(namespace, "app=web")
        }
    };
    let call = "http://a.default.svc.cluster.local/";
    check_each(
        Look::Verdict,
        call,
        from("shop"),
        &[
            ("rules are for every namespace", "['*']", "80||b"),
            ("rules of `.` are for their own namespace alone", "['.']", "80||a"),
            ("rules are for the namespaces they are exported to", "[shop]", "80||b"),
            ("rules are not for namespaces they are not exported to", "[office]", "80||a"),
        ],
    );
    check_each(
        Look::Verdict,
        call,
        from("default"),
        &[
            ("rules of `.` are for their own namespace", "['.']", "80||b"),
            ("rules for another namespace are not for their own", "[shop]", "80||a"),
        ],
    );
    let of_mesh = |mesh: &str| {
        let rules = format!("hosts: [a.default.svc.cluster.local]\nhttp: [{{{TO_B}}}]");
        Mesh::of(services(), &virtual_service("a", &rules)).config(mesh).sidecar("shop", "app=web")
    };
    check_each(
        Look::Verdict,
        call,
        of_mesh,
        &[
            (
                "where nothing is said of exports the mesh says it",
                "defaultVirtualServiceExportTo: ['.']",
                "80||a",
            ),
            ("where the mesh says nothing of exports all see rules", "{}", "80||b"),
        ],
    );
}

#[test]
fn sniffed_port() {
    let auto = kubernetes("auto.default").port("", 7000).vip("10.0.0.9").on("10.1.0.9");
    let rules = virtual_service(
        "auto",
        &format!("hosts: [auto]\nhttp: [{{match: [{{uri: {{prefix: /x}}}}], {TO_B}}}]"),
    );
    check_in(
        &Mesh::of(services().into_iter().chain([auto]), &rules),
        &[
            ("a sniffed port has the rules of its service", "http://auto:7000/x", "80||b"),
            ("what the rules of a sniffed port do not match is not found", "http://auto:7000/y", "404"),
            ("bytes at a sniffed port have no rules", "tcp://auto:7000", "7000||auto"),
        ],
    );
}

#[test]
fn proxy_port() {
    let rules = virtual_service(
        "both",
        "hosts: [both]\nhttp: [{match: [{port: 8080}], route: [{destination: {host: b}}]}, {route: [{destination: {host: both}}]}]",
    );
    let mesh = Mesh::of(services(), &rules).and(&leading("x", "x.com", "b")).config("proxyHttpPort: 15080");
    check_in(
        &mesh,
        &[
            ("a proxy port has the rules of port 80", "http://both/ | @127.0.0.1:15080", "80||both"),
            (
                "a proxy port has the rules of every port that is named",
                "http://both:8080/ | @127.0.0.1:15080",
                "80||b",
            ),
            (
                "a proxy port has the rules of hosts without a service",
                "http://x.com/ | @127.0.0.1:15080",
                "80||b",
            ),
            (
                "a proxy port has the rules of hosts without a service at port 80",
                "http://x.com:80/ | @127.0.0.1:15080",
                "80||b",
            ),
        ],
    );
}

#[test]
fn closed_mesh() {
    let mesh = rules_for_a(&format!("[{{{TO_B}}}]")).config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}");
    check_in(
        &mesh,
        &[
            ("a closed mesh follows rules", "http://a/", "80||b"),
            ("a closed mesh follows nothing but rules", "http://x.com/ | @10.9.9.9:80", "502"),
        ],
    );
}

#[test]
fn sidecars_own_listener() {
    let sidecar = "
outboundTrafficPolicy: {mode: ALLOW_ANY, egressProxy: {host: c.default.svc.cluster.local, port: {number: 80}}}
egress:
- {port: {number: 80, protocol: HTTP, name: http}, hosts: ['./b.default.svc.cluster.local', './c.default.svc.cluster.local']}
- {port: {number: 9999, protocol: HTTP, name: own}, hosts: ['*/x.com', './far.default.svc.cluster.local']}";
    let mesh = Mesh::of(services(), &object("Sidecar", "own", sidecar)).and(&leading("x", "x.com", "b"));
    check_in(
        &mesh,
        &[
            ("a Sidecar's listener knows its hosts", "http://b/", "80||b"),
            ("what a Sidecar does not let through goes where unknown hosts go", "http://a/", "80||c"),
            (
                "strangers at a Sidecar's listener go where unknown hosts go",
                "http://stranger.com/ | @10.9.9.9:80",
                "80||c",
            ),
        ],
    );
}

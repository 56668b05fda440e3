//! Hosts and addresses of a `ServiceEntry`: visibility, and precedence of several entries.

use super::*;

pub(super) const TABLES: Tables =
    &[names, addresses, wildcards, protocols, export_to, several_namespaces, registries];

#[test]
fn names() {
    let entry = object(
        "ServiceEntry",
        "api",
        "hosts: [a.example.com, b.example.com]\nports: [{number: 80, name: http, protocol: HTTP}, {number: 443, name: tls, protocol: TLS}]\nresolution: DNS",
    );
    check(
        &Mesh::yaml(&entry).sidecar("default", ""),
        Look::Verdict,
        &[
            ("each host is a service of its own", "http://a.example.com/", "80||a.example.com"),
            ("the second host is a service of its own too", "http://b.example.com/", "80||b.example.com"),
            ("a host may be said with its port", "http://a.example.com:80/", "80||a.example.com"),
            ("a host has no case", "http://A.Example.COM/", "80||a.example.com"),
            (
                "a host of TLS is known by its name",
                "tls://b.example.com | @192.0.2.1:443",
                "443||b.example.com",
            ),
            ("another host is unknown", "http://c.example.com/", "PassthroughCluster"),
        ],
    );
}

#[test]
fn addresses() {
    let meets = |addresses: &str| {
        let spec = format!(
            "hosts: [db.example.com]\naddresses: [{addresses}]\nports: [{{number: 9000, name: tcp, protocol: TCP}}, {{number: 80, name: http, protocol: HTTP}}]\nresolution: STATIC\nendpoints: [{{address: 192.0.2.9}}]"
        );
        Mesh::yaml(&object("ServiceEntry", "db", &spec)).sidecar("default", "")
    };
    check_each(
        Look::End,
        "tcp://10.5.5.5:9000",
        meets,
        &[
            ("bytes are known by an address", "10.5.5.5", "10.5.5.5_9000 outbound|9000||db.example.com"),
            (
                "bytes are known by one of several addresses",
                "10.5.5.6, 10.5.5.5",
                "10.5.5.5_9000 outbound|9000||db.example.com",
            ),
            ("bytes are known by a network", "10.5.0.0/16", "0.0.0.0_9000 outbound|9000||db.example.com"),
            ("a network of one is an address", "10.5.5.5/32", "10.5.5.5_9000 outbound|9000||db.example.com"),
            ("another address is unknown", "10.5.5.6", "virtualOutbound PassthroughCluster"),
            ("another network is unknown", "10.6.0.0/16", "0.0.0.0_9000 PassthroughCluster"),
            (
                "without an address every one is its own at its port",
                "",
                "0.0.0.0_9000 outbound|9000||db.example.com",
            ),
        ],
    );
    check_each(
        Look::Verdict,
        "http://10.5.5.5/",
        meets,
        &[("a request may name the address", "10.5.5.5", "80||db.example.com")],
    );
    let two = |host: &str, address: &str| {
        object(
            "ServiceEntry",
            host,
            &format!(
                "hosts: [{host}.example.com]\naddresses: [{address}]\nports: [{{number: 9000, name: tcp, protocol: TCP}}]\nresolution: NONE"
            ),
        )
    };
    check(
        &Mesh::yaml(&two("wide", "10.0.0.0/8")).and(&two("narrow", "10.5.0.0/16")).sidecar("default", ""),
        Look::Verdict,
        &[
            ("the longest network counts", "tcp://10.5.5.5:9000", "9000||narrow.example.com"),
            ("the shorter network counts for the rest", "tcp://10.6.5.5:9000", "9000||wide.example.com"),
        ],
    );
}

#[test]
fn wildcards() {
    let entry = |name: &str, host: &str| {
        object(
            "ServiceEntry",
            name,
            &format!(
                "hosts: ['{host}']\nports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 443, name: tls, protocol: TLS}}]\nresolution: NONE"
            ),
        )
    };
    let mesh = Mesh::yaml(&entry("wide", "*.example.com")).and(&entry("narrow", "*.a.example.com"));
    check(
        &mesh.and(&entry("own", "x.a.example.com")).sidecar("default", ""),
        Look::Verdict,
        &[
            ("a wildcard is for every name under it", "http://b.example.com/", "80||*.example.com"),
            ("a wildcard is for names of any depth", "http://c.b.example.com/", "80||*.example.com"),
            ("a wildcard is not for its own domain", "http://example.com/", "PassthroughCluster"),
            ("the longest wildcard is the service", "http://b.a.example.com/", "80||*.a.example.com"),
            ("a whole name comes before all wildcards", "http://x.a.example.com/", "80||x.a.example.com"),
            (
                "names of TLS are found likewise",
                "tls://b.a.example.com | @192.0.2.1:443",
                "443||*.a.example.com",
            ),
        ],
    );
}

#[test]
fn protocols() {
    let entry = |port: &str| {
        let spec = format!(
            "hosts: [api.example.com]\naddresses: [10.5.5.5]\nports: [{{number: 7000, {port}}}]\nresolution: DNS"
        );
        Mesh::yaml(&object("ServiceEntry", "api", &spec)).sidecar("default", "")
    };
    check_each(
        Look::End,
        "http://api.example.com:7000/",
        entry,
        &[
            (
                "a port of HTTP is read",
                "name: x, protocol: HTTP",
                "0.0.0.0_7000 [api.example.com:7000] outbound|7000||api.example.com",
            ),
            (
                "a port of TCP is not",
                "name: x, protocol: TCP",
                "10.5.5.5_7000 outbound|7000||api.example.com",
            ),
            (
                "a port that says nothing is what its name says",
                "name: http-x",
                "0.0.0.0_7000 [api.example.com:7000] outbound|7000||api.example.com",
            ),
            (
                "a port whose name says nothing is sniffed",
                "name: x",
                "10.5.5.5_7000 [api.example.com:7000] outbound|7000||api.example.com",
            ),
        ],
    );
}

#[test]
fn export_to() {
    let from = |namespace: &'static str| {
        move |list: &str| {
            Mesh::yaml(&entry_of(&format!("resolution: DNS\nexportTo: {list}"))).sidecar(namespace, "")
        }
    };
    check_each(
        Look::Verdict,
        "http://api.example.com/",
        from("shop"),
        &[
            ("a host is for every namespace", "['*']", "80||api.example.com"),
            ("a host of `.` is for its own", "['.']", "PassthroughCluster"),
            ("a host is for the namespaces it is exported to", "[shop, office]", "80||api.example.com"),
            ("a host is for no other namespace than it is exported to", "[office]", "PassthroughCluster"),
            ("a host of `~` is for nobody", "['~']", "PassthroughCluster"),
        ],
    );
    check_each(
        Look::Verdict,
        "http://api.example.com/",
        from("default"),
        &[("its own namespace has a host of `.`", "['.']", "80||api.example.com")],
    );
}

#[test]
fn several_namespaces() {
    let entry = |namespace: &str, address: &str| {
        object(
            "ServiceEntry",
            &format!("api.{namespace}"),
            &format!(
                "hosts: [api.example.com]\nports: [{{number: 80, name: http, protocol: HTTP}}]\nresolution: STATIC\nendpoints: [{{address: {address}}}]"
            ),
        )
    };
    let mesh = || Mesh::yaml(&entry("office", "192.0.2.1")).and(&entry("shop", "192.0.2.2"));
    check_each(
        Look::Upstream,
        "http://api.example.com/",
        |namespace| mesh().sidecar(namespace, ""),
        &[
            ("of two of one host one's own counts", "shop", "192.0.2.2:80"),
            ("of two of one host the older counts elsewhere", "default", "192.0.2.1:80"),
        ],
    );
}

#[test]
fn registries() {
    let entry = object(
        "ServiceEntry",
        "web",
        "hosts: [web.default.svc.cluster.local]\nports: [{number: 80, name: http, protocol: HTTP}]\nresolution: STATIC\nendpoints: [{address: 192.0.2.1}]",
    );
    let web = kubernetes("web.default").port("http", 80).vip("10.0.0.1").on("10.1.0.1").created(99);
    check(
        &Mesh::of([web], &entry.replace("namespace: default", "namespace: office")).sidecar("shop", ""),
        Look::Upstream,
        &[(
            "a service of Kubernetes' counts before one that is declared",
            "http://web.default/",
            "10.1.0.1:80",
        )],
    );
}

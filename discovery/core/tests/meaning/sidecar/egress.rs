//! Egress listeners: reachable hosts and ports.

use super::*;

pub(super) const TABLES: Tables = &[
    hosts,
    whose_counts,
    hosts_left_out,
    listener_with_a_port,
    bound_listeners,
    unix_socket,
    unknown_hosts,
    what_rules_lead_to,
];

/// Three namespaces; the clients are in `shop`.
const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}, {name: http-admin, port: 81}]}
---
apiVersion: v1
kind: Service
metadata: {name: books, namespace: library}
spec: {clusterIP: 10.0.0.2, ports: [{name: http, port: 80}]}
---
apiVersion: v1
kind: Service
metadata: {name: db, namespace: library}
spec: {clusterIP: 10.0.0.3, ports: [{name: tcp, port: 5432}]}
---
apiVersion: v1
kind: Service
metadata: {name: mail, namespace: office}
spec: {clusterIP: 10.0.0.4, ports: [{name: http, port: 80}]}
";

const WEB: &str = "0.0.0.0_80 [web.shop.svc.cluster.local:80] outbound|80||web.shop.svc.cluster.local";
const BOOKS: &str =
    "0.0.0.0_80 [books.library.svc.cluster.local:80] outbound|80||books.library.svc.cluster.local";
const ANY: &str = "0.0.0.0_80 [allow_any] PassthroughCluster";

fn with(sidecar: &str) -> Mesh {
    Mesh::yaml(MESH).and(sidecar)
}

#[test]
fn hosts() {
    let mesh = with(
        "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: ['./*', 'library/books.library.svc.cluster.local']}]}
",
    );
    check(
        &mesh.sidecar("shop", "app=any"),
        Look::End,
        &[
            ("`.` is the namespace of the Sidecar", "http://web", WEB),
            ("a host that is named is reached", "http://books.library", BOOKS),
            ("a host that is not is unknown", "http://mail.office", ANY),
            (
                "another service of the same namespace is not",
                "tcp://db.library:5432",
                "virtualOutbound PassthroughCluster",
            ),
        ],
    );
    check(
        &mesh.sidecar("office", "app=any"),
        Look::End,
        &[("a Sidecar is for its own namespace alone", "http://books.library", BOOKS)],
    );
}

#[test]
fn whose_counts() {
    let root = "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: istio-system}
spec: {egress: [{hosts: ['./*']}]}
";
    let own = "
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: ['library/*']}]}
";
    let selecting = "
---
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: cart, namespace: shop}
spec: {workloadSelector: {labels: {app: cart}}, egress: [{hosts: ['~/*']}]}
";
    check(
        &with(root).sidecar("shop", "app=cart"),
        Look::End,
        &[
            ("the root namespace's Sidecar holds for every namespace", "http://books.library", ANY),
            ("`.` in the root namespace's Sidecar is each namespace's own", "http://web", WEB),
        ],
    );
    check(
        &with(root).and(own).sidecar("shop", "app=cart"),
        Look::End,
        &[
            ("the namespace's own Sidecar wins over the root namespace's", "http://books.library", BOOKS),
            ("of a Sidecar that is overruled nothing is left", "http://web", ANY),
        ],
    );
    let all = with(root).and(own).and(selecting);
    check(
        &all.sidecar("shop", "app=cart"),
        Look::End,
        &[(
            "one that selects wins over one for all",
            "http://books.library",
            "virtualOutbound PassthroughCluster",
        )],
    );
    check(
        &all.sidecar("shop", "app=other"),
        Look::End,
        &[("whom it does not select it does not concern", "http://books.library", BOOKS)],
    );
}

#[test]
fn hosts_left_out() {
    let mesh = with(
        "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec: {egress: [{hosts: ['*/*', '~office/*']}]}
",
    );
    check(
        &mesh.sidecar("shop", ""),
        Look::End,
        &[
            ("the rest of the mesh is there", "http://books.library", BOOKS),
            ("the namespace that is left out is not", "http://mail.office", ANY),
        ],
    );
}

#[test]
fn listener_with_a_port() {
    let mesh = with(
        "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec:
  egress:
  - port: {number: 80, protocol: HTTP, name: http}
    hosts: ['library/*']
  - hosts: ['./*']
",
    );
    check(
        &mesh.sidecar("shop", ""),
        Look::End,
        &[
            ("what it names is reached at its port", "http://books.library", BOOKS),
            ("what only the catch-all names is not", "http://web", ANY),
            (
                "other ports are the catch-all's",
                "http://web:81",
                "0.0.0.0_81 [web.shop.svc.cluster.local:81] outbound|81||web.shop.svc.cluster.local",
            ),
            (
                "other ports of what it names are not reached",
                "tcp://db.library:5432",
                "virtualOutbound PassthroughCluster",
            ),
        ],
    );
}

#[test]
fn bound_listeners() {
    let mesh = with(
        "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec:
  egress:
  - port: {number: 8080, protocol: HTTP, name: http}
    bind: 127.0.0.1
    captureMode: NONE
    hosts: ['*/web.shop.svc.cluster.local']
  - port: {number: 80, protocol: HTTP, name: http-local}
    captureMode: NONE
    hosts: ['*/books.library.svc.cluster.local']
  - port: {number: 5432, protocol: TCP, name: tcp}
    bind: 10.9.9.9
    hosts: ['*/db.library.svc.cluster.local']
",
    );
    check(
        &mesh.sidecar("shop", ""),
        Look::End,
        &[
            (
                "at a port that none of the services has nothing listens",
                "http://127.0.0.1:8080 | host: web.shop",
                "refused",
            ),
            (
                "without an address it is loopback",
                "http://127.0.0.1:80 | host: books.library",
                "127.0.0.1_80 [books.library.svc.cluster.local:80] outbound|80||books.library.svc.cluster.local",
            ),
            (
                "a captured one takes what goes to its address",
                "tcp://10.9.9.9:5432",
                "10.9.9.9_5432 outbound|5432||db.library.svc.cluster.local",
            ),
            (
                "what no listener takes is unknown",
                "tcp://10.0.0.3:5432",
                "virtualOutbound PassthroughCluster",
            ),
        ],
    );
}

#[test]
fn unix_socket() {
    let mesh = with(
        "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: default, namespace: shop}
spec:
  egress:
  - bind: unix:///var/run/web.sock
    port: {protocol: HTTP, name: http}
    hosts: ['*/*']
  - hosts: ['~/*']
",
    );
    check(
        &mesh.sidecar("shop", ""),
        Look::End,
        &[(
            "every host is reached through a Unix socket",
            "http://web.shop | @unix:///var/run/web.sock",
            "unix:///var/run/web.sock [web.shop.svc.cluster.local:80] outbound|80||web.shop.svc.cluster.local",
        )],
    );
}

#[test]
fn unknown_hosts() {
    let sidecar = |policy: &str| {
        with(&format!(
            "
apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {{name: default, namespace: shop}}
spec: {{egress: [{{hosts: ['./*', 'library/*']}}], outboundTrafficPolicy: {policy}}}
"
        ))
    };
    check(
        &sidecar("{mode: REGISTRY_ONLY}").sidecar("shop", ""),
        Look::End,
        &[
            ("a request to nobody is refused", "http://nobody.com", "0.0.0.0_80 [block_all] 502"),
            ("bytes to nobody are closed", "tcp://192.0.2.1:9", "virtualOutbound BlackHoleCluster"),
        ],
    );
    check(
        &sidecar("{mode: ALLOW_ANY}")
            .config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
            .sidecar("shop", ""),
        Look::End,
        &[("the Sidecar wins over the mesh", "http://nobody.com", ANY)],
    );
    let proxy = "{mode: ALLOW_ANY, egressProxy: {host: books.library.svc.cluster.local, port: {number: 80}}}";
    check(
        &sidecar(proxy).sidecar("shop", ""),
        Look::End,
        &[
            (
                "an egress proxy takes bytes",
                "tcp://192.0.2.1:9",
                "virtualOutbound outbound|80||books.library.svc.cluster.local",
            ),
            (
                "an egress proxy takes requests",
                "http://nobody.com",
                "0.0.0.0_80 [allow_any] outbound|80||books.library.svc.cluster.local",
            ),
        ],
    );
}

#[test]
fn what_rules_lead_to() {
    let rules = object(
        "VirtualService",
        "web.shop",
        "hosts: [web.shop.svc.cluster.local]\nhttp: [{route: [{destination: {host: mail.office.svc.cluster.local}}]}]",
    );
    let sidecar = |hosts: &str| {
        let own = object("Sidecar", "default.shop", &format!("egress: [{{hosts: {hosts}}}]"));
        Mesh::yaml(MESH).and(&rules).and(&own).sidecar("shop", "")
    };
    check_each(
        Look::Verdict,
        "http://web",
        sidecar,
        &[
            (
                "what rules of a host lead to is reached, though nobody names it",
                "['./*']",
                "80||mail.office.svc.cluster.local",
            ),
            ("rules are only for hosts that can be reached", "['library/*']", "PassthroughCluster"),
        ],
    );
}

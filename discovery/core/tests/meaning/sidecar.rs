//! `Sidecar`: what can be reached, through what, and what is served.

use super::check;
use crate::fixture::Mesh;

/// Three namespaces; `shop` is where the clients are.
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
fn what_can_be_reached_is_what_egress_hosts_name() {
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
        &[("it is for its own namespace alone", "http://books.library", BOOKS)],
    );
}

#[test]
fn the_sidecar_that_selects_wins_over_the_namespaces_over_the_root_namespaces() {
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
        &[
            ("the root namespace's holds for every namespace", "http://books.library", ANY),
            ("and `.` in it is each namespace's own", "http://web", WEB),
        ],
    );
    check(
        &with(root).and(own).sidecar("shop", "app=cart"),
        &[
            ("the namespace's own wins", "http://books.library", BOOKS),
            ("and nothing is left of the root namespace's", "http://web", ANY),
        ],
    );
    let all = with(root).and(own).and(selecting);
    check(
        &all.sidecar("shop", "app=cart"),
        &[(
            "one that selects wins over one for all",
            "http://books.library",
            "virtualOutbound PassthroughCluster",
        )],
    );
    check(
        &all.sidecar("shop", "app=other"),
        &[("whom it does not select it does not concern", "http://books.library", BOOKS)],
    );
}

#[test]
fn hosts_after_a_tilde_are_left_out() {
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
        &[
            ("the rest of the mesh is there", "http://books.library", BOOKS),
            ("the namespace that is left out is not", "http://mail.office", ANY),
        ],
    );
}

#[test]
fn an_egress_listener_with_a_port_has_services_of_its_own() {
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
fn an_egress_listener_may_be_bound() {
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
fn an_egress_listener_may_be_a_unix_socket() {
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
        &[(
            "every host is reached through it",
            "http://web.shop | @unix:///var/run/web.sock",
            "unix:///var/run/web.sock [web.shop.svc.cluster.local:80] outbound|80||web.shop.svc.cluster.local",
        )],
    );
}

#[test]
fn unknown_hosts_are_passed_on_or_refused() {
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
        &[
            ("a request to nobody is refused", "http://nobody.com", "0.0.0.0_80 [block_all] 502"),
            ("so are bytes", "tcp://192.0.2.1:9", "virtualOutbound BlackHoleCluster"),
        ],
    );
    check(
        &sidecar("{mode: ALLOW_ANY}")
            .config("outboundTrafficPolicy: {mode: REGISTRY_ONLY}")
            .sidecar("shop", ""),
        &[("the Sidecar wins over the mesh", "http://nobody.com", ANY)],
    );
    let proxy = "{mode: ALLOW_ANY, egressProxy: {host: books.library.svc.cluster.local, port: {number: 80}}}";
    check(
        &sidecar(proxy).sidecar("shop", ""),
        &[
            (
                "an egress proxy takes bytes",
                "tcp://192.0.2.1:9",
                "virtualOutbound outbound|80||books.library.svc.cluster.local",
            ),
            (
                "and requests",
                "http://nobody.com",
                "0.0.0.0_80 [allow_any] outbound|80||books.library.svc.cluster.local",
            ),
        ],
    );
}

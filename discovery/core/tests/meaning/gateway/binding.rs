//! Selection of gateway proxies, bind addresses, and `VirtualService`s of a `Gateway`.

use super::*;

pub(super) const TABLES: Tables =
    &[selectors, rules_name_gateways, several_gateways, addresses, ports, hosts];

const CALL: &str = "http://192.0.2.1/ | host: a.example.com";
const WEB: &str = "80||web.shop.svc.cluster.local";

fn edge(name: &str, more: &str) -> String {
    object("Gateway", name, &format!("servers: [{HTTP}]\n{more}"))
}

fn rules(name: &str, more: &str) -> String {
    object(
        "VirtualService",
        name,
        &format!(
            "hosts: ['*.example.com']\n{more}\nhttp: [{{route: [{{destination: {{host: web.shop.svc.cluster.local, port: {{number: 80}}}}}}]}}]"
        ),
    )
}

#[test]
fn selectors() {
    check_each(
        Look::Verdict,
        CALL,
        |selector| {
            let mesh = Mesh::yaml(MESH).and(&edge("edge.shop", &format!("selector: {selector}")));
            mesh.and(&rules("web.shop", "gateways: [edge]"))
                .gateway("istio-system", "istio=ingressgateway,app=edge")
        },
        &[
            ("a Gateway is for proxies with its labels, of any namespace", "{istio: ingressgateway}", WEB),
            ("a Gateway is for proxies with all of its labels", "{istio: ingressgateway, app: edge}", WEB),
            (
                "a Gateway is for no proxies with other labels",
                "{istio: ingressgateway, app: other}",
                "refused",
            ),
            ("a Gateway without labels is for all gateways", "{}", WEB),
        ],
    );
    let mesh = Mesh::yaml(MESH).and(&edge("edge.shop", "selector: {istio: ingressgateway}"));
    let mesh = mesh.and(&rules("web.shop", "gateways: [edge]"));
    check(
        &mesh.sidecar("shop", "istio=ingressgateway"),
        Look::Verdict,
        &[("a Gateway is for no sidecar", "http://a.example.com/", "PassthroughCluster")],
    );
}

#[test]
fn rules_name_gateways() {
    let at = |name: &'static str| {
        move |said: &str| {
            let mesh = Mesh::yaml(MESH).and(&edge("edge.shop", "selector: {istio: ingressgateway}"));
            mesh.and(&rules(name, said)).gateway("istio-system", "istio=ingressgateway")
        }
    };
    check_each(
        Look::Verdict,
        CALL,
        at("web.shop"),
        &[
            ("a short name is a Gateway of the rules' namespace", "gateways: [edge]", WEB),
            ("a name with a namespace is what it says", "gateways: [shop/edge]", WEB),
            ("rules for the mesh and a Gateway are for both", "gateways: [mesh, edge]", WEB),
            ("rules without gateways are for the mesh alone", "", "404"),
            ("rules for another Gateway are not for this one", "gateways: [other]", "404"),
        ],
    );
    check_each(
        Look::Verdict,
        CALL,
        at("web.office"),
        &[
            ("rules may be in another namespace", "gateways: [shop/edge]", WEB),
            ("in another namespace a short name means another Gateway", "gateways: [edge]", "404"),
            (
                "rules that are not exported to the proxy's namespace are not for it",
                "gateways: [shop/edge]\nexportTo: [shop]",
                "404",
            ),
            (
                "rules that are exported to the proxy's namespace are",
                "gateways: [shop/edge]\nexportTo: [istio-system]",
                WEB,
            ),
        ],
    );
}

#[test]
fn several_gateways() {
    let server =
        |host: &str| format!("{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['{host}']}}");
    let gateway = |name: &str, host: &str| {
        object("Gateway", name, &format!("selector: {{istio: ingressgateway}}\nservers: [{}]", server(host)))
    };
    let to = |name: &str, gateway: &str, host: &str, status: u16| {
        let spec = format!(
            "gateways: [{gateway}]\nhosts: ['{host}']\nhttp: [{{directResponse: {{status: {status}}}}}]"
        );
        object("VirtualService", name, &spec)
    };
    let mesh = Mesh::yaml(MESH)
        .and(&gateway("one.shop", "a.example.com"))
        .and(&gateway("two.office", "*.example.com"))
        .and(&to("a.shop", "one", "a.example.com", 201))
        .and(&to("b.office", "two", "b.example.com", 202))
        .and(&to("late.office", "two", "a.example.com", 203));
    check(
        &mesh.gateway("istio-system", "istio=ingressgateway"),
        Look::Verdict,
        &[
            ("servers of several Gateways share a port", "http://192.0.2.1/ | host: a.example.com", "201"),
            ("each Gateway has the rules that are for it", "http://192.0.2.1/ | host: b.example.com", "202"),
            ("a host without rules finds nobody", "http://192.0.2.1/ | host: c.example.com", "404"),
        ],
    );
}

#[test]
fn addresses() {
    let bound = |said: &str| {
        let server =
            format!("{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: ['*.example.com'], {said}}}");
        gateway(&server, TO_HTTP)
    };
    check_each(
        Look::End,
        "http://192.0.2.1/ | @10.255.255.1:80 | host: a.example.com",
        bound,
        &[
            (
                "a server is at every address",
                "",
                "0.0.0.0_80 [*.example.com:80] outbound|80||web.shop.svc.cluster.local",
            ),
            (
                "a server is at its own address",
                "bind: 10.255.255.1",
                "10.255.255.1_80 [*.example.com:80] outbound|80||web.shop.svc.cluster.local",
            ),
            ("a server is at no other address", "bind: 127.0.0.1", "refused"),
        ],
    );
}

#[test]
fn ports() {
    let service = |port: &str| {
        format!(
            "
apiVersion: v1
kind: Service
metadata: {{name: edge, namespace: istio-system}}
spec: {{selector: {{istio: ingressgateway}}, ports: [{port}]}}
---
apiVersion: v1
kind: Pod
metadata: {{name: edge-1, namespace: istio-system, labels: {{istio: ingressgateway}}}}
"
        )
    };
    check_each(
        Look::End,
        "http://192.0.2.1/ | host: a.example.com",
        |port| {
            let mesh = Mesh::yaml(MESH).and(&service(port)).and(&edge("edge.shop", ""));
            mesh.and(&rules("web.shop", "gateways: [edge]")).gateway_pod("edge-1.istio-system")
        },
        &[
            (
                "a server is at the port where its service leads",
                "{name: http, port: 80, targetPort: 8080}",
                "0.0.0.0_8080 [*.example.com:80] outbound|80||web.shop.svc.cluster.local",
            ),
            (
                "a server is at its own port if its service has another",
                "{name: http, port: 81, targetPort: 8080}",
                "0.0.0.0_80 [*.example.com:80] outbound|80||web.shop.svc.cluster.local",
            ),
        ],
    );
}

#[test]
fn hosts() {
    let served = |hosts: &str| {
        let server = format!("{{port: {{number: 80, name: http, protocol: HTTP}}, hosts: [{hosts}]}}");
        gateway(&server, TO_HTTP)
    };
    check_each(
        Look::Verdict,
        CALL,
        served,
        &[
            ("a server of every host serves those of the rules", "'*'", WEB),
            ("a server of the rules' namespace serves them", "'shop/*'", WEB),
            ("a server of every namespace serves them", "'*/*.example.com'", WEB),
            ("a server of other hosts does not", "'*.example.org'", "404"),
            ("several hosts are served", "'x.com', 'a.example.com'", WEB),
            ("a host has no case", "'A.Example.com'", WEB),
        ],
    );
}

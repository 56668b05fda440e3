//! `workloadSelector`: pods and `WorkloadEntry`s as endpoints of a host.

use super::*;

pub(super) const TABLES: Tables = &[selected, ports, dns];

const WORKLOADS: &str = "
apiVersion: v1
kind: Pod
metadata: {name: pod-1, namespace: default, labels: {app: api, version: v1}}
spec: {containers: [{name: api, ports: [{name: http, containerPort: 8080}]}]}
status: {podIP: 10.244.0.1}
---
apiVersion: v1
kind: Pod
metadata: {name: pod-2, namespace: shop, labels: {app: api}}
status: {podIP: 10.244.0.2}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: machine, namespace: default}
spec: {address: 192.0.2.1, labels: {app: api}}
---
apiVersion: networking.istio.io/v1
kind: WorkloadEntry
metadata: {name: other, namespace: default}
spec: {address: 192.0.2.2, labels: {app: other}}
";

fn selecting(spec: &str) -> Client {
    Mesh::yaml(WORKLOADS).and(&entry_of(spec)).sidecar("default", "app=web")
}

const CALL: &str = "http://api.example.com/";

#[test]
fn selected() {
    check_each(
        Look::Upstream,
        CALL,
        |labels| selecting(&format!("resolution: STATIC\nworkloadSelector: {{labels: {labels}}}")),
        &[
            (
                "pods and machines of the namespace with the labels are endpoints",
                "{app: api}",
                "10.244.0.1:80, 192.0.2.1:80",
            ),
            ("endpoints have all labels of the selector", "{app: api, version: v1}", "10.244.0.1:80"),
            ("a selector may pick nobody", "{app: nobody}", "has no endpoints"),
        ],
    );
}

#[test]
fn ports() {
    let entry = |port: &str| {
        let spec = format!(
            "hosts: [api.example.com]\nports: [{{number: 80, name: http, protocol: HTTP{port}}}]\nresolution: STATIC\nworkloadSelector: {{labels: {{app: api}}}}"
        );
        let machine =
            object("WorkloadEntry", "mapped", "address: 192.0.2.3\nlabels: {app: api}\nports: {http: 9080}");
        Mesh::yaml(WORKLOADS).and(&object("ServiceEntry", "api", &spec)).and(&machine).sidecar("default", "")
    };
    check_each(
        Look::Upstream,
        CALL,
        entry,
        &[
            (
                "machines map ports by name, and pods do not",
                "",
                "10.244.0.1:80, 192.0.2.1:80, 192.0.2.3:9080",
            ),
            (
                "the target port is for machines that map none",
                ", targetPort: 8080",
                "10.244.0.1:8080, 192.0.2.1:8080, 192.0.2.3:9080",
            ),
        ],
    );
}

#[test]
fn dns() {
    let named = object("WorkloadEntry", "named", "address: a.example.net\nlabels: {app: named}");
    check_each(
        Look::Upstream,
        CALL,
        |labels| {
            let entry = entry_of(&format!("resolution: DNS\nworkloadSelector: {{labels: {labels}}}"));
            Mesh::yaml(WORKLOADS).and(&named).and(&entry).sidecar("default", "")
        },
        &[("DNS asks for the names of machines that are selected", "{app: named}", "a.example.net:80")],
    );
}

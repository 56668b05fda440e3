//! `WorkloadEntry`s, groups and pods: endpoints and services of proxies.

use crate::Tables;
use crate::fixture::*;
use crate::table::*;

pub(crate) const TABLES: Tables =
    &[machines_of_a_service, ports, labels, weights_and_places, who_is_beside_a_proxy, groups];

/// Kubernetes service with selector `app: api`, and one pod of it.
const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: api, namespace: default}
spec: {selector: {app: api}, ports: [{name: http, port: 80, targetPort: 8080}, {name: named, port: 81, appProtocol: http, targetPort: web}]}
---
apiVersion: v1
kind: Pod
metadata: {name: api-1, namespace: default, labels: {app: api}}
spec: {containers: [{name: api, ports: [{name: web, containerPort: 9080}]}]}
status: {podIP: 10.244.0.1}
";

/// Returns the mesh with one machine.
fn with_machine(spec: &str) -> Mesh {
    Mesh::yaml(MESH).and(&object("WorkloadEntry", "machine", spec))
}

fn client(spec: &str) -> Client {
    with_machine(spec).sidecar("default", "app=web")
}

#[test]
fn machines_of_a_service() {
    check_each(
        Look::Upstream,
        "http://api/",
        client,
        &[
            (
                "a service of Kubernetes' selects machines as it does pods",
                "address: 192.0.2.1\nlabels: {app: api}",
                "10.244.0.1:8080, 192.0.2.1:8080",
            ),
            (
                "a machine with other labels is not selected",
                "address: 192.0.2.1\nlabels: {app: other}",
                "10.244.0.1:8080",
            ),
            ("a machine without labels is not selected", "address: 192.0.2.1", "10.244.0.1:8080"),
        ],
    );
    let elsewhere = object("WorkloadEntry", "machine.shop", "address: 192.0.2.1\nlabels: {app: api}");
    check(
        &Mesh::yaml(MESH).and(&elsewhere).sidecar("default", ""),
        Look::Upstream,
        &[("a machine of another namespace serves nothing here", "http://api/", "10.244.0.1:8080")],
    );
}

#[test]
fn ports() {
    check_each(
        Look::Upstream,
        "http://api/",
        client,
        &[(
            "a machine says itself where it listens, by the name of the service's port",
            "address: 192.0.2.1\nlabels: {app: api}\nports: {http: 7080}",
            "10.244.0.1:8080, 192.0.2.1:7080",
        )],
    );
    check_each(
        Look::Upstream,
        "http://api:81/",
        client,
        &[
            (
                "a named target port is a pod's, and means nothing to a machine",
                "address: 192.0.2.1\nlabels: {app: api}",
                "10.244.0.1:9080",
            ),
            (
                "a machine that says where it listens serves a named target port",
                "address: 192.0.2.1\nlabels: {app: api}\nports: {named: 7081}",
                "10.244.0.1:9080, 192.0.2.1:7081",
            ),
        ],
    );
}

#[test]
fn labels() {
    let labelled = |said: &str| {
        let object = "apiVersion: networking.istio.io/v1\nkind: WorkloadEntry\nmetadata: {name: machine, namespace: default, labels: ";
        let (own, spec) = said.split_once(" | ").unwrap();
        let machine = format!("\n---\n{object}{own}}}\nspec: {{address: 192.0.2.1, labels: {spec}}}\n");
        Mesh::yaml(MESH).and(&machine).sidecar("default", "")
    };
    check_each(
        Look::Upstream,
        "http://api/",
        labelled,
        &[
            ("labels of the object are the machine's", "{app: api} | {}", "10.244.0.1:8080, 192.0.2.1:8080"),
            (
                "labels of the object win over those of its spec",
                "{app: other} | {app: api}",
                "10.244.0.1:8080",
            ),
        ],
    );
}

#[test]
fn weights_and_places() {
    check_each(
        Look::Upstream,
        "http://api/",
        |said| client(&format!("address: 192.0.2.1\nlabels: {{app: api}}\n{said}")),
        &[
            ("a machine has a weight", "weight: 3", "10.244.0.1:8080, 192.0.2.1:8080 w3"),
            ("a machine is somewhere", "locality: r1/z1", "10.244.0.1:8080, 192.0.2.1:8080 r1/z1=1"),
        ],
    );
}

#[test]
fn who_is_beside_a_proxy() {
    let at = |ip: &str, namespace: &str| {
        let id = format!("sidecar~{ip}~somebody.{namespace}~{namespace}.svc.cluster.local");
        introduced(&id, "{LABELS: {app: claimed}}", "")
    };
    let mesh = with_machine("address: 192.0.2.1\nlabels: {app: api}");
    check(
        &mesh.proxy(at("192.0.2.1", "default")).arriving(),
        Look::End,
        &[
            (
                "a proxy at a machine serves what selects the machine",
                "http://api:8080/",
                "virtualInbound [inbound|http|80] inbound|8080||",
            ),
            (
                "a proxy at a machine passes on what nobody selects it for",
                "tcp://api:9999",
                "virtualInbound InboundPassthroughCluster",
            ),
        ],
    );
    check(
        &mesh.proxy(at("10.244.0.1", "default")).arriving(),
        Look::End,
        &[(
            "a proxy at a pod serves at the ports of its containers",
            "http://api:9080/",
            "virtualInbound [inbound|http|81] inbound|9080||",
        )],
    );
    let rules = |app: &str| {
        object(
            "VirtualService",
            app,
            &format!(
                "hosts: [api]\nhttp: [{{match: [{{sourceLabels: {{app: {app}}}}}], directResponse: {{status: 201}}}}]"
            ),
        )
    };
    check_each(
        Look::Verdict,
        "http://api/",
        |said| {
            let (ip, app) = said.split_once(' ').unwrap();
            with_machine("address: 192.0.2.1\nlabels: {app: api}").and(&rules(app)).proxy(at(ip, "default"))
        },
        &[
            ("a proxy has the labels that its workload has", "192.0.2.1 api", "201"),
            ("a proxy has not the labels that it claims", "192.0.2.1 claimed", "80||api"),
            (
                "a proxy has the labels that it claims where nobody knows its workload",
                "192.0.2.9 claimed",
                "201",
            ),
        ],
    );
}

#[test]
fn groups() {
    let group = object(
        "WorkloadGroup",
        "machines",
        "metadata: {labels: {app: api}}\ntemplate: {ports: {http: 7080}}",
    );
    check(
        &Mesh::yaml(MESH).and(&group).sidecar("default", ""),
        Look::Upstream,
        &[("a group is no machine", "http://api/", "10.244.0.1:8080")],
    );
}

//! Patches of clusters, and their contexts.

use super::*;

pub(super) const TABLES: Tables = &[clusters, clusters_that_match, contexts];

#[test]
fn clusters() {
    let change =
        |said: &str| client(&patch("CLUSTER", "cluster: {service: a.default.svc.cluster.local}", said));
    check_each(
        Look::Settings("connects"),
        "http://a/",
        change,
        &[("MERGE changes what it says", SLOW, "connects within 99s")],
    );
    check_each(
        Look::Upstream,
        "http://a/",
        change,
        &[
            ("MERGE leaves the rest of a cluster", SLOW, "10.1.0.1:80"),
            ("REMOVE takes a cluster away", "operation: REMOVE", "is not there"),
        ],
    );
    let added = "operation: ADD, value: {name: 'outbound|80||added.com', type: STATIC, load_assignment: {cluster_name: x, endpoints: [{lb_endpoints: [{endpoint: {address: {socket_address: {address: 192.0.2.7, port_value: 80}}}}]}]}}";
    check_each(
        Look::Upstream,
        "http://c/",
        |said| client(&patch("CLUSTER", "context: SIDECAR_OUTBOUND", said)),
        &[("ADD adds a cluster", added, "192.0.2.7:80")],
    );
}

#[test]
fn clusters_that_match() {
    check_each(
        Look::Settings("connects"),
        "http://a/",
        |said| client(&patch("CLUSTER", said, SLOW)),
        &[
            ("a match that says nothing is for every cluster", "", "connects within 99s"),
            (
                "a cluster is known by its service",
                "cluster: {service: a.default.svc.cluster.local}",
                "connects within 99s",
            ),
            (
                "a cluster of another service is not meant",
                "cluster: {service: db.default.svc.cluster.local}",
                "connects within 10s",
            ),
            ("a cluster is known by its port", "cluster: {portNumber: 80}", "connects within 99s"),
            ("a cluster of another port is not meant", "cluster: {portNumber: 81}", "connects within 10s"),
            (
                "a cluster is known by its name",
                "cluster: {name: 'outbound|80||a.default.svc.cluster.local'}",
                "connects within 99s",
            ),
            (
                "a cluster is known by its subset, and the whole has none",
                "cluster: {subset: v1}",
                "connects within 10s",
            ),
        ],
    );
    check_each(
        Look::Settings("connects"),
        "http://a/v1",
        |said| client(&patch("CLUSTER", said, SLOW)),
        &[("a subset is a cluster of its own", "cluster: {subset: v1}", "connects within 99s")],
    );
}

#[test]
fn contexts() {
    let slow = |context: &str| patch("CLUSTER", &format!("context: {context}"), SLOW);
    check_each(
        Look::Settings("connects"),
        "http://a/",
        |context| client(&slow(context)),
        &[
            ("SIDECAR_OUTBOUND is what leaves a workload", "SIDECAR_OUTBOUND", "connects within 99s"),
            ("SIDECAR_INBOUND is not", "SIDECAR_INBOUND", "connects within 10s"),
            ("GATEWAY is no sidecar", "GATEWAY", "connects within 10s"),
            ("ANY is what leaves a workload too", "ANY", "connects within 99s"),
        ],
    );
    check_each(
        Look::Settings("connects"),
        "http://a:80/",
        |context| server(&slow(context)),
        &[
            ("SIDECAR_INBOUND is what comes to one", "SIDECAR_INBOUND", "connects within 99s"),
            ("SIDECAR_OUTBOUND does not come to one", "SIDECAR_OUTBOUND", "connects within 10s"),
        ],
    );
    check_each(
        Look::Settings("connects"),
        "http://192.0.2.1/ | host: x.com",
        |context| {
            let edge = object(
                "Gateway",
                "edge",
                "servers: [{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*']}]",
            );
            let rules = object(
                "VirtualService",
                "x",
                "hosts: [x.com]\ngateways: [edge]\nhttp: [{route: [{destination: {host: a}}]}]",
            );
            with(&slow(context)).and(&edge).and(&rules).gateway("default", "app=edge")
        },
        &[
            ("GATEWAY is a gateway", "GATEWAY", "connects within 99s"),
            ("SIDECAR_OUTBOUND is no gateway", "SIDECAR_OUTBOUND", "connects within 10s"),
        ],
    );
}

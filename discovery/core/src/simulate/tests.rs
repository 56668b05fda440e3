//! The evaluator against resources written by hand. What Envoy does was tried with Envoy 1.40 where its documentation leaves
//! it open; such tables say so.

use std::net::SocketAddr;

use pilot_proto::proto3_json;
use serde_json::Value;

use super::*;

mod connections;
mod requests;
mod upstreams;

/// Configuration of a proxy: `{listeners: [..], routes: [..], clusters: [..], assignments: [..]}` as Envoy's JSON, in YAML.
fn told(yaml: &str) -> ProxyConfigView {
    let all: Value = serde_saphyr::from_str(yaml).unwrap();
    let list = |key: &str| all.get(key).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut told = ProxyConfigView::default();
    for value in list("listeners") {
        let listener: pilot_proto::envoy::config::listener::v3::Listener =
            proto3_json::from_value(&value).unwrap();
        told.listeners.insert(listener.name.clone(), listener);
    }
    for value in list("routes") {
        let routes: pilot_proto::envoy::config::route::v3::RouteConfiguration =
            proto3_json::from_value(&value).unwrap();
        told.routes.insert(routes.name.clone(), routes);
    }
    for value in list("clusters") {
        let cluster: pilot_proto::envoy::config::cluster::v3::Cluster =
            proto3_json::from_value(&value).unwrap();
        told.clusters.insert(cluster.name.clone(), cluster);
    }
    for value in list("assignments") {
        let assignment: pilot_proto::envoy::config::endpoint::v3::ClusterLoadAssignment =
            proto3_json::from_value(&value).unwrap();
        told.assignments.insert(assignment.cluster_name.clone(), assignment);
    }
    told
}

/// A plaintext connection.
fn to(direction: CallDirection, address: &str) -> Call {
    Call::new(direction, address.parse().unwrap())
}

/// The end of a call alone.
fn end(told: &ProxyConfigView, call: &Call) -> String {
    told.call(call).verdict.to_string()
}

/// From an address and port.
fn from(call: Call, address: &str) -> Call {
    let address: SocketAddr = address.parse().unwrap();
    Call { from: Some(address), ..call }
}

//! `DestinationRule`: traffic policy and subsets of a host.

mod balancing;
mod places;
mod pool;
mod search;
mod subsets;
mod tls;

use crate::Tables;
use crate::fixture::*;
use crate::table::*;

pub(crate) const TABLES: &[Tables] =
    &[balancing::TABLES, pool::TABLES, places::TABLES, search::TABLES, subsets::TABLES, tls::TABLES];

/// Service `b` in namespace `default`: HTTP at port 80, TCP at port 81.
fn services() -> Vec<Declared> {
    let b = kubernetes("b.default").port("http", 80).port("tcp", 81).vip("10.0.0.2");
    vec![b.on("10.1.0.2"), kubernetes("rpc.default").port("grpc", 90).vip("10.0.0.3").on("10.1.0.3")]
}

/// Returns a client in `default` with this `DestinationRule` for a host.
fn ruled(host: &str, spec: &str) -> Client {
    let rule = object("DestinationRule", "rule", &format!("host: {host}\n{spec}"));
    Mesh::of(services(), &rule).sidecar("default", "app=web")
}

/// Returns a client with this traffic policy for `b`.
fn policy(said: &str) -> Client {
    ruled("b", &format!("trafficPolicy: {said}"))
}

//! `EnvoyFilter`: patches of generated configuration.

mod clusters;
mod listeners;
mod routes;
mod selecting;

use crate::Tables;
use crate::fixture::*;
use crate::table::*;

pub(crate) const TABLES: &[Tables] =
    &[clusters::TABLES, listeners::TABLES, routes::TABLES, selecting::TABLES];

/// Services `a` with HTTP and subset `v1`; `db` with TCP; `c` with HTTP and a route to `added.com`.
fn mesh() -> Mesh {
    let service = |name: &str, port: &str, number: u16, last: u8| {
        let declared = kubernetes(&format!("{name}.default")).port(port, number);
        declared.vip(&format!("10.0.0.{last}")).on(&format!("10.1.0.{last}"))
    };
    let services = [service("a", "http", 80, 1), service("db", "tcp", 5432, 2), service("c", "http", 80, 3)];
    let subset = object("DestinationRule", "a", "host: a\nsubsets: [{name: v1}]");
    let rules = object(
        "VirtualService",
        "a",
        "hosts: [a]\nhttp: [{name: v1, match: [{uri: {prefix: /v1}}], route: [{destination: {host: a, subset: v1}}]}, {name: all, route: [{destination: {host: a}}]}]",
    );
    let added = object(
        "VirtualService",
        "c",
        "hosts: [c]\nhttp: [{route: [{destination: {host: added.com, port: {number: 80}}}]}]",
    );
    Mesh::of(services, &subset).and(&rules).and(&added)
}

/// Returns the mesh with these patches.
fn with(patches: &str) -> Mesh {
    mesh().and(&object("EnvoyFilter", "filter", &format!("configPatches: [{patches}]")))
}

fn client(patches: &str) -> Client {
    with(patches).sidecar("default", "app=web,version=v1")
}

/// Returns the client with inbound calls to `a`.
fn server(patches: &str) -> Client {
    with(patches).proxy(sidecar("10.1.0.1", "default")).arriving()
}

/// Returns a patch of a type of object.
fn patch(apply_to: &str, matches: &str, change: &str) -> String {
    format!("{{applyTo: {apply_to}, match: {{{matches}}}, patch: {{{change}}}}}")
}

const SLOW: &str = "operation: MERGE, value: {connect_timeout: 99s}";

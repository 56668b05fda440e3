//! Routes of `VirtualService`s, field by field, for clients with a sidecar.

mod answers;
mod bytes;
mod costs;
mod delegates;
mod destinations;
mod hosts;
mod matches;
mod policies;

use crate::Tables;
use crate::fixture::*;
use crate::table::*;

pub(crate) const TABLES: &[Tables] = &[
    answers::TABLES,
    bytes::TABLES,
    delegates::TABLES,
    destinations::TABLES,
    hosts::TABLES,
    matches::TABLES,
    policies::TABLES,
];

/// Services `a`, `b` and `c`, each with one port 80; `far` with one port 8080; `both` with 80 and 8080.
fn services() -> Vec<Declared> {
    let one = |name: &str, port: u16, last: u8| {
        let declared = kubernetes(&format!("{name}.default")).port("http", port);
        declared.vip(&format!("10.0.0.{last}")).on(&format!("10.1.0.{last}"))
    };
    let both = kubernetes("both.default").port("http", 80).port("http-alt", 8080);
    vec![
        one("a", 80, 1),
        one("b", 80, 2),
        one("c", 80, 3),
        one("far", 8080, 4),
        both.vip("10.0.0.5").on("10.1.0.5"),
    ]
}

/// Returns a `VirtualService` in namespace `default`.
fn virtual_service(name: &str, spec: &str) -> String {
    object("VirtualService", name, spec)
}

/// Returns a `DestinationRule` in namespace `default`.
fn destination_rule(name: &str, spec: &str) -> String {
    object("DestinationRule", name, spec)
}

/// Returns the mesh with these routes for host `a`.
fn rules_for_a(http: &str) -> Mesh {
    Mesh::of(services(), &virtual_service("a", &format!("hosts: [a]\nhttp: {http}")))
}

fn client(mesh: &Mesh) -> Client {
    mesh.sidecar("default", "app=web")
}

/// Returns a client of the mesh with these routes for host `a`.
fn ruled(http: &str) -> Client {
    client(&rules_for_a(http))
}

/// Checks calls with these routes for host `a`.
fn check_rules(http: &str, cases: &[Case<'_>]) {
    check_in(&rules_for_a(http), cases);
}

fn check_in(mesh: &Mesh, cases: &[Case<'_>]) {
    check(&client(mesh), Look::Verdict, cases);
}

const TO_B: &str = "route: [{destination: {host: b}}]";
const TO_A: &str = "route: [{destination: {host: a}}]";

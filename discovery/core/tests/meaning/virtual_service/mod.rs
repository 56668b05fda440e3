//! Rules of `VirtualService`s for requests, field by field, to the clients beside whom a proxy stands.

mod costs;
mod destinations;
mod hosts;
mod matches;
mod policies;

use crate::fixture::*;

/// Clusters of a service in this namespace are written `<port>|<subset>|<name>`.
fn short(text: &str) -> String {
    text.replace(".default.svc.cluster.local", "").replace("outbound|", "")
}

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

/// A `VirtualService` of namespace `default`.
fn virtual_service(name: &str, spec: &str) -> String {
    let spec = spec.replace('\n', "\n  ");
    format!(
        "\n---\napiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {{name: {name}}}\nspec:\n  {spec}\n"
    )
}

/// A `DestinationRule` of namespace `default`.
fn destination_rule(name: &str, spec: &str) -> String {
    virtual_service(name, spec).replace("VirtualService", "DestinationRule")
}

/// The mesh with these rules for host `a`.
fn rules_for_a(http: &str) -> Mesh {
    Mesh::of(services(), &virtual_service("a", &format!("hosts: [a]\nhttp: {http}")))
}

fn client(mesh: &Mesh) -> Client {
    mesh.sidecar("default", "app=web")
}

/// Rules for host `a`, calls, and where they end.
fn check(http: &str, calls: &[(&str, &str)]) {
    check_in(&rules_for_a(http), calls);
}

fn check_in(mesh: &Mesh, calls: &[(&str, &str)]) {
    let client = client(mesh);
    for (line, expected) in calls {
        let trace = client.ask(line);
        assert_eq!(short(&trace.verdict.to_string()), *expected, "{line}\n{:#?}", trace.steps);
    }
}

const TO_B: &str = "route: [{destination: {host: b}}]";
const TO_A: &str = "route: [{destination: {host: a}}]";

//! `Gateway`: servers at the edge of the mesh, and their routes.

mod binding;
mod certificates;
mod servers;

use crate::Tables;
use crate::fixture::*;
use crate::table::*;

pub(crate) const TABLES: &[Tables] = &[binding::TABLES, certificates::TABLES, servers::TABLES];

const MESH: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.0.0.1, ports: [{name: http, port: 80}, {name: tcp, port: 9000}, {name: tls, port: 443}]}
";

/// Returns a gateway with these servers, and these routes for `*.example.com`.
fn gateway(servers: &str, rules: &str) -> Client {
    let servers =
        object("Gateway", "edge.shop", &format!("selector: {{istio: ingressgateway}}\nservers: [{servers}]"));
    let rules =
        object("VirtualService", "web.shop", &format!("gateways: [edge]\nhosts: ['*.example.com']\n{rules}"));
    Mesh::yaml(MESH).and(&servers).and(&rules).gateway("istio-system", "istio=ingressgateway")
}

const HTTP: &str = "{port: {number: 80, name: http, protocol: HTTP}, hosts: ['*.example.com']}";
const TO_BYTES: &str = "route: [{destination: {host: web, port: {number: 9000}}}]";
const TO_HTTP: &str = "http: [{route: [{destination: {host: web, port: {number: 80}}}]}]";
const TO_TLS: &str = "route: [{destination: {host: web, port: {number: 443}}}]";

//! `ServiceEntry`: services that are in no registry.

mod endpoints;
mod hosts;
mod selecting;

use crate::Tables;
use crate::fixture::*;
use crate::table::*;

pub(crate) const TABLES: &[Tables] = &[endpoints::TABLES, hosts::TABLES, selecting::TABLES];

/// Returns a `ServiceEntry` in namespace `default` for `api.example.com` with ports for HTTP, TCP and TLS.
fn entry_of(spec: &str) -> String {
    object(
        "ServiceEntry",
        "api",
        &format!(
            "hosts: [api.example.com]\nports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 9000, name: tcp, protocol: TCP}}, {{number: 443, name: tls, protocol: TLS}}]\n{spec}"
        ),
    )
}

/// Returns a client of the entry.
fn client(spec: &str) -> Client {
    Mesh::yaml(&entry_of(spec)).sidecar("default", "app=web")
}

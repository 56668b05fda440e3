//! `ServiceEntry`: services that no registry knows.

mod endpoints;
mod hosts;
mod selecting;

use crate::Tables;
use crate::fixture::*;
use crate::table::*;

pub(crate) const TABLES: &[Tables] = &[endpoints::TABLES, hosts::TABLES, selecting::TABLES];

/// A `ServiceEntry` of namespace `default` for `api.example.com` with ports for requests, bytes and TLS.
fn entry_of(spec: &str) -> String {
    object(
        "ServiceEntry",
        "api",
        &format!(
            "hosts: [api.example.com]\nports: [{{number: 80, name: http, protocol: HTTP}}, {{number: 9000, name: tcp, protocol: TCP}}, {{number: 443, name: tls, protocol: TLS}}]\n{spec}"
        ),
    )
}

/// A client of it.
fn client(spec: &str) -> Client {
    Mesh::yaml(&entry_of(spec)).sidecar("default", "app=web")
}

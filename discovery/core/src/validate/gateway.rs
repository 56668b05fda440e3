//! Validation of `Gateway`.

use std::collections::HashSet;

use super::findings::{At, Findings};
use super::server_tls;
use super::values::{
    UNIX, is_dns_label, is_http, is_ip, is_partial_wildcard, is_protocol, is_tls, is_wildcard_host,
};
use crate::api::Gateway;
use crate::api::gateway::{Port, Server, ServerTls, ServerTlsMode};

pub(super) fn check(out: &mut Findings, at: At<'_>, name: &str, gateway: &Gateway) {
    // References contain the name: `<namespace>/<name>`, `<name>.<namespace>`.
    if !is_dns_label(name) {
        out.error(At::Root("metadata.name"), format!("{name:?} is not a single DNS label"));
    }
    let at = at.of("servers");
    if gateway.servers.is_empty() {
        out.error(at, "needs at least one server");
    }
    let mut names = HashSet::new();
    for (index, server) in gateway.servers.iter().enumerate() {
        let at = at.nth(index);
        check_server(out, at, server);
        if let Some(port) = &server.port
            && !names.insert(&port.name)
        {
            out.error(at.of("port").of("name"), format!("{:?} is taken by a server before", port.name));
        }
    }
}

fn check_server(out: &mut Findings, at: At<'_>, server: &Server) {
    if server.hosts.is_empty() {
        out.error(at.of("hosts"), "needs at least one host");
    }
    for (index, host) in server.hosts.iter().enumerate() {
        check_host(out, at.of("hosts").nth(index), host);
    }
    bind(out, at.of("bind"), server);
    match &server.port {
        None => out.error(at.of("port"), "is missing"),
        Some(port) => {
            check_port(out, at.of("port"), port, &server.bind);
            if is_protocol(&port.protocol) {
                tls_fits(out, at.of("tls"), port, server.tls.as_ref());
            }
        }
    }
    if let Some(tls) = &server.tls {
        server_tls::check(out, at.of("tls"), tls);
    }
}

/// Checks `[<namespace>/]<host>`.
fn check_host(out: &mut Findings, at: At<'_>, text: &str) {
    let host = match text.split_once('/') {
        None => text,
        Some((namespace, host)) => {
            if !["*", "."].contains(&namespace) && !is_dns_label(namespace) {
                out.error(at, format!("{namespace:?} is neither \"*\", \".\" nor a namespace"));
            }
            host
        }
    };
    if host != "*" && !host.contains('.') && !is_ip(host) {
        out.error(
            at,
            format!("{host:?} is a short name, and gateways are of no namespace that would complete it"),
        );
    } else if is_partial_wildcard(host) {
        out.error(at, format!("{host:?} has a wildcard that is no whole label"));
    } else if !is_wildcard_host(host) && !is_ip(host) {
        out.error(at, format!("{host:?} is no host name"));
    }
}

fn bind(out: &mut Findings, at: At<'_>, server: &Server) {
    match server.bind.strip_prefix(UNIX) {
        Some(path) => {
            out.unix_path(at, path);
            if server.port.as_ref().is_some_and(|port| port.number != 0) {
                out.error(at, "a Unix socket has no port: 0");
            }
        }
        None if server.bind.is_empty() => {}
        None => out.ip(at, &server.bind),
    }
}

fn check_port(out: &mut Findings, at: At<'_>, port: &Port, bind: &str) {
    out.present(at.of("protocol"), &port.protocol);
    out.served_protocol(at.of("protocol"), &port.protocol);
    if port.number != 0 || !bind.starts_with(UNIX) {
        out.port(at.of("number"), port.number);
    }
    if port.target_port != 0 {
        out.error(at.of("targetPort"), "gateways have no target port");
    }
    out.present(at.of("name"), &port.name);
}

/// Checks that ports with TLS have settings; others may only redirect to HTTPS.
fn tls_fits(out: &mut Findings, at: At<'_>, port: &Port, tls: Option<&ServerTls>) {
    let Some(tls) = tls else {
        if is_tls(&port.protocol) {
            out.error(at, format!("is missing: protocol {} needs it", port.protocol));
        }
        return;
    };
    if tls.https_redirect && !is_http(&port.protocol) {
        out.warning(at.of("httpsRedirect"), format!("protocol {} has no redirects", port.protocol));
    }
    if is_tls(&port.protocol) {
        return;
    }
    let passes = matches!(tls.mode, ServerTlsMode::Passthrough | ServerTlsMode::AutoPassthrough);
    let is_bare =
        [&tls.server_certificate, &tls.private_key, &tls.ca_certificates].into_iter().all(String::is_empty);
    if !(is_http(&port.protocol) && passes && is_bare) {
        out.error(at, format!("protocol {} is without TLS", port.protocol));
    }
}

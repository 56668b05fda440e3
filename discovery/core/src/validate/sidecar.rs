//! Validation of `Sidecar`.

use std::collections::{BTreeMap, BTreeSet, HashSet};

use super::destination_rule::pool;
use super::findings::{At, Findings};
use super::server_tls;
use super::values::{UNIX, is_dns_label, is_http, is_partial_wildcard, is_tls, is_wildcard_host};
use crate::api::Sidecar;
use crate::api::gateway::{ServerTls, ServerTlsMode};
use crate::api::sidecar::{
    CaptureMode, EgressListener, IngressListener, OutboundTrafficMode, OutboundTrafficPolicy, SidecarPort,
};

pub(super) fn check(out: &mut Findings, at: At<'_>, namespace: &str, sidecar: &Sidecar) {
    out.workload_selector(at.of("workloadSelector"), sidecar.workload_selector.as_ref());
    let says_something = !sidecar.ingress.is_empty()
        || !sidecar.egress.is_empty()
        || sidecar.outbound_traffic_policy.is_some()
        || sidecar.inbound_connection_pool.is_some();
    if !says_something {
        out.error(at, "says nothing");
    }
    let mut ports = HashSet::new();
    for (index, listener) in sidecar.ingress.iter().enumerate() {
        let list = at.of("ingress");
        let at = list.nth(index);
        match &listener.port {
            None => out.error(at.of("port"), "is missing"),
            Some(port) => {
                ingress(out, at, listener, port);
                if !ports.insert(port.number) {
                    out.error(at.of("port").of("number"), format!("{} is taken before", port.number));
                }
            }
        }
    }
    if let Some(limits) = &sidecar.inbound_connection_pool {
        pool::check(out, at.of("inboundConnectionPool"), limits);
    }
    egress(out, at.of("egress"), namespace, &sidecar.egress);
    if let Some(policy) = &sidecar.outbound_traffic_policy {
        outbound_traffic(out, at.of("outboundTrafficPolicy"), policy);
    }
}

fn ingress(out: &mut Findings, at: At<'_>, listener: &IngressListener, port: &SidecarPort) {
    check_port(out, at.of("port"), port);
    out.served_protocol(at.of("port").of("protocol"), &port.protocol);
    out.port(at.of("port").of("number"), port.number);
    if !listener.bind.is_empty() {
        out.ip(at.of("bind"), &listener.bind);
    }
    default_endpoint(out, at.of("defaultEndpoint"), &listener.default_endpoint);
    if let Some(tls) = &listener.tls {
        ingress_tls(out, at.of("tls"), tls, port);
    }
    if let Some(limits) = &listener.connection_pool {
        pool::check(out, at.of("connectionPool"), limits);
        if limits.http.is_some() && !is_http(&port.protocol) {
            let message = format!("has no effect: protocol {:?} is not HTTP", port.protocol);
            out.warning(at.of("connectionPool").of("http"), message);
        }
    }
}

fn check_port(out: &mut Findings, at: At<'_>, port: &SidecarPort) {
    if !port.name.is_empty() {
        out.label(at.of("name"), &port.name);
    }
    if port.target_port != 0 {
        out.error(at.of("targetPort"), "sidecars have no target port");
    }
}

/// Checks `127.0.0.1:<port>`, `0.0.0.0:<port>`, `[::1]:<port>`, `[::]:<port>`, `:<port>`, `unix://<path>`.
fn default_endpoint(out: &mut Findings, at: At<'_>, endpoint: &str) {
    if endpoint.is_empty() {
        return;
    }
    if let Some(path) = endpoint.strip_prefix(UNIX) {
        return out.unix_path(at, path);
    }
    match endpoint.rsplit_once(':') {
        Some(("" | "127.0.0.1" | "0.0.0.0" | "[::1]" | "[::]", port)) => match port.parse() {
            Ok(port) => out.port(at, port),
            Err(_) => out.error(at, format!("{port:?} is no port")),
        },
        _ => out.error(
            at,
            format!("{endpoint:?} is neither 127.0.0.1:<port>, 0.0.0.0:<port>, [::1]:<port>, [::]:<port> nor unix://<path>"),
        ),
    }
}

fn ingress_tls(out: &mut Findings, at: At<'_>, tls: &ServerTls, port: &SidecarPort) {
    for (field, is_set) in [
        ("subjectAltNames", !tls.subject_alt_names.is_empty()),
        ("httpsRedirect", tls.https_redirect),
        ("credentialName", !tls.credential_name.is_empty()),
        ("credentialNames", !tls.credential_names.is_empty()),
        ("tlsCertificates", !tls.tls_certificates.is_empty()),
    ] {
        if is_set {
            out.error(at.of(field), "is for gateways alone");
        }
    }
    if matches!(tls.mode, ServerTlsMode::IstioMutual | ServerTlsMode::AutoPassthrough) {
        out.error(at.of("mode"), "ISTIO_MUTUAL and AUTO_PASSTHROUGH are for gateways alone");
    }
    if !is_tls(&port.protocol) {
        out.error(at, format!("protocol {:?} is without TLS", port.protocol));
    }
    server_tls::check(out, at, tls);
}

fn egress(out: &mut Findings, at: At<'_>, namespace: &str, listeners: &[EgressListener]) {
    let (mut ports, mut sockets) = (HashSet::new(), HashSet::new());
    for (index, listener) in listeners.iter().enumerate() {
        let at = at.nth(index);
        match &listener.port {
            None if index + 1 < listeners.len() => {
                out.error(at.of("port"), "is missing: only the last listener may be for all ports");
            }
            None => {}
            Some(port) => {
                egress_port(out, at, listener, port);
                let is_new =
                    if port.number == 0 { sockets.insert(&listener.bind) } else { ports.insert(port.number) };
                if !is_new {
                    out.error(at.of("port"), "is taken by a listener before");
                }
            }
        }
        if listener.hosts.is_empty() {
            out.error(at.of("hosts"), "needs at least one host");
        }
        hosts(out, at.of("hosts"), namespace, &listener.hosts);
    }
}

fn egress_port(out: &mut Findings, at: At<'_>, listener: &EgressListener, port: &SidecarPort) {
    check_port(out, at.of("port"), port);
    out.protocol(at.of("port").of("protocol"), &port.protocol);
    if port.number != 0 {
        out.port(at.of("port").of("number"), port.number);
        if !listener.bind.is_empty() {
            out.ip(at.of("bind"), &listener.bind);
        }
        return;
    }
    match listener.bind.strip_prefix(UNIX) {
        Some(path) => out.unix_path(at.of("bind"), path),
        None => out.error(at.of("bind"), "port 0 is for Unix sockets, unix://<path>"),
    }
    if listener.capture_mode == CaptureMode::Iptables {
        out.error(at.of("captureMode"), "nothing is redirected to a Unix socket");
    }
}

/// Checks `<namespace>/<host>`; the namespace may be `*`, `.`, `~`, or one that `~` excludes.
fn hosts(out: &mut Findings, at: At<'_>, namespace: &str, hosts: &[String]) {
    let mut seen: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for (index, text) in hosts.iter().enumerate() {
        let at = at.nth(index);
        let Some((place, host)) = text.split_once('/') else {
            out.error(at, format!("{text:?} is not of the form <namespace>/<host>"));
            continue;
        };
        let named = place.strip_prefix('~').unwrap_or(place);
        let is_place =
            if named.is_empty() { place == "~" } else { ["*", "."].contains(&named) || is_dns_label(named) };
        if !is_place {
            out.error(at, format!("{place:?} is neither \"*\", \".\", \"~\" nor a namespace"));
        }
        check_host(out, at, host);
        if place.starts_with('~') {
            continue;
        }
        let known = seen.entry(if place == "." { namespace } else { place }).or_default();
        let is_covered = known.contains(host) || known.contains("*") || (host == "*" && !known.is_empty());
        if is_covered {
            out.warning(at, "is there before");
        }
        known.insert(host);
    }
    if seen.len() > 1 && seen.get("*").is_some_and(|hosts| hosts.contains("*")) {
        out.warning(at, "\"*/*\" is everything: others add nothing");
    }
}

fn check_host(out: &mut Findings, at: At<'_>, host: &str) {
    if host != "*" && !host.contains('.') {
        out.error(at, format!("{host:?} is a short name: a whole one is needed"));
    } else if is_partial_wildcard(host) {
        out.error(at, format!("{host:?} has a wildcard that is no whole label"));
    } else if !is_wildcard_host(host) {
        out.error(at, format!("{host:?} is no host name"));
    }
}

fn outbound_traffic(out: &mut Findings, at: At<'_>, policy: &OutboundTrafficPolicy) {
    let Some(proxy) = &policy.egress_proxy else { return };
    let at_proxy = at.of("egressProxy");
    if policy.mode != OutboundTrafficMode::AllowAny {
        out.error(at_proxy, "is for mode ALLOW_ANY alone");
        return;
    }
    out.host(at_proxy.of("host"), &proxy.host);
    if proxy.port.is_none() {
        out.error(at_proxy.of("port"), "is missing");
    } else {
        out.destination(at_proxy, proxy);
    }
}

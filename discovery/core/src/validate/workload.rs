//! Validation of `WorkloadEntry`, as an object and as an endpoint of a `ServiceEntry`, and of `WorkloadGroup`.

use super::findings::{At, Findings};
use super::values::{UNIX, is_host, is_ip};
use crate::api::service_entry::ServiceEntryPort;
use crate::api::workload::{HttpProbe, ReadinessProbe};
use crate::api::{WorkloadEntry, WorkloadGroup};

/// Place of a `WorkloadEntry`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Place<'a> {
    /// An object.
    Alone,
    /// An endpoint of a `ServiceEntry` with these ports.
    Inside(&'a [ServiceEntryPort]),
    /// The template of a group, without an address.
    Template,
}

/// Checks a `WorkloadEntry`.
pub(super) fn entry(out: &mut Findings, at: At<'_>, entry: &WorkloadEntry, place: Place<'_>) {
    address(out, at, entry, place);
    for (name, number) in &entry.ports {
        let (ports, name) = (at.of("ports"), name.as_str());
        let at = ports.of(name);
        out.label(at, name);
        out.port(at, *number);
        if let Place::Inside(ports) = place
            && !ports.iter().any(|port| port.name == name)
        {
            out.error(at, "is no port of this ServiceEntry");
        }
    }
    out.labels(at.of("labels"), &entry.labels);
}

fn address(out: &mut Findings, at: At<'_>, entry: &WorkloadEntry, place: Place<'_>) {
    let field = at.of("address");
    if let Some(path) = entry.address.strip_prefix(UNIX) {
        out.unix_path(field, path);
        if !entry.ports.is_empty() {
            out.error(at.of("ports"), "a Unix socket has none");
        }
        if let Place::Inside(ports) = place
            && ports.len() != 1
        {
            out.error(field, "a Unix socket serves exactly one port");
        }
    } else if !entry.address.is_empty() {
        if !is_ip(&entry.address) && !is_host(&entry.address) {
            out.error(field, format!("{:?} is neither an IP address nor a host name", entry.address));
        }
    } else if !matches!(place, Place::Template) {
        if entry.network.is_empty() {
            out.error(field, "is missing");
        } else {
            out.warning(field, format!("is missing: reached through the gateway of {:?}", entry.network));
        }
    }
}

/// Checks a `WorkloadGroup`.
pub(super) fn group(out: &mut Findings, at: At<'_>, group: &WorkloadGroup) {
    match &group.template {
        None => out.error(at.of("template"), "is missing"),
        Some(template) => entry(out, at.of("template"), template, Place::Template),
    }
    out.labels(at.of("metadata").of("labels"), &group.metadata.labels);
    if let Some(readiness) = &group.probe {
        probe(out, at.of("probe"), readiness);
    }
}

fn probe(out: &mut Findings, at: At<'_>, probe: &ReadinessProbe) {
    for (name, number) in [
        ("initialDelaySeconds", probe.initial_delay_seconds),
        ("timeoutSeconds", probe.timeout_seconds),
        ("periodSeconds", probe.period_seconds),
        ("successThreshold", probe.success_threshold),
        ("failureThreshold", probe.failure_threshold),
    ] {
        out.not_negative(at.of(name), number);
    }
    let ways = [
        ("httpGet", probe.http_get.is_some()),
        ("tcpSocket", probe.tcp_socket.is_some()),
        ("exec", probe.exec.is_some()),
        ("grpc", probe.grpc.is_some()),
    ];
    out.exactly_one(at, &ways);
    if let Some(http) = &probe.http_get {
        http_probe(out, at.of("httpGet"), http);
    }
    if let Some(tcp) = &probe.tcp_socket {
        out.port(at.of("tcpSocket").of("port"), tcp.port);
    }
    if let Some(exec) = &probe.exec {
        let at = at.of("exec");
        if exec.command.is_empty() {
            out.error(at.of("command"), "is missing");
        }
        for (index, word) in exec.command.iter().enumerate() {
            out.present(at.of("command").nth(index), word);
        }
    }
    if let Some(grpc) = &probe.grpc
        && grpc.port != 0
    {
        out.port(at.of("grpc").of("port"), grpc.port);
    }
}

fn http_probe(out: &mut Findings, at: At<'_>, probe: &HttpProbe) {
    out.port(at.of("port"), probe.port);
    if !["", "HTTP", "HTTPS"].contains(&probe.scheme.as_str()) {
        out.error(at.of("scheme"), format!("{:?} is neither HTTP nor HTTPS", probe.scheme));
    }
    for (index, header) in probe.http_headers.iter().enumerate() {
        let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if header.name.is_empty() || !header.name.bytes().all(is_name) {
            let message = format!("{:?} is no name of a header", header.name);
            out.error(at.of("httpHeaders").nth(index).of("name"), message);
        }
    }
}

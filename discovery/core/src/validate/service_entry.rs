//! Validation of `ServiceEntry`.

use std::collections::HashSet;

use super::findings::{At, Findings};
use super::sharing::Exporter;
use super::values::{is_host, is_http, is_ip, is_partial_wildcard, is_tls};
use super::workload::{self, Place};
use crate::api::ServiceEntry;
use crate::api::service_entry::ServiceEntryResolution as Resolution;
use crate::model::Vip;

/// Maximum number of hosts, addresses and ports; of endpoints.
const MOST: usize = 256;
const MOST_ENDPOINTS: usize = 4096;

pub(super) fn check(out: &mut Findings, at: At<'_>, namespace: &str, entry: &ServiceEntry) {
    out.workload_selector(at.of("workloadSelector"), entry.workload_selector.as_ref());
    hosts(out, at.of("hosts"), entry);
    addresses(out, at.of("addresses"), entry);
    ports(out, at.of("ports"), entry);
    resolution(out, at, entry);
    if !entry.endpoints.is_empty() && entry.workload_selector.is_some() {
        out.error(at.of("workloadSelector"), "excludes endpoints");
    }
    endpoints(out, at.of("endpoints"), entry);
    out.export_to(at.of("exportTo"), namespace, &entry.export_to, Exporter::Service);
}

fn hosts(out: &mut Findings, at: At<'_>, entry: &ServiceEntry) {
    if entry.hosts.is_empty() {
        out.error(at, "needs at least one host");
    }
    out.at_most(at, entry.hosts.len(), MOST);
    for (index, host) in entry.hosts.iter().enumerate() {
        let at = at.nth(index);
        if host == "*" {
            out.error(at, "\"*\" is no host name: a service has a name of its own");
            continue;
        }
        out.wildcard_host(at, host);
        if is_partial_wildcard(host) {
            out.warning(at, "wildcards should be whole labels");
        }
    }
}

fn addresses(out: &mut Findings, at: At<'_>, entry: &ServiceEntry) {
    out.at_most(at, entry.addresses.len(), MOST);
    let takes_networks = matches!(entry.resolution, Resolution::None | Resolution::Static);
    for (index, address) in entry.addresses.iter().enumerate() {
        out.network(at.nth(index), address);
        if address.contains('/') && !takes_networks && Vip::parse(address).is_some() {
            out.error(at.nth(index), "networks are for the resolutions NONE and STATIC");
        }
    }
}

fn ports(out: &mut Findings, at: At<'_>, entry: &ServiceEntry) {
    out.at_most(at, entry.ports.len(), MOST);
    let (mut names, mut numbers) = (HashSet::new(), HashSet::new());
    for (index, port) in entry.ports.iter().enumerate() {
        let at = at.nth(index);
        out.port(at.of("number"), port.number);
        if port.target_port != 0 {
            out.port(at.of("targetPort"), port.target_port);
        }
        out.label(at.of("name"), &port.name);
        if !names.insert(&port.name) {
            out.error(at.of("name"), format!("{:?} is taken by a port before", port.name));
        }
        if !numbers.insert(port.number) {
            out.error(at.of("number"), format!("{} is taken by a port before", port.number));
        }
        out.served_protocol(at.of("protocol"), &port.protocol);
        // Several hosts of one port are distinguished by HTTP or TLS only.
        let told_apart = is_http(&port.protocol) || is_tls(&port.protocol);
        if entry.hosts.len() > 1 && entry.resolution != Resolution::None && !told_apart {
            out.error(at.of("protocol"), "several hosts need HTTP or TLS to be told apart");
        }
    }
}

fn resolution(out: &mut Findings, at: At<'_>, entry: &ServiceEntry) {
    match entry.resolution {
        Resolution::None => {
            if !entry.endpoints.is_empty() {
                out.error(at.of("endpoints"), "resolution NONE takes no endpoints");
            }
            if entry.workload_selector.is_some() {
                out.warning(at.of("workloadSelector"), "resolution NONE selects nothing");
            }
        }
        Resolution::Static => {}
        Resolution::DynamicDns => dynamic(out, at, entry),
        Resolution::Dns | Resolution::DnsRoundRobin => {
            if entry.resolution == Resolution::DnsRoundRobin && entry.endpoints.len() > 1 {
                out.error(at.of("endpoints"), "resolution DNS_ROUND_ROBIN takes one endpoint at most");
            }
            if entry.endpoints.is_empty()
                && let Some(index) = entry.hosts.iter().position(|host| !is_host(host))
            {
                let message = "DNS cannot resolve this; give it endpoints or another resolution";
                out.error(at.of("hosts").nth(index), message);
            }
        }
    }
}

/// Checks an entry with dynamic DNS, which has no endpoints.
fn dynamic(out: &mut Findings, at: At<'_>, entry: &ServiceEntry) {
    for (index, host) in entry.hosts.iter().enumerate() {
        if !host.starts_with('*') {
            out.error(at.of("hosts").nth(index), "resolution DYNAMIC_DNS is for wildcards");
        }
    }
    if !entry.addresses.is_empty() {
        out.error(at.of("addresses"), "resolution DYNAMIC_DNS takes no addresses");
    }
    if !entry.endpoints.is_empty() {
        out.error(at.of("endpoints"), "resolution DYNAMIC_DNS takes no endpoints");
    }
    for (index, port) in entry.ports.iter().enumerate() {
        let named =
            ["HTTP", "HTTP2", "GRPC", "TLS"].iter().any(|name| port.protocol.eq_ignore_ascii_case(name));
        if !named {
            out.error(
                at.of("ports").nth(index).of("protocol"),
                "resolution DYNAMIC_DNS needs HTTP, HTTP2, GRPC or TLS",
            );
        }
    }
}

fn endpoints(out: &mut Findings, at: At<'_>, entry: &ServiceEntry) {
    out.at_most(at, entry.endpoints.len(), MOST_ENDPOINTS);
    for (index, endpoint) in entry.endpoints.iter().enumerate() {
        let at = at.nth(index);
        let is_fixed = endpoint.address.is_empty()
            || endpoint.address.starts_with("unix://")
            || is_ip(&endpoint.address);
        if entry.resolution == Resolution::Static && !is_fixed {
            let message = format!("{:?} is no IP address, as resolution STATIC needs", endpoint.address);
            out.error(at.of("address"), message);
        } else {
            workload::entry(out, at, endpoint, Place::Inside(&entry.ports));
        }
    }
}

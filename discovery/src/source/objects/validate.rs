//! Validation of Kubernetes objects after decoding.
//!
//! Rejects only values that generators cannot use or that would silently mean something else. The API server's admission is
//! stricter in places.
//! <https://istio.io/latest/docs/reference/config/analysis/>

use std::collections::HashSet;
use std::net::IpAddr;

use pilot_core::validate::Finding;

use super::endpoints::{AddressType, EndpointSlice};
use super::object::{Object, ObjectKey};
use super::service::{Service, ServiceType};

/// Validates namespace and name.
pub(super) fn name(key: &ObjectKey) -> Result<(), Finding> {
    if !key.name.namespace.is_empty() {
        label("metadata.namespace", &key.name.namespace)?;
    }
    subdomain("metadata.name", &key.name.name)
}

/// Returns the first problem of an object.
pub(super) fn object(object: &Object) -> Result<(), Finding> {
    name(&object.key())?;
    match object {
        Object::Service(object) => service(object),
        Object::EndpointSlice(slice) => endpoint_slice(slice),
        // The types suffice; `pilot-core` validates configuration.
        Object::Config(_)
        | Object::Namespace(_)
        | Object::Node(_)
        | Object::Pod(_)
        | Object::Endpoints(_) => Ok(()),
    }
}

fn service(service: &Service) -> Result<(), Finding> {
    // The name becomes the first label of a host name.
    label("metadata.name", &service.metadata.name)?;
    let spec = &service.spec;
    if spec.kind == ServiceType::ExternalName {
        return host("spec.externalName", &spec.external_name);
    }
    let mut names = HashSet::new();
    let mut numbers = HashSet::new();
    for (index, port) in spec.ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        if port.name.is_empty() && spec.ports.len() > 1 {
            return wrong(format!("{field}.name"), "is needed when there is more than one port");
        }
        if !names.insert(&port.name) {
            return wrong(format!("{field}.name"), format!("{:?} is taken by a port before", port.name));
        }
        if !numbers.insert((port.port, port.protocol)) {
            return wrong(format!("{field}.port"), format!("{} is taken by a port before", port.port));
        }
    }
    let listed = spec.cluster_ips.iter().enumerate();
    let listed = listed.map(|(index, ip)| (format!("spec.clusterIPs[{index}]"), ip));
    for (field, ip) in std::iter::once(("spec.clusterIP".to_owned(), &spec.cluster_ip)).chain(listed) {
        if !ip.is_empty() && ip != "None" && ip.parse::<IpAddr>().is_err() {
            return wrong(field, format!("{ip:?} is neither an IP address nor \"None\""));
        }
    }
    Ok(())
}

fn endpoint_slice(slice: &EndpointSlice) -> Result<(), Finding> {
    for (index, endpoint) in slice.endpoints.iter().enumerate() {
        if endpoint.addresses.is_empty() {
            return wrong(format!("endpoints[{index}].addresses"), "has no address");
        }
        for (nth, address) in endpoint.addresses.iter().enumerate() {
            let ip = address.parse::<IpAddr>().ok();
            let problem = match (slice.address_type, ip) {
                (AddressType::IPv4, Some(ip)) if ip.is_ipv4() => continue,
                (AddressType::IPv6, Some(ip)) if ip.is_ipv6() => continue,
                (AddressType::Fqdn, _) => continue,
                (AddressType::IPv4, _) => "is no IPv4 address",
                (AddressType::IPv6, _) => "is no IPv6 address",
            };
            let field = format!("endpoints[{index}].addresses[{nth}]");
            return wrong(field, format!("{address:?} {problem}"));
        }
    }
    let mut names = HashSet::new();
    for (index, port) in slice.ports.iter().enumerate() {
        if !names.insert(&port.name) {
            return wrong(
                format!("ports[{index}].name"),
                format!("{:?} is taken by a port before", port.name),
            );
        }
    }
    Ok(())
}

/// Validates a host name. The characters that it rejects have a meaning in cluster names, SNI or routes.
fn host(field: &str, name: &str) -> Result<(), Finding> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|part| {
            (1..=63).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        });
    if fits { Ok(()) } else { wrong(field, format!("{name:?} is no host name")) }
}

/// Validates an RFC 1123 label, which Kubernetes requires of names that become part of a host name.
fn label(field: &str, name: &str) -> Result<(), Finding> {
    if name.len() > 63 || name.contains('.') {
        return wrong(field, format!("{name:?} is not a single DNS label"));
    }
    subdomain(field, name)
}

/// Validates an RFC 1123 subdomain, which Kubernetes requires of other names.
fn subdomain(field: &str, name: &str) -> Result<(), Finding> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = name.len() <= 253
        && name.split('.').all(|part| {
            !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
        });
    if fits { Ok(()) } else { wrong(field, format!("{name:?} is no DNS name in lower case")) }
}

fn wrong(field: impl Into<String>, message: impl Into<String>) -> Result<(), Finding> {
    Err(Finding::error(field, message))
}

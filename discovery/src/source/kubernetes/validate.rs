//! What makes an object unusable though every field has the right type.
//!
//! Only what the generators could not live with or what would silently mean something else: the API server's own
//! admission is stricter in places, and an object that it let through is not refused here without need.
//! <https://istio.io/latest/docs/reference/config/analysis/>

use std::collections::{BTreeMap, HashSet};
use std::net::IpAddr;

use pilot_core::api::service_entry::{ServiceEntryPort, ServiceEntryResolution};
use pilot_core::api::{ServiceEntry, WorkloadEntry};
use pilot_core::model::{ConfigObject, ConfigSpec, Protocol, Vip};

use super::objects::{AddressType, EndpointSlice, Object, Service, ServiceType};

/// The field and what is wrong with it.
pub(super) type Wrong = (String, String);

/// The first thing wrong with the object.
pub(super) fn object(object: &Object) -> Result<(), Wrong> {
    let key = object.key();
    if !key.name.namespace.is_empty() {
        label("metadata.namespace", &key.name.namespace)?;
    }
    subdomain("metadata.name", &key.name.name)?;
    match object {
        Object::Service(object) => service(object),
        Object::EndpointSlice(slice) => endpoint_slice(slice),
        Object::Config(ConfigObject { spec: ConfigSpec::ServiceEntry(entry), .. }) => service_entry(entry),
        Object::Config(ConfigObject { spec: ConfigSpec::WorkloadEntry(entry), .. }) => {
            workload_entry("spec", entry, None)
        }
        // Not decoded yet.
        Object::Config(_) => Ok(()),
        // Nothing but types to check.
        Object::Namespace(_) | Object::Node(_) | Object::Pod(_) | Object::Endpoints(_) => Ok(()),
    }
}

fn service(service: &Service) -> Result<(), Wrong> {
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

fn endpoint_slice(slice: &EndpointSlice) -> Result<(), Wrong> {
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

fn service_entry(entry: &ServiceEntry) -> Result<(), Wrong> {
    use ServiceEntryResolution::{Dns, DnsRoundRobin, None as NoResolution, Static};
    if entry.hosts.is_empty() {
        return wrong("spec.hosts", "needs at least one host");
    }
    for (index, name) in entry.hosts.iter().enumerate() {
        let field = format!("spec.hosts[{index}]");
        match name.strip_prefix("*.") {
            None => host(&field, name)?,
            Some(parent) => host(&field, parent)?,
        }
    }
    for (index, address) in entry.addresses.iter().enumerate() {
        let field = format!("spec.addresses[{index}]");
        let Some(vip) = Vip::parse(address) else {
            return wrong(field, format!("{address:?} is neither an IP address nor a network"));
        };
        if !vip.is_host() && matches!(entry.resolution, Dns | DnsRoundRobin) {
            return wrong(field, "networks are for the resolutions NONE and STATIC");
        }
    }
    service_entry_ports(entry)?;
    match entry.resolution {
        NoResolution if !entry.endpoints.is_empty() => {
            return wrong("spec.endpoints", "resolution NONE takes no endpoints");
        }
        DnsRoundRobin if entry.endpoints.len() > 1 => {
            return wrong("spec.endpoints", "resolution DNS_ROUND_ROBIN takes one endpoint at most");
        }
        Dns | DnsRoundRobin if entry.endpoints.is_empty() => {
            if let Some(index) = entry.hosts.iter().position(|host| host.starts_with('*')) {
                let message = "DNS cannot resolve a wildcard; give it endpoints or another resolution";
                return wrong(format!("spec.hosts[{index}]"), message);
            }
        }
        _ => {}
    }
    if !entry.endpoints.is_empty() && entry.workload_selector.is_some() {
        return wrong("spec.workloadSelector", "excludes endpoints");
    }
    for (index, endpoint) in entry.endpoints.iter().enumerate() {
        let field = format!("spec.endpoints[{index}]");
        if entry.resolution == Static
            && !endpoint.address.starts_with(UNIX)
            && endpoint.address.parse::<IpAddr>().is_err()
        {
            let message = format!("{:?} is no IP address, as resolution STATIC needs", endpoint.address);
            return wrong(format!("{field}.address"), message);
        }
        workload_entry(&field, endpoint, Some(&entry.ports))?;
    }
    Ok(())
}

fn service_entry_ports(entry: &ServiceEntry) -> Result<(), Wrong> {
    let mut names = HashSet::new();
    let mut numbers = HashSet::new();
    for (index, port) in entry.ports.iter().enumerate() {
        let field = format!("spec.ports[{index}]");
        port_number(&format!("{field}.number"), port.number)?;
        if port.target_port != 0 {
            port_number(&format!("{field}.targetPort"), port.target_port)?;
        }
        if port.name.is_empty() {
            return wrong(format!("{field}.name"), "is missing");
        }
        if !names.insert(&port.name) {
            return wrong(format!("{field}.name"), format!("{:?} is taken by a port before", port.name));
        }
        if !numbers.insert(port.number) {
            return wrong(format!("{field}.number"), format!("{} is taken by a port before", port.number));
        }
        if !port.protocol.is_empty() && Protocol::parse(&port.protocol) == Protocol::Auto {
            return wrong(format!("{field}.protocol"), format!("{:?} is no protocol", port.protocol));
        }
        // Several hosts behind one port can only be told apart by what HTTP and TLS say of them.
        let told_apart = |protocol| {
            use Protocol::{Grpc, GrpcWeb, Http, Http2, Https, Tls};
            matches!(protocol, Http | Http2 | Grpc | GrpcWeb | Https | Tls)
        };
        if entry.hosts.len() > 1
            && entry.resolution != ServiceEntryResolution::None
            && !told_apart(Protocol::parse(&port.protocol))
        {
            return wrong(format!("{field}.protocol"), "several hosts need HTTP or TLS to be told apart");
        }
    }
    Ok(())
}

const UNIX: &str = "unix://";

/// `ports`: those of the `ServiceEntry` it is written in.
fn workload_entry(
    field: &str,
    entry: &WorkloadEntry,
    ports: Option<&[ServiceEntryPort]>,
) -> Result<(), Wrong> {
    let address_field = format!("{field}.address");
    match entry.address.strip_prefix(UNIX) {
        Some(path) => {
            // `@` begins a name in Linux's abstract namespace.
            if !path.starts_with(['/', '@']) {
                return wrong(address_field, format!("{path:?} is no absolute path"));
            }
            if !entry.ports.is_empty() {
                return wrong(format!("{field}.ports"), "a Unix socket has none");
            }
            if ports.is_some_and(|ports| ports.len() != 1) {
                return wrong(address_field, "a Unix socket serves exactly one port");
            }
        }
        None if entry.address.is_empty() => {
            // Reached through the gateway of its network.
            if entry.network.is_empty() {
                return wrong(address_field, "is missing");
            }
        }
        None => {
            if entry.address.parse::<IpAddr>().is_err() {
                host(&address_field, &entry.address)?;
            }
        }
    }
    for (name, number) in &entry.ports {
        let field = format!("{field}.ports.{name}");
        port_number(&field, *number)?;
        if ports.is_some_and(|ports| !ports.iter().any(|port| port.name == *name)) {
            return wrong(field, "is no port of this ServiceEntry");
        }
    }
    labels(&format!("{field}.labels"), &entry.labels)
}

fn labels(field: &str, labels: &BTreeMap<String, String>) -> Result<(), Wrong> {
    match labels.iter().find(|(key, value)| key.is_empty() || value.len() > 63) {
        None => Ok(()),
        Some((key, value)) => wrong(format!("{field}.{key}"), format!("{value:?} is no label")),
    }
}

fn port_number(field: &str, number: u32) -> Result<(), Wrong> {
    match number {
        1..=65535 => Ok(()),
        _ => wrong(field, format!("{number} is no port: 1 to 65535")),
    }
}

/// A host name with dots; the characters that are not allowed in one are those that cluster names, SNI and
/// routes give a meaning to.
fn host(field: &str, name: &str) -> Result<(), Wrong> {
    let name = name.strip_suffix('.').unwrap_or(name);
    let fits = !name.is_empty()
        && name.len() <= 253
        && name.split('.').all(|part| {
            (1..=63).contains(&part.len())
                && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
        });
    if fits { Ok(()) } else { wrong(field, format!("{name:?} is no host name")) }
}

/// RFC 1123 label, as Kubernetes wants names that become part of a host name.
fn label(field: &str, name: &str) -> Result<(), Wrong> {
    if name.len() > 63 || name.contains('.') {
        return wrong(field, format!("{name:?} is not a single DNS label"));
    }
    subdomain(field, name)
}

/// RFC 1123 subdomain, as Kubernetes wants every other name.
fn subdomain(field: &str, name: &str) -> Result<(), Wrong> {
    let inner = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let fits = name.len() <= 253
        && name.split('.').all(|part| {
            !part.is_empty() && part.bytes().all(inner) && !part.starts_with('-') && !part.ends_with('-')
        });
    if fits { Ok(()) } else { wrong(field, format!("{name:?} is no DNS name in lower case")) }
}

fn wrong(field: impl Into<String>, message: impl Into<String>) -> Result<(), Wrong> {
    Err((field.into(), message.into()))
}

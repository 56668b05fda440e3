//! Translates Kubernetes services.

use pilot_core::model::{
    Distribution, ExportTo, Hostname, Location, Protocol, Registry, Resolution, Service, ServicePort,
    TargetPort, Vip,
};

use super::identity;
use crate::source::kubernetes::options::RegistryOptions;
use crate::source::objects::{
    self, IntOrString, InternalTrafficPolicy, Metadata, NamespacedName, ServiceType, Transport,
};

const EXPORT_TO: &str = "networking.istio.io/exportTo";
const CANONICAL_ACCOUNTS: &str = "alpha.istio.io/canonical-serviceaccounts";
const KUBERNETES_ACCOUNTS: &str = "alpha.istio.io/kubernetes-serviceaccounts";

/// Returns the fully qualified host name of a service.
pub(in crate::source::kubernetes) fn hostname(name: &NamespacedName, options: &RegistryOptions) -> Hostname {
    format!("{}.{}.svc.{}", name.name, name.namespace, options.domain_suffix).into()
}

/// Translates a service. `distribution` is the annotation of its namespace, for a service without one.
pub(in crate::source::kubernetes) fn service(
    service: &objects::Service,
    distribution: Option<&str>,
    options: &RegistryOptions,
) -> Service {
    let (metadata, spec) = (&service.metadata, &service.spec);
    let (resolution, location) = match spec.kind {
        ServiceType::ExternalName => {
            let target = spec.external_name.trim_end_matches('.').to_ascii_lowercase();
            (Resolution::Alias(target.into()), Location::MeshExternal)
        }
        _ if spec.cluster_ip == "None" => (Resolution::Passthrough, Location::MeshInternal),
        _ => (Resolution::ClientSideLb, Location::MeshInternal),
    };
    Service {
        hostname: hostname(&metadata.id(), options),
        namespace: (*metadata.namespace).into(),
        name: metadata.name.clone(),
        registry: Registry::Kubernetes,
        ports: spec.ports.iter().map(service_port).collect(),
        addresses: addresses(spec),
        resolution,
        location,
        export_to: annotated(metadata, EXPORT_TO).map(ExportTo::parse).collect(),
        labels: (*metadata.labels).clone(),
        selector: spec.selector.clone(),
        service_accounts: annotated(metadata, CANONICAL_ACCOUNTS)
            .map(str::to_owned)
            .chain(
                annotated(metadata, KUBERNETES_ACCOUNTS)
                    .map(|account| identity(options, &metadata.namespace, account)),
            )
            .collect(),
        created: metadata.creation_timestamp.0,
        node_local: spec.internal_traffic_policy == InternalTrafficPolicy::Local,
        distribution: Distribution::of(
            spec.traffic_distribution.as_deref(),
            metadata.annotations.get(Distribution::ANNOTATION).map(String::as_str).or(distribution),
        ),
    }
}

fn service_port(port: &objects::ServicePort) -> ServicePort {
    let transport = match port.protocol {
        Transport::Udp => "UDP",
        Transport::Tcp | Transport::Sctp => "TCP",
    };
    ServicePort {
        name: port.name.clone(),
        port: port.port,
        protocol: Protocol::select(transport, port.app_protocol.as_deref(), &port.name, port.port),
        target: match &port.target_port {
            None => TargetPort::Number(port.port),
            Some(IntOrString::Number(number)) => TargetPort::Number(*number),
            Some(IntOrString::Name(name)) => TargetPort::Name(name.clone()),
        },
    }
}

/// Returns the virtual addresses. `clusterIPs` repeats `clusterIP` and adds the second family.
fn addresses(spec: &objects::ServiceSpec) -> Vec<Vip> {
    let first = std::iter::once(&spec.cluster_ip);
    let mut found = Vec::new();
    for vip in first.chain(&spec.cluster_ips).filter_map(|ip| ip.parse().ok()).map(Vip::host) {
        if !found.contains(&vip) {
            found.push(vip);
        }
    }
    found
}

/// Returns the elements of an annotation that is a comma-separated list.
fn annotated<'a>(metadata: &'a Metadata, annotation: &str) -> impl Iterator<Item = &'a str> {
    let list = metadata.annotations.get(annotation).map(String::as_str).unwrap_or_default();
    list.split(',').map(str::trim).filter(|element| !element.is_empty())
}

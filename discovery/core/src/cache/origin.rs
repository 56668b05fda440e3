//! Objects that a resource is generated from, for messages to users.

use crate::model::{ClusterName, Registry, Service};
use crate::scope::{Scope, Visible};
use pilot_proto::ResourceType;

/// Maximum number of objects in a message.
const NAMED: usize = 10;

/// Returns the objects behind a resource as `<kind>/<namespace>/<name>`; empty if it is made from the mesh or the proxy only.
pub fn origins(scope: &Scope, kind: ResourceType, name: &str) -> Vec<String> {
    let services: Vec<&Visible> = match kind {
        ResourceType::Cluster | ResourceType::Endpoint => {
            let host = name.parse::<ClusterName>().ok().map(|cluster| cluster.host);
            host.and_then(|host| scope.by_host(&host)).into_iter().collect()
        }
        ResourceType::Listener => match name.rsplit_once('_') {
            Some((address, port)) => at(scope, address, port),
            None => Vec::new(),
        },
        ResourceType::Route => match name.rsplit_once(':') {
            Some((host, _)) => scope.by_host(host).into_iter().collect(),
            None => at(scope, "", name),
        },
        ResourceType::Secret | ResourceType::Extension => Vec::new(),
    };
    services.into_iter().take(NAMED).map(|seen| object(&seen.service)).collect()
}

/// Returns the services on a port, of one address if it is an address of theirs.
fn at<'a>(scope: &'a Scope, address: &str, port: &str) -> Vec<&'a Visible> {
    let on_port = port.parse().ok().and_then(|port| scope.on_port(port));
    let all: Vec<&Visible> = on_port.into_iter().flat_map(|services| services.iter()).collect();
    let owners: Vec<&Visible> = all
        .iter()
        .copied()
        .filter(|seen| seen.service.addresses.iter().any(|vip| vip.ip.to_string() == address))
        .collect();
    if owners.is_empty() { all } else { owners }
}

fn object(service: &Service) -> String {
    let kind = match service.registry {
        Registry::Kubernetes => "Service",
        Registry::External => "ServiceEntry",
        registry @ (Registry::Consul | Registry::Nacos) => registry.as_str(),
    };
    format!("{kind}/{}/{}", service.namespace, service.name)
}

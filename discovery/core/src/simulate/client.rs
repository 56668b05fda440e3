//! Client of simulated calls: a proxy, its configuration, and the services it can name.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use pilot_proto::node::{NodeId, NodeMetadata, NodeType};

use super::call::{Call, CallDirection, Destination, Payload};
use super::call_spec::{CallSpec, CallSpecError};
use super::dns::resolve;
use super::proxy_config_view::{ProxyConfigView, ProxyConfigViewError};
use super::trace::Trace;
use crate::cache::Cache;
use crate::model::{EndpointAddress, Hostname, Proxy, Service, Workload};
use crate::push::PushContext;
use crate::scope::{Scope, ScopeKey};

/// A proxy with its configuration in a mesh.
#[derive(Clone, Debug)]
pub struct Client {
    /// Proxy.
    pub proxy: Proxy,
    /// Configuration of the proxy.
    pub told: ProxyConfigView,
    push: PushContext,
}

// === impl Client ===

impl Client {
    /// Generates the configuration of a proxy.
    pub fn new(push: &PushContext, proxy: Proxy) -> Result<Self, ProxyConfigViewError> {
        let scope = Scope::of(push, ScopeKey::of(push, &proxy), None);
        let (told, _) = ProxyConfigView::asked(&Cache::new(1), push, &scope, &proxy)?;
        Ok(Self { proxy, told, push: push.clone() })
    }

    /// Evaluates a call written as a [`CallSpec`]: outbound from the workload of a sidecar, or to a gateway
    /// from outside.
    pub fn ask(&self, line: &str) -> Result<Trace, CallSpecError> {
        Ok(self.told.call(&self.leaving(line.parse()?)?))
    }

    /// Evaluates an inbound call to the workload of a sidecar. The host is not resolved.
    pub fn receive(&self, line: &str) -> Result<Trace, CallSpecError> {
        Ok(self.told.call(&self.arriving(line.parse()?)?))
    }

    /// Returns the inbound call of a specification.
    pub fn arriving(&self, line: CallSpec) -> Result<Call, CallSpecError> {
        let to = Destination::Socket(SocketAddr::new(self.own_ip()?, line.port));
        Ok(said(Call::new(CallDirection::Inbound, to), line))
    }

    /// Returns the outbound call, or the call to the gateway, of a specification.
    pub fn leaving(&self, line: CallSpec) -> Result<Call, CallSpecError> {
        let call = match self.proxy.node_type() {
            NodeType::Sidecar | NodeType::Ztunnel => {
                let own = self.own_ip()?;
                let ip = resolve(&self.push, &self.proxy, &line.host).ip;
                let client = if ip.is_loopback() { ip } else { own };
                let to = Destination::Socket(SocketAddr::new(ip, line.port));
                Call::new(CallDirection::Outbound, to).from_ip(client)
            }
            NodeType::Router | NodeType::Waypoint => {
                let to = SocketAddr::new(self.own_ip()?, self.bound(line.port));
                Call::new(CallDirection::Gateway, Destination::Socket(to))
            }
        };
        Ok(said(call, line))
    }

    /// Returns the hostname of the oldest service with this address.
    pub fn host_at(&self, ip: IpAddr) -> Option<&Hostname> {
        let has = |service: &&Arc<Service>| service.addresses.iter().any(|vip| vip.is_host() && vip.ip == ip);
        let oldest = self.push.services.values().filter(has).min_by_key(|service| service.created);
        oldest.map(|service| &service.hostname)
    }

    fn own_ip(&self) -> Result<IpAddr, CallSpecError> {
        self.proxy.ips.first().copied().ok_or_else(|| CallSpecError::NoAddress(self.proxy.id.id.clone()))
    }

    /// Returns the target port of the gateway's service for a port; the port itself if no service has it.
    fn bound(&self, port: u16) -> u16 {
        let targets = self.push.service_targets(&self.proxy);
        targets.iter().find(|target| target.port.port == port).map_or(port, |target| target.target_port)
    }
}

fn said(call: Call, line: CallSpec) -> Call {
    let call = match line.from {
        Some(ip) => call.from_ip(ip),
        None => call,
    };
    let to = line.to.unwrap_or(call.to);
    Call { to, tls: line.tls, payload: line.request.map_or(Payload::Bytes, Payload::Http), ..call }
}

/// Returns the proxy of a workload, with the node id and metadata of its agent. `None`: the workload has no IP address.
pub fn proxy_of(workload: &Workload, node_type: NodeType, domain_suffix: &str) -> Option<Proxy> {
    let ips: Vec<IpAddr> = workload
        .addresses
        .iter()
        .filter_map(|address| match address {
            EndpointAddress::Ip(ip) => Some(*ip),
            EndpointAddress::Unix(_) | EndpointAddress::Dns(_) => None,
        })
        .collect();
    let namespace = workload.namespace.as_str();
    let id = NodeId {
        node_type,
        ip: ips.first()?.to_string(),
        id: format!("{}.{namespace}", workload.name),
        dns_domain: format!("{namespace}.svc.{domain_suffix}"),
    };
    let metadata = NodeMetadata {
        name: Some(workload.name.to_string()),
        namespace: Some(namespace.to_owned()),
        labels: Arc::unwrap_or_clone(workload.labels.clone()),
        ..NodeMetadata::default()
    };
    Some(Proxy {
        id,
        ips,
        namespace: workload.namespace.clone(),
        metadata,
        locality: workload.locality.clone(),
        service_cluster: String::new(),
    })
}

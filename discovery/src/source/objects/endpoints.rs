//! `discovery.k8s.io/v1 EndpointSlice` and `v1 Endpoints`

use std::net::IpAddr;
use std::sync::Arc;

use serde::Deserialize;

use super::metadata::Metadata;
use super::values::{maybe_port_number, port_number};

/// Some endpoints of the service that the label `kubernetes.io/service-name` names.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointSlice {
    /// Metadata.
    #[serde(default)]
    pub(crate) metadata: Metadata,
    /// Type of `endpoints[].addresses`.
    pub(crate) address_type: AddressType,
    /// Endpoints.
    #[serde(default)]
    pub(crate) endpoints: Vec<SliceEndpoint>,
    /// Ports of every endpoint.
    #[serde(default)]
    pub(crate) ports: Vec<SlicePort>,
}

/// `EndpointSlice.addressType`
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub(crate) enum AddressType {
    /// IPv4 addresses.
    IPv4,
    /// IPv6 addresses.
    IPv6,
    /// Host names. Ignored, as by Istio.
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// `EndpointSlice.endpoints[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SliceEndpoint {
    /// Addresses of the same endpoint.
    pub(crate) addresses: Vec<String>,
    /// Readiness.
    pub(crate) conditions: EndpointConditions,
    /// Object at the address, usually a pod.
    pub(crate) target_ref: Option<TargetRef>,
    /// Name of the node.
    pub(crate) node_name: Option<Arc<str>>,
}

/// `EndpointSlice.endpoints[].conditions`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointConditions {
    /// Absent: true.
    pub(crate) ready: Option<bool>,
    /// Absent: as `ready`.
    pub(crate) serving: Option<bool>,
    /// Absent: false.
    pub(crate) terminating: Option<bool>,
}

/// `EndpointSlice.ports[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct SlicePort {
    /// Name of the service port.
    pub(crate) name: Arc<str>,
    /// Port number. Absent: all ports, which a proxy cannot use.
    #[serde(deserialize_with = "maybe_port_number")]
    pub(crate) port: Option<u16>,
}

/// All endpoints of the service with the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoints {
    /// Metadata.
    pub(crate) metadata: Metadata,
    /// Every address of a subset serves every port of it.
    pub(crate) subsets: Vec<EndpointSubset>,
}

/// `Endpoints.subsets[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EndpointSubset {
    /// Ready addresses.
    pub(crate) addresses: Vec<EndpointsAddress>,
    /// Addresses that are not ready.
    pub(crate) not_ready_addresses: Vec<EndpointsAddress>,
    /// Ports.
    pub(crate) ports: Vec<EndpointsPort>,
}

/// `Endpoints.subsets[].addresses[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointsAddress {
    /// Address.
    pub(crate) ip: IpAddr,
    /// Object at the address, usually a pod.
    #[serde(default)]
    pub(crate) target_ref: Option<TargetRef>,
    /// Name of the node.
    #[serde(default)]
    pub(crate) node_name: Option<Arc<str>>,
}

/// `Endpoints.subsets[].ports[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct EndpointsPort {
    /// Name of the service port.
    #[serde(default)]
    pub(crate) name: Arc<str>,
    /// Port number.
    #[serde(deserialize_with = "port_number")]
    pub(crate) port: u16,
}

/// Reference to the object at an address.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct TargetRef {
    /// Kind, usually `Pod`.
    pub(crate) kind: String,
    /// Namespace; empty: that of the endpoints.
    pub(crate) namespace: Arc<str>,
    /// Name.
    pub(crate) name: Arc<str>,
}

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
    /// Who.
    #[serde(default)]
    pub(crate) metadata: Metadata,
    /// What `endpoints[].addresses` are.
    pub(crate) address_type: AddressType,
    /// Where.
    #[serde(default)]
    pub(crate) endpoints: Vec<SliceEndpoint>,
    /// On which ports, every endpoint alike.
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
    /// Host names; Istio does not read these, nor do we.
    #[serde(rename = "FQDN")]
    Fqdn,
}

/// `EndpointSlice.endpoints[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct SliceEndpoint {
    /// One or more ways to the same place.
    pub(crate) addresses: Vec<String>,
    /// Whether it takes traffic.
    pub(crate) conditions: EndpointConditions,
    /// What is there.
    pub(crate) target_ref: Option<TargetRef>,
    /// On which machine.
    pub(crate) node_name: Option<Arc<str>>,
}

/// `EndpointSlice.endpoints[].conditions`
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct EndpointConditions {
    /// Absent: yes.
    pub(crate) ready: Option<bool>,
    /// Absent: as `ready`.
    pub(crate) serving: Option<bool>,
    /// Absent: no.
    pub(crate) terminating: Option<bool>,
}

/// `EndpointSlice.ports[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct SlicePort {
    /// The service port's name.
    pub(crate) name: Arc<str>,
    /// Absent: all ports, which says nothing to a proxy.
    #[serde(deserialize_with = "maybe_port_number")]
    pub(crate) port: Option<u16>,
}

/// All endpoints of the service of the same name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct Endpoints {
    /// Who.
    pub(crate) metadata: Metadata,
    /// Every address of a subset serves every port of it.
    pub(crate) subsets: Vec<EndpointSubset>,
}

/// `Endpoints.subsets[]`
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct EndpointSubset {
    /// Ready ones.
    pub(crate) addresses: Vec<EndpointsAddress>,
    /// Those that are not.
    pub(crate) not_ready_addresses: Vec<EndpointsAddress>,
    /// On which ports.
    pub(crate) ports: Vec<EndpointsPort>,
}

/// `Endpoints.subsets[].addresses[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EndpointsAddress {
    /// The address.
    pub(crate) ip: IpAddr,
    /// What is there.
    #[serde(default)]
    pub(crate) target_ref: Option<TargetRef>,
    /// On which machine.
    #[serde(default)]
    pub(crate) node_name: Option<Arc<str>>,
}

/// `Endpoints.subsets[].ports[]`
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(crate) struct EndpointsPort {
    /// The service port's name.
    #[serde(default)]
    pub(crate) name: Arc<str>,
    /// The number there.
    #[serde(deserialize_with = "port_number")]
    pub(crate) port: u16,
}

/// What an endpoint is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub(crate) struct TargetRef {
    /// Usually `Pod`.
    pub(crate) kind: String,
    /// Empty: the namespace of the endpoints.
    pub(crate) namespace: Arc<str>,
    /// The name.
    pub(crate) name: Arc<str>,
}

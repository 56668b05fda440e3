//! Split horizon: endpoints in another network are reached through the gateways of that network.
//! <https://istio.io/latest/docs/ops/deployment/deployment-models/#multiple-networks>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pilot_proto::mesh::networks::MeshNetworks;

use super::{
    AddressResolution, LbHost, LbTarget, LocalityGroup, TlsModeMetadata, accepts_mutual_tls, reachable,
};
use crate::generate::IpFamilies;
use crate::generate::proto::masked;
use crate::model::{Endpoint, EndpointAddress, Vip};

/// Networks as a client reaches them.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetworkView {
    /// Network of the client, empty if unknown.
    pub client_network: Arc<str>,
    /// Networks that the client requests, besides endpoints without a network (`ISTIO_META_REQUESTED_NETWORK_VIEW`); `None`: all.
    pub requested: Option<BTreeSet<String>>,
    /// IP families of the client.
    pub families: IpFamilies,
    /// Gateways of all networks.
    pub gateways: Arc<NetworkGateways>,
}

/// Gateways by network, and the assignment of endpoints to networks (`meshNetworks`).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NetworkGateways {
    by_network: BTreeMap<Arc<str>, BTreeSet<NetworkGateway>>,
    /// Network of endpoints without one, by cluster (`fromRegistry`).
    registries: BTreeMap<String, Arc<str>>,
    /// Network of the remaining endpoints by address (`fromCidr`), the narrowest range first.
    ranges: Vec<(Vip, Arc<str>)>,
    /// Common multiple of the numbers of gateways of all networks.
    scale: u32,
}

/// Gateway of a network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkGateway {
    /// Name of the network.
    pub network: Arc<str>,
    /// Address of the gateway.
    pub address: EndpointAddress,
    /// Port of the gateway.
    pub port: u16,
}

// === impl NetworkGateways ===

impl FromIterator<NetworkGateway> for NetworkGateways {
    fn from_iter<I: IntoIterator<Item = NetworkGateway>>(gateways: I) -> Self {
        let mut by_network: BTreeMap<Arc<str>, BTreeSet<NetworkGateway>> = BTreeMap::new();
        for gateway in gateways {
            by_network.entry(gateway.network.clone()).or_default().insert(gateway);
        }
        let counts = by_network.values().map(|gateways| u32::try_from(gateways.len()).unwrap_or(u32::MAX));
        let scale = counts.fold(1_u32, |scale, count| (scale / divisor(scale, count)).saturating_mul(count));
        Self { by_network, registries: BTreeMap::new(), ranges: Vec::new(), scale }
    }
}

impl NetworkGateways {
    /// Reads `meshNetworks`. Gateways that are named by `registryServiceName` are ignored.
    pub fn of(mesh: &MeshNetworks) -> Self {
        let gateways = mesh.networks.iter().flat_map(|(name, network)| {
            let gateways = network.gateways.iter().filter(|way| way.port != 0);
            gateways.filter_map(move |way| {
                let address = way.address.as_deref().filter(|address| !address.is_empty())?;
                let ip = address.parse().map(EndpointAddress::Ip);
                Some(NetworkGateway {
                    network: name.as_str().into(),
                    address: ip.unwrap_or_else(|_| EndpointAddress::Dns(address.into())),
                    port: way.port,
                })
            })
        });
        let ranges = mesh.networks.iter().flat_map(|(name, network)| {
            let ranges = network.endpoints.iter().filter_map(|some| Vip::parse(some.from_cidr.as_deref()?));
            ranges.map(|range| (range, Arc::from(name.as_str())))
        });
        let mut ranges: Vec<(Vip, Arc<str>)> = ranges.collect();
        ranges.sort_by(|(a, _), (b, _)| (b.prefix, a.ip).cmp(&(a.prefix, b.ip)));
        let registries = mesh.networks.iter().flat_map(|(name, network)| {
            let ranges = network.endpoints.iter().filter_map(|some| some.from_registry.clone());
            ranges.map(|registry| (registry, Arc::from(name.as_str())))
        });
        Self { registries: registries.collect(), ranges, ..gateways.collect() }
    }

    /// Returns the network of an endpoint: its own, else that of its cluster, else that of its address; empty if unknown.
    fn network_of<'a>(&'a self, endpoint: &'a Endpoint) -> &'a str {
        if !endpoint.network.is_empty() {
            return &endpoint.network;
        }
        let by_cluster = endpoint.cluster().and_then(|cluster| self.registries.get(cluster));
        let by_address = || {
            let EndpointAddress::Ip(ip) = endpoint.address else { return None };
            let within = |range: &Vip| {
                masked(Vip { ip, ..*range }) == masked(*range) && ip.is_ipv4() == range.ip.is_ipv4()
            };
            self.ranges.iter().find(|(range, _)| within(range)).map(|(_, network)| network)
        };
        by_cluster.or_else(by_address).map_or("", |network| network)
    }

    /// Returns true if there are no gateways; all endpoints are then directly reachable.
    pub fn is_empty(&self) -> bool {
        self.by_network.is_empty()
    }
}

/// Returns the greatest common divisor, at least 1.
const fn divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    if a == 0 { 1 } else { a }
}

// === impl NetworkView ===

impl NetworkView {
    /// Returns true if the client requests the network of an endpoint.
    pub(super) fn includes(&self, endpoint: &Endpoint) -> bool {
        let network = self.gateways.network_of(endpoint);
        network.is_empty() || self.requested.as_ref().is_none_or(|requested| requested.contains(network))
    }

    /// Replaces endpoints in other networks with the gateways in front of them. All weights are scaled so that the share of
    /// each gateway is an integer.
    pub(super) fn bridge<'a>(
        &'a self,
        groups: &mut Vec<LocalityGroup<'a>>,
        tls_mode_metadata: TlsModeMetadata,
        addressing: AddressResolution,
    ) {
        if self.gateways.is_empty() {
            return;
        }
        for group in groups.iter_mut() {
            let mut weights: BTreeMap<&'a NetworkGateway, u32> = BTreeMap::new();
            group.hosts.retain_mut(|host| {
                let LbTarget::Endpoint(endpoint) = host.target else { return true };
                host.weight = host.weight.saturating_mul(self.gateways.scale);
                let Some(gateways) = self.gateways_of(self.gateways.network_of(endpoint)) else {
                    return true;
                };
                // The gateway routes by SNI, so only endpoints that accept mutual TLS are reachable through it.
                if accepts_mutual_tls(endpoint, tls_mode_metadata) {
                    let usable: Vec<&NetworkGateway> =
                        gateways.iter().filter(|gateway| self.reach(gateway, addressing)).collect();
                    let share = host.weight / u32::try_from(usable.len().max(1)).unwrap_or(u32::MAX);
                    for gateway in usable {
                        let weight = weights.entry(gateway).or_default();
                        *weight = weight.saturating_add(share);
                    }
                }
                false
            });
            let gateways_of_group = weights.into_iter().map(|(gateway, weight)| LbHost {
                target: LbTarget::Gateway(gateway),
                // With saturated weights the share may be 0.
                weight: weight.max(1),
            });
            group.hosts.extend(gateways_of_group);
        }
        groups.retain(|group| !group.hosts.is_empty());
    }

    /// Returns the gateways of another network.
    fn gateways_of(&self, network: &str) -> Option<&BTreeSet<NetworkGateway>> {
        let same = network.is_empty() || network == &*self.client_network;
        self.gateways.by_network.get(network).filter(|_| !same)
    }

    fn reach(&self, gateway: &NetworkGateway, addressing: AddressResolution) -> bool {
        let family = match &gateway.address {
            EndpointAddress::Ip(ip) => self.families.contains(*ip),
            EndpointAddress::Dns(_) | EndpointAddress::Unix(_) => true,
        };
        family && reachable(&gateway.address, addressing)
    }
}

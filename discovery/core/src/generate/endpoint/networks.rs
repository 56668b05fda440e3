//! Split horizon: endpoints in another network are reached through the gateways of that network.
//! <https://istio.io/latest/docs/ops/deployment/deployment-models/#multiple-networks>

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use pilot_proto::mesh::networks::MeshNetworks;

use super::{AddressResolution, LbHost, LbTarget, LocalityGroup, TlsModeMetadata, reachable, takes_tls};
use crate::generate::IpFamilies;
use crate::generate::proto::masked;
use crate::model::{Endpoint, EndpointAddress, Vip};

/// What is between a client and endpoints.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct NetworkView {
    /// The client's network, empty when unknown.
    pub client_network: Arc<str>,
    /// The only ones that the client wants to see, besides those without a name; `None`: all.
    pub requested: Option<BTreeSet<String>>,
    /// Which addresses the client can reach.
    pub families: IpFamilies,
    /// Ways into other networks.
    pub gateways: Arc<NetworkGateways>,
}

/// Every gateway, by network, and who is in which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct NetworkGateways {
    by_network: BTreeMap<Arc<str>, BTreeSet<NetworkGateway>>,
    /// Networks of those who do not say theirs, by the cluster that they run in.
    registries: BTreeMap<String, Arc<str>>,
    /// Networks of the others, the narrowest range first.
    ranges: Vec<(Vip, Arc<str>)>,
    /// A number that every network's number of gateways divides.
    scale: u32,
}

/// A way into a network.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NetworkGateway {
    /// The network.
    pub network: Arc<str>,
    /// Where it listens.
    pub address: EndpointAddress,
    /// On which port.
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
    /// What a mesh says. Of networks whose ways are services of a registry nobody knows the ways.
    pub fn of(mesh: &MeshNetworks) -> Self {
        let gateways = mesh.networks.iter().flat_map(|(name, network)| {
            let ways = network.gateways.iter().filter(|way| way.port != 0);
            ways.filter_map(move |way| {
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
            let said = network.endpoints.iter().filter_map(|some| Vip::parse(some.from_cidr.as_deref()?));
            said.map(|range| (range, Arc::from(name.as_str())))
        });
        let mut ranges: Vec<(Vip, Arc<str>)> = ranges.collect();
        ranges.sort_by(|(a, _), (b, _)| (b.prefix, a.ip).cmp(&(a.prefix, b.ip)));
        let registries = mesh.networks.iter().flat_map(|(name, network)| {
            let said = network.endpoints.iter().filter_map(|some| some.from_registry.clone());
            said.map(|registry| (registry, Arc::from(name.as_str())))
        });
        Self { registries: registries.collect(), ranges, ..gateways.collect() }
    }

    /// The network of an endpoint: what it says, else what its cluster is in, else what its address says; empty when
    /// nobody knows.
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

    /// Whether there are none: then everybody is thought to reach everybody.
    pub fn is_empty(&self) -> bool {
        self.by_network.is_empty()
    }
}

/// The greatest common one.
const fn divisor(mut a: u32, mut b: u32) -> u32 {
    while b != 0 {
        (a, b) = (b, a % b);
    }
    if a == 0 { 1 } else { a }
}

// === impl NetworkView ===

impl NetworkView {
    /// Whether the client wants an endpoint, by its network.
    pub(super) fn see(&self, endpoint: &Endpoint) -> bool {
        let network = self.gateways.network_of(endpoint);
        network.is_empty() || self.requested.as_ref().is_none_or(|requested| requested.contains(network))
    }

    /// Puts gateways in the place of the endpoints behind them. All weights grow alike, so that what a gateway's share of
    /// its network comes to is a whole number.
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
            group.members.retain_mut(|member| {
                let LbTarget::Endpoint(endpoint) = member.target else { return true };
                member.weight = member.weight.saturating_mul(self.gateways.scale);
                let Some(gateways) = self.ways(self.gateways.network_of(endpoint)) else { return true };
                // What passes a gateway is told where to go by what TLS says of it.
                if takes_tls(endpoint, tls_mode_metadata) {
                    let usable: Vec<&NetworkGateway> =
                        gateways.iter().filter(|gateway| self.reach(gateway, addressing)).collect();
                    let share = member.weight / u32::try_from(usable.len().max(1)).unwrap_or(u32::MAX);
                    for gateway in usable {
                        let weight = weights.entry(gateway).or_default();
                        *weight = weight.saturating_add(share);
                    }
                }
                false
            });
            let bridged = weights.into_iter().map(|(gateway, weight)| LbHost {
                target: LbTarget::Gateway(gateway),
                // A number of endpoints beyond all measure has no scale left to divide.
                weight: weight.max(1),
            });
            group.members.extend(bridged);
        }
        groups.retain(|group| !group.members.is_empty());
    }

    /// The gateways that endpoints of a network are behind, if they are.
    fn ways(&self, network: &str) -> Option<&BTreeSet<NetworkGateway>> {
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

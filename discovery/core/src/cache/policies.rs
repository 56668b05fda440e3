//! Properties of proxies that policies depend on, cached for each set of services.

use std::collections::BTreeSet;
use std::sync::Arc;

use pilot_proto::identity::SpiffeId;

use super::View;
use super::memo::Answer;
use crate::api::destination_rule::{ClientTlsMode, Subset};
use crate::generate::endpoint::{ClientLocality, ClusterLocalHosts, NetworkGateways};
use crate::generate::traffic_policy::{LocalityPreference, MergedTrafficPolicy, MeshPolicy};
use crate::model::{Endpoint, Service, Shared};
use crate::scope::Visible;

/// Services, and the defaults for those without a rule.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Ruled {
    services: Shared<[Visible]>,
    mesh: Arc<MeshPolicy>,
}

/// Requirements of the policies of some services.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Wants {
    place: Option<Wanted>,
    /// Services with clients that verify identities of endpoints.
    pub(super) mutual: Vec<Shared<Service>>,
}

/// Properties of a client that locality settings depend on.
#[derive(Debug, Default, PartialEq, Eq)]
struct Wanted {
    labels: BTreeSet<String>,
}

// === impl View ===

impl View<'_> {
    pub(super) fn mesh_policy(self) -> Arc<MeshPolicy> {
        let mesh = Shared::from(self.push.mesh.clone());
        self.cache.mesh_policies.get(&mesh, |mesh| Arc::new(MeshPolicy::of(mesh)))
    }

    pub(super) fn wants(self, services: Shared<[Visible]>) -> Arc<Wants> {
        let ruled = Ruled { services, mesh: self.mesh_policy() };
        self.cache.wants.get(&ruled, |ruled| Arc::new(Wants::of(ruled)))
    }

    /// Returns the locality of the client, reduced to what policies depend on.
    pub(super) fn vantage(self, wants: &Wants) -> Option<Arc<ClientLocality>> {
        let wanted = wants.place.as_ref()?;
        let named = |label: &str| wanted.labels.contains(label);
        let mut labels = (*self.push.labels_of(self.proxy)).clone();
        labels.retain(|label, _| named(label));
        let metadata = &self.proxy.metadata;
        let said = |text: &Option<String>| text.as_deref().map_or_else(Arc::default, Arc::from);
        Some(Arc::new(ClientLocality {
            locality: self.push.locality_of(self.proxy),
            labels: labels.into(),
            network: if named(ClientLocality::NETWORK) { said(&metadata.network) } else { Arc::default() },
            node: if named(ClientLocality::NODE) { said(&metadata.node_name) } else { Arc::default() },
        }))
    }
}

// === impl Wants ===

impl Wants {
    fn of(ruled: &Ruled) -> Self {
        let mut wants = Self::default();
        for seen in ruled.services.iter() {
            let mut mutual = false;
            for (port, subset) in seen.parts() {
                let policy = MergedTrafficPolicy::of(seen.rule.as_deref(), subset, port, &ruled.mesh)
                    .with_distribution(seen.service.distribution);
                wants.add(&policy);
                mutual |= policy.tls_mode() == Some(ClientTlsMode::IstioMutual);
            }
            if mutual {
                wants.mutual.push(seen.service.clone());
            }
        }
        wants
    }

    fn add(&mut self, policy: &MergedTrafficPolicy) {
        let (said, wanted) = match policy.locality_preference() {
            LocalityPreference::Locality(said) if !said.distribute.is_empty() => (&[][..], &[][..]),
            LocalityPreference::Locality(said) if policy.outlier_detection.is_some() => {
                (&*said.failover_priority, &[][..])
            }
            LocalityPreference::Zone(said) if said.enabled != Some(false) => {
                (&*said.failover_priority, &[][..])
            }
            LocalityPreference::TrafficDistribution(wanted) => (&[][..], wanted.labels()),
            LocalityPreference::Locality(_) | LocalityPreference::Zone(_) | LocalityPreference::Off => return,
        };
        let own = said.iter().filter(|label| !label.contains('=')).cloned();
        let own = own.chain(wanted.iter().map(|&label| label.to_owned()));
        self.place.get_or_insert_default().labels.extend(own);
    }
}

impl Answer for Arc<Wants> {
    fn is_held(&self) -> bool {
        false
    }
}

impl Answer for Arc<ClusterLocalHosts> {
    fn is_held(&self) -> bool {
        false
    }
}

impl Answer for Arc<NetworkGateways> {
    fn is_held(&self) -> bool {
        false
    }
}

impl Answer for Arc<MeshPolicy> {
    fn is_held(&self) -> bool {
        false
    }
}

// === impl Visible ===

impl Visible {
    /// Returns all ports that can be reached, of the whole service and of each subset.
    pub(super) fn parts(&self) -> impl Iterator<Item = (u16, Option<&Subset>)> {
        let subsets = self.rule.iter().flat_map(|rule| &rule.subsets);
        let all: Vec<Option<&Subset>> = std::iter::once(None).chain(subsets.map(Some)).collect();
        self.ports().flat_map(move |port| all.clone().into_iter().map(|subset| (port.port, subset)))
    }

    /// Returns the subset of this name; the whole service has none.
    pub(super) fn subset(&self, name: &str) -> Option<&Subset> {
        self.rule.as_ref()?.subsets.iter().find(|subset| subset.name == name)
    }

    /// Returns `true` if the subset exists; the empty name is the whole service.
    pub(super) fn has_subset(&self, name: &str) -> bool {
        name.is_empty() || self.subset(name).is_some()
    }
}

/// Returns the identities that a client accepts for the service: those of its endpoints and those that it declares, in their
/// trust domain and its aliases; sorted.
pub(super) fn identities(service: &Service, endpoints: &[Endpoint], aliases: &[String]) -> Vec<String> {
    let own = endpoints.iter().map(|endpoint| &*endpoint.service_account).filter(|own| !own.is_empty());
    let said: BTreeSet<&str> = own.chain(service.service_accounts.iter().map(String::as_str)).collect();
    let elsewhere = said.iter().filter_map(|name| name.parse::<SpiffeId>().ok()).flat_map(|id| {
        aliases.iter().map(move |alias| SpiffeId { trust_domain: alias.clone(), ..id.clone() }.to_string())
    });
    let all: BTreeSet<String> = elsewhere.chain(said.iter().map(|&name| name.to_owned())).collect();
    all.into_iter().collect()
}

//! Resource versions that proxies rejected: withheld from the same proxy on its next streams, and listed on debug pages.
//!
//! Rejections count for one proxy only. Otherwise one proxy could withhold configuration from all others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use pilot_core::cache::origins;
use pilot_core::scope::Scope;
use pilot_proto::ResourceType;
use pilot_proto::node::NodeId;
use pilot_xds::{RejectedVersion, Stream};
use tracing::warn;

use super::client::Client;
use super::hub::lock;

/// Maximum number of proxies with rejections. Above it the oldest is removed; that proxy gets the version again and rejects it
/// again.
const PROXIES: usize = 10_000;

/// Rejected versions by proxy.
#[derive(Default)]
pub(crate) struct Quarantine {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    by_proxy: BTreeMap<String, Known>,
    counter: u64,
}

#[derive(Default)]
struct Known {
    /// Logical time of the last update.
    at: u64,
    refused: BTreeMap<(ResourceType, Arc<str>), Refused>,
}

/// One rejected version of one resource.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// Version and reason.
    pub(crate) refusal: RejectedVersion,
    /// Objects that the resource is made from, `<kind>/<namespace>/<name>`.
    pub(crate) origins: Vec<String>,
}

// === impl Quarantine ===

impl Quarantine {
    /// Returns the rejected versions of a proxy.
    pub(crate) fn of(&self, proxy: &NodeId) -> BTreeMap<ResourceType, Vec<RejectedVersion>> {
        let mut refusals: BTreeMap<ResourceType, Vec<RejectedVersion>> = BTreeMap::new();
        if let Some(known) = lock(&self.inner).by_proxy.get(&proxy.to_string()) {
            for ((kind, _), refused) in &known.refused {
                refusals.entry(*kind).or_default().push(refused.refusal.clone());
            }
        }
        refusals
    }

    /// Adds rejections of a proxy.
    pub(crate) fn put(
        &self,
        client: &Client,
        kind: ResourceType,
        refusals: Vec<RejectedVersion>,
        scope: &Scope,
    ) {
        for refusal in refusals {
            let origins = origins(scope, kind, &refusal.name);
            warn!(
                node = %client.id,
                %kind,
                resource = %refusal.name,
                version = %refusal.version,
                objects = origins.join(", "),
                error = %refusal.error,
                active = if refusal.last_good.is_some() { "the last good version" } else { "nothing" },
                "resource withheld from this proxy until it changes"
            );
            let mut inner = lock(&self.inner);
            let known = inner.proxy(client.proxy.id.to_string());
            known.refused.insert((kind, refusal.name.clone()), Refused { refusal, origins });
        }
    }

    /// Keeps the rejections of a stream that has ended, for the next stream of the proxy.
    pub(crate) fn keep(&self, client: &Client, stream: &Stream) {
        let mut inner = lock(&self.inner);
        let id = client.proxy.id.to_string();
        let Some(known) = inner.by_proxy.get_mut(&id) else { return };
        known.refused.retain(|(kind, name), refused| {
            let mut still = stream.withheld(*kind);
            stream.status(*kind).is_none()
                || still.any(|it| it.name == *name && it.version == refused.refusal.version)
        });
        if known.refused.is_empty() {
            inner.by_proxy.remove(&id);
        }
    }

    /// Returns all rejections, by proxy.
    pub(crate) fn all(&self) -> Vec<(String, ResourceType, Refused)> {
        let inner = lock(&self.inner);
        let of = |(id, known): (&String, &Known)| {
            let listed =
                known.refused.iter().map(|((kind, _), refused)| (id.clone(), *kind, refused.clone()));
            listed.collect::<Vec<_>>()
        };
        inner.by_proxy.iter().flat_map(of).collect()
    }
}

impl Inner {
    fn proxy(&mut self, id: String) -> &mut Known {
        if self.by_proxy.len() >= PROXIES && !self.by_proxy.contains_key(&id) {
            let oldest = self.by_proxy.iter().min_by_key(|(_, known)| known.at).map(|(id, _)| id.clone());
            oldest.map(|id| self.by_proxy.remove(&id));
        }
        self.counter += 1;
        let known = self.by_proxy.entry(id).or_default();
        known.at = self.counter;
        known
    }
}

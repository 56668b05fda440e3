//! What proxies have rejected: kept back from each of them also on its next stream, and shown.
//!
//! Kept for each proxy by itself. If one proxy's word counted for others, one that lies could take away everybody's
//! configuration.

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

/// Proxies whose rejections are remembered. The oldest is forgotten first, and learns of it by rejecting once more.
const PROXIES: usize = 10_000;

/// Everything that is kept back.
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
    /// When it was last heard of, by counting.
    at: u64,
    refused: BTreeMap<(ResourceType, Arc<str>), Refused>,
}

/// One version of one resource, and one proxy that rejects it.
#[derive(Clone, Debug)]
pub(crate) struct Refused {
    /// What and why.
    pub(crate) refusal: RejectedVersion,
    /// The objects that the resource was made from, `<kind>/<namespace>/<name>`.
    pub(crate) origins: Vec<String>,
}

// === impl Quarantine ===

impl Quarantine {
    /// What is kept back from a proxy.
    pub(crate) fn of(&self, proxy: &NodeId) -> BTreeMap<ResourceType, Vec<RejectedVersion>> {
        let mut refusals: BTreeMap<ResourceType, Vec<RejectedVersion>> = BTreeMap::new();
        if let Some(known) = lock(&self.inner).by_proxy.get(&proxy.to_string()) {
            for ((kind, _), refused) in &known.refused {
                refusals.entry(*kind).or_default().push(refused.refusal.clone());
            }
        }
        refusals
    }

    /// A proxy has rejected these.
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
                serves = if refusal.last_good.is_some() { "the last good version" } else { "nothing" },
                "resource is kept back from this proxy until it changes"
            );
            let mut inner = lock(&self.inner);
            let known = inner.proxy(client.proxy.id.to_string());
            known.refused.insert((kind, refusal.name.clone()), Refused { refusal, origins });
        }
    }

    /// A stream has ended: what it still keeps back is kept back from the next one.
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

    /// Everything, by proxy.
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

//! Generation on a pool of threads, apart from I/O, at most one per core.

use std::collections::{BTreeMap, HashMap};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use pilot_core::cache::{Cache, Generated, Stats, resources};
use pilot_core::model::{Fingerprint, NameSet, Proxy};
use pilot_core::push::PushContext;
use pilot_core::scope::{Known, Scope, ScopeKey};
use pilot_proto::ResourceType;
use pilot_xds::StreamCache;
use tokio::sync::Semaphore;
use tonic::Status;

use super::hub::lock;

/// Generators with their cache and slots.
pub(crate) struct Generation {
    inner: Arc<Inner>,
    slots: Semaphore,
    /// Number of slots.
    capacity: usize,
    /// Start time of this process: distinguishes versions of different processes.
    started: String,
}

struct Inner {
    cache: Cache,
    stream_cache: Arc<StreamCache>,
    scopes: Mutex<BTreeMap<ScopeKey, Remembered>>,
    /// Last snapshot that each class of requests was generated from. Such requests are most likely cached, and a lookup costs
    /// less than a change of threads.
    warm: Mutex<HashMap<Fingerprint, u64>>,
}

/// Cached scope of a class. Callers of the same class wait while it is computed; other classes do not.
#[derive(Default)]
struct Remembered {
    known: Arc<Mutex<Option<Known>>>,
    /// `true` if it was used since the last sweep.
    used: bool,
}

/// Requests for fewer names are generated on the spot.
const FEW: usize = 4;

/// Maximum number of remembered classes of requests; above it, all are removed.
const CLASSES: usize = 16_384;

impl Default for Generation {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        let inner = Inner {
            cache: Cache::default(),
            stream_cache: Arc::default(),
            scopes: Mutex::default(),
            warm: Mutex::default(),
        };
        Self {
            inner: Arc::new(inner),
            slots: Semaphore::new(cores),
            capacity: cores,
            started: prost_types::Timestamp::from(SystemTime::now()).to_string(),
        }
    }
}

// === impl Generation ===

impl Generation {
    /// Returns the version of resources of a snapshot, in Istio's spelling: a time and a counter.
    pub(crate) fn version(&self, snapshot: &PushContext) -> Arc<str> {
        format!("{}/{}", self.started, snapshot.version).into()
    }

    /// Returns the cache that streams share.
    pub(crate) fn stream_cache(&self) -> Arc<StreamCache> {
        self.inner.stream_cache.clone()
    }

    /// Returns the scope of a proxy.
    pub(crate) fn scope(&self, snapshot: &PushContext, proxy: &Proxy) -> Arc<Scope> {
        self.inner.scope(snapshot, proxy)
    }

    /// Returns the counters of the cache by type.
    pub(crate) fn cache(&self) -> BTreeMap<ResourceType, Stats> {
        self.inner.cache.stats()
    }

    /// Returns name and size in bytes of each cached resource, by type.
    pub(crate) fn cached(&self) -> BTreeMap<ResourceType, Vec<(Arc<str>, usize)>> {
        self.inner.cache.contents()
    }

    /// Removes all cached resources.
    pub(crate) fn forget(&self) {
        self.inner.cache.clear();
    }

    /// Evicts resources that no stream references and that were not used since the last call.
    pub(crate) fn forget_unused(&self) {
        self.inner.stream_cache.forget_unused();
        lock(&self.inner.scopes).retain(|_, remembered| std::mem::take(&mut remembered.used));
        self.inner.cache.forget_unused();
    }

    /// Returns the number of running generations.
    pub(crate) fn running(&self) -> usize {
        self.capacity.saturating_sub(self.slots.available_permits())
    }

    /// Returns the resources of a type for a proxy: all, or these names.
    pub(crate) async fn generate(
        &self,
        snapshot: Arc<PushContext>,
        proxy: Arc<Proxy>,
        kind: ResourceType,
        names: Option<NameSet>,
    ) -> Result<Generated, Status> {
        let few = names.as_ref().is_some_and(|names| names.len() <= FEW && !kind.is_wildcard());
        let class = Inner::class(&snapshot, &proxy, kind, names.as_ref());
        if few || self.inner.is_warm(class, &snapshot) {
            return Ok(self.inner.generate(&snapshot, &proxy, kind, names.as_ref()));
        }
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await.map_err(|error| Status::internal(error.to_string()))?;
        // Other requests of the class waited here while the first one generated for all.
        if self.inner.is_warm(class, &snapshot) {
            return Ok(self.inner.generate(&snapshot, &proxy, kind, names.as_ref()));
        }
        let inner = self.inner.clone();
        let work = tokio::task::spawn_blocking(move || {
            let generated = inner.generate(&snapshot, &proxy, kind, names.as_ref());
            inner.warmed(class, &snapshot);
            generated
        });
        work.await.map_err(|error| Status::internal(format!("generate {kind}: {error}")))
    }
}

impl Inner {
    fn generate(
        &self,
        snapshot: &PushContext,
        proxy: &Proxy,
        kind: ResourceType,
        names: Option<&NameSet>,
    ) -> Generated {
        let scope = self.scope(snapshot, proxy);
        let generated = resources(&self.cache, snapshot, &scope, proxy, kind, names);
        Generated { resources: self.stream_cache.interner().intern(&generated.resources), ..generated }
    }

    /// Returns the class of a request; requests of one class have the same resources, or nearly so.
    fn class(
        snapshot: &PushContext,
        proxy: &Proxy,
        kind: ResourceType,
        names: Option<&NameSet>,
    ) -> Fingerprint {
        let names = names.map(NameSet::fingerprint);
        let (node, grpc) = (&proxy.metadata.node_name, proxy.is_proxyless());
        let families = (proxy.has_ipv4(), proxy.has_ipv6());
        let scope = ScopeKey::of(snapshot, proxy);
        Fingerprint::of(&(scope, kind, names, node, grpc, families, proxy.interception() as u8))
    }

    fn is_warm(&self, class: Fingerprint, snapshot: &PushContext) -> bool {
        lock(&self.warm).get(&class) == Some(&snapshot.version)
    }

    fn warmed(&self, class: Fingerprint, snapshot: &PushContext) {
        let mut warm = lock(&self.warm);
        if warm.len() >= CLASSES {
            warm.clear();
        }
        warm.insert(class, snapshot.version);
    }

    fn scope(&self, snapshot: &PushContext, proxy: &Proxy) -> Arc<Scope> {
        let key = ScopeKey::of(snapshot, proxy);
        let remembered = {
            let mut scopes = lock(&self.scopes);
            let remembered = scopes.entry(key.clone()).or_default();
            remembered.used = true;
            remembered.known.clone()
        };
        let mut known = lock(&remembered);
        if let Some(known) = known.as_ref().filter(|known| known.is_of(snapshot)) {
            return known.scope().clone();
        }
        // An older snapshot may come last, from a slow connection; the next one corrects that.
        let next = Known::of(snapshot, key, known.as_ref());
        let scope = next.scope().clone();
        *known = Some(next);
        scope
    }
}

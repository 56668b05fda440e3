//! Generation, off the tasks that do I/O and no more of it at once than there are cores.

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

/// What makes resources.
pub(crate) struct Generation {
    inner: Arc<Inner>,
    slots: Semaphore,
    /// How many slots there are.
    capacity: usize,
    /// When this process started: versions of another process are other versions.
    started: String,
}

struct Inner {
    cache: Cache,
    stream_cache: Arc<StreamCache>,
    scopes: Mutex<BTreeMap<ScopeKey, Remembered>>,
    /// The last snapshot that each class of requests was generated from. What is found here is remembered, in all
    /// likelihood, and is looked up faster than handed to another thread.
    warm: Mutex<HashMap<Fingerprint, u64>>,
}

/// The scope of a class. Who asks for it while it is made waits for it; scopes of other classes are made meanwhile.
#[derive(Default)]
struct Remembered {
    known: Arc<Mutex<Option<Known>>>,
    /// Whether it was asked for since the last time.
    used: bool,
}

/// So few names are generated at once, on the spot.
const FEW: usize = 4;

/// Classes of requests that are remembered; with one more, all are forgotten.
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
    /// Version of everything generated from a snapshot, as Istio spells it: a time and a counter.
    pub(crate) fn version(&self, snapshot: &PushContext) -> Arc<str> {
        format!("{}/{}", self.started, snapshot.version).into()
    }

    /// What streams share.
    pub(crate) fn stream_cache(&self) -> Arc<StreamCache> {
        self.inner.stream_cache.clone()
    }

    /// The mesh as a proxy sees it.
    pub(crate) fn scope(&self, snapshot: &PushContext, proxy: &Proxy) -> Arc<Scope> {
        self.inner.scope(snapshot, proxy)
    }

    /// How the cache does, by type.
    pub(crate) fn cache(&self) -> BTreeMap<ResourceType, Stats> {
        self.inner.cache.stats()
    }

    /// Name and bytes of every resource that is remembered, by type.
    pub(crate) fn cached(&self) -> BTreeMap<ResourceType, Vec<(Arc<str>, usize)>> {
        self.inner.cache.contents()
    }

    /// Forgets every resource; what is asked for next is generated anew.
    pub(crate) fn forget(&self) {
        self.inner.cache.clear();
    }

    /// Forgets what nobody has asked for since the last time, and no proxy was told.
    pub(crate) fn forget_unused(&self) {
        self.inner.stream_cache.forget_unused();
        lock(&self.inner.scopes).retain(|_, remembered| std::mem::take(&mut remembered.used));
        self.inner.cache.forget_unused();
    }

    /// How many answers are being generated.
    pub(crate) fn running(&self) -> usize {
        self.capacity.saturating_sub(self.slots.available_permits())
    }

    /// What a proxy should have of a type: everything, or these names.
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
        // Others of the class waited here while the first of them generated for all.
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

    /// Requests of one class are answered alike, or nearly so.
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
        // An older snapshot may come last, from a connection that was slow; the next one mends that.
        let next = Known::of(snapshot, key, known.as_ref());
        let scope = next.scope().clone();
        *known = Some(next);
        scope
    }
}

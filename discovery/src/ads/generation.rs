//! Generation, off the tasks that do I/O and no more of it at once than there are cores.

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use imbl::OrdMap;
use pilot_core::cache::{Cache, Generated, Stats, resources};
use pilot_core::model::{Proxy, Service};
use pilot_core::push::PushContext;
use pilot_core::push::context::ServiceKey;
use pilot_core::scope::{Scope, ScopeKey};
use pilot_proto::ResourceType;
use pilot_proto::mesh::MeshConfig;
use tokio::sync::Semaphore;
use tonic::Status;

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
    scopes: Mutex<BTreeMap<ScopeKey, Known>>,
}

/// A scope, and all it was made from.
struct Known {
    services: OrdMap<ServiceKey, Arc<Service>>,
    mesh: Arc<MeshConfig>,
    scope: Arc<Scope>,
}

impl Default for Generation {
    fn default() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
        Self {
            inner: Arc::new(Inner { cache: Cache::default(), scopes: Mutex::default() }),
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
        names: Option<BTreeSet<Arc<str>>>,
    ) -> Result<Generated, Status> {
        // The semaphore is never closed.
        let _slot = self.slots.acquire().await.map_err(|error| Status::internal(error.to_string()))?;
        let inner = self.inner.clone();
        let work = tokio::task::spawn_blocking(move || {
            let scope = inner.scope(&snapshot, &proxy);
            resources(&inner.cache, &snapshot, &scope, &proxy, kind, names.as_ref())
        });
        work.await.map_err(|error| Status::internal(format!("generate {kind}: {error}")))
    }
}

impl Inner {
    fn scope(&self, snapshot: &Arc<PushContext>, proxy: &Proxy) -> Arc<Scope> {
        let key = ScopeKey::of(proxy);
        // A panic while the lock was held left a map that is whole.
        let mut scopes = self.scopes.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = scopes.get(&key)
            && known.services.ptr_eq(&snapshot.services)
            && Arc::ptr_eq(&known.mesh, &snapshot.mesh)
        {
            return known.scope.clone();
        }
        let scope = Scope::of(snapshot, key.clone());
        // An older snapshot may come last, from a connection that was slow; the next one mends that.
        scopes.insert(
            key,
            Known { services: snapshot.services.clone(), mesh: snapshot.mesh.clone(), scope: scope.clone() },
        );
        scope
    }
}

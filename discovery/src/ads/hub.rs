//! Connected proxies, and the queue of pushes to them.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use pilot_core::model::{NameSet, Proxy};
use pilot_core::push::{PushContext, PushQueue, PushRequest, Urgency};
use pilot_core::scope::{Audience, Index};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore, mpsc};

use super::client::{Client, Via};
use super::context::Context;

/// Turn of a proxy in a push.
pub(crate) struct Turn {
    /// Changes.
    pub(crate) request: Arc<PushRequest>,
    /// Time at which the oldest of the merged requests was queued.
    pub(crate) queued: Instant,
    /// Start of the turn.
    pub(crate) began: Instant,
    /// Slot of the throttle (`PILOT_PUSH_THROTTLE`); held until everything is handed to the client, or the turn has taken too
    /// long.
    pub(crate) slot: OwnedSemaphorePermit,
}

/// Connected proxies.
pub(crate) struct Hub {
    counter: AtomicU64,
    clients: Mutex<BTreeMap<u64, Arc<Client>>>,
    index: Mutex<Index<u64>>,
    queue: Mutex<Queue>,
    waiting: Notify,
    throttle: Arc<Semaphore>,
}

/// Push queue with waiting times.
#[derive(Default)]
struct Queue {
    turns: PushQueue<u64>,
    since: BTreeMap<u64, Instant>,
}

/// Locks a mutex. The value is usable even if another holder panicked: every change is a single step.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Hub ===

impl Hub {
    /// Creates a hub without proxies, with this number of concurrent pushes (`PILOT_PUSH_THROTTLE`).
    pub(crate) fn new(throttle: usize) -> Self {
        Self {
            counter: AtomicU64::default(),
            clients: Mutex::default(),
            index: Mutex::default(),
            queue: Mutex::default(),
            waiting: Notify::new(),
            throttle: Arc::new(Semaphore::new(throttle)),
        }
    }

    /// Adds a proxy. From here on it misses no push; its turns come by the receiver.
    pub(crate) fn join(
        &self,
        proxy: Arc<Proxy>,
        peer: Option<SocketAddr>,
        codec: &'static str,
    ) -> (Arc<Client>, mpsc::Receiver<Turn>) {
        let number = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        // At most one turn is in progress: the queue keeps the next until this one is done.
        let (pushes, turns) = mpsc::channel(1);
        let client = Arc::new(Client::new(number, proxy, Via { peer, codec, pushes }));
        lock(&self.clients).insert(number, client.clone());
        lock(&self.index).join(number, &client.proxy);
        (client, turns)
    }

    /// Sets the EDS subscription of a proxy. From here on it misses no push of these clusters.
    pub(crate) fn follow(&self, number: u64, names: &NameSet) -> Arc<Audience> {
        lock(&self.index).follow(number, names)
    }

    /// Removes a proxy.
    pub(crate) fn leave(&self, number: u64) {
        lock(&self.clients).remove(&number);
        lock(&self.index).leave(number);
        let mut queue = lock(&self.queue);
        queue.turns.remove(&number);
        queue.since.remove(&number);
    }

    /// Returns the connected proxies, in the order of connecting.
    pub(crate) fn clients(&self) -> Vec<Arc<Client>> {
        lock(&self.clients).values().cloned().collect()
    }

    /// Returns the number of waiting proxies.
    pub(crate) fn waiting(&self) -> usize {
        lock(&self.queue).turns.len()
    }

    /// Queues a push to all affected proxies; returns their number.
    pub(crate) fn push(
        &self,
        request: &Arc<PushRequest>,
        urgency: Urgency,
        (before, after): (&PushContext, &PushContext),
        now: Instant,
    ) -> usize {
        let concerned = lock(&self.index).concerned(request, before, after);
        let mut queue = lock(&self.queue);
        for (number, told) in &concerned {
            queue.turns.enqueue(*number, told, urgency);
            queue.since.entry(*number).or_insert(now);
        }
        drop(queue);
        self.waiting.notify_one();
        concerned.len()
    }

    /// Ends the turn of a proxy.
    pub(crate) fn done(&self, number: u64) {
        lock(&self.queue).turns.done(&number);
        self.waiting.notify_one();
    }

    async fn next(&self) -> Option<(u64, Turn)> {
        loop {
            // The semaphore is never closed.
            let slot = self.throttle.clone().acquire_owned().await.ok()?;
            if let Some((number, request, queued)) = lock(&self.queue).next() {
                return Some((number, Turn { request, queued, began: Instant::now(), slot }));
            }
            drop(slot);
            self.waiting.notified().await;
        }
    }
}

/// Hands turns to connections until the server stops. The number of concurrent generations is limited where they run.
pub(crate) async fn dispatch(context: Arc<Context>) -> anyhow::Result<()> {
    let stop = context.stop.clone();
    loop {
        let (number, turn) = tokio::select! {
            () = stop.cancelled() => return Ok(()),
            next = context.hub.next() => match next {
                Some(next) => next,
                None => return Ok(()),
            },
        };
        let client = lock(&context.hub.clients).get(&number).cloned();
        // The proxy disconnected; `leave` removes it from the queue.
        if let Some(client) = client
            && client.pushes.try_send(turn).is_err()
        {
            context.hub.done(number);
        }
    }
}

// === impl Queue ===

impl Queue {
    fn next(&mut self) -> Option<(u64, Arc<PushRequest>, Instant)> {
        let (number, request) = self.turns.dequeue()?;
        let queued = self.since.remove(&number).unwrap_or_else(Instant::now);
        Some((number, request, queued))
    }
}

#[cfg(test)]
mod tests {
    use pilot_core::model::{ChangeKind, ConfigKey, Locality};
    use pilot_core::push::Reason;
    use pilot_proto::node::{NodeId, NodeMetadata, NodeType};

    use super::*;

    fn proxy(last: u8) -> Arc<Proxy> {
        let ip = [10, 0, 0, last].into();
        let id = format!("p{last}.default");
        let (node_type, dns_domain) = (NodeType::Sidecar, "default.svc.cluster.local".to_owned());
        Arc::new(Proxy {
            id: NodeId { node_type, ip: "10.0.0.1".into(), id, dns_domain },
            ips: vec![ip],
            namespace: "default".into(),
            metadata: NodeMetadata::default(),
            locality: Locality::default(),
            service_cluster: String::new(),
        })
    }

    fn key(kind: ChangeKind, name: &str) -> ConfigKey {
        ConfigKey { kind, namespace: "".into(), name: name.into() }
    }

    fn turns(hub: &Hub) -> Vec<(u64, usize)> {
        let mut queue = lock(&hub.queue);
        std::iter::from_fn(|| queue.next())
            .map(|(number, request, _)| (number, request.updated.len()))
            .collect()
    }

    fn push(hub: &Hub, keys: &[ConfigKey]) -> usize {
        let request = Arc::new(PushRequest::of(keys.iter().cloned(), Reason::Endpoint));
        let mesh = PushContext::default();
        hub.push(&request, Urgency::Normal, (&mesh, &mesh), Instant::now())
    }

    #[test]
    fn only_those_whom_a_push_concerns_have_a_turn() {
        let hub = Hub::new(1);
        let (one, _one) = hub.join(proxy(1), None, "GRPC");
        let (two, _two) = hub.join(proxy(2), None, "GRPC");
        hub.follow(one.number, &["outbound|80||a".into()].into_iter().collect());
        let told = |keys: &[ConfigKey]| {
            let count = push(&hub, keys);
            let turns = turns(&hub);
            assert_eq!(count, turns.len());
            hub.done(one.number);
            hub.done(two.number);
            turns
        };
        let (endpoints, workload) = (key(ChangeKind::Endpoints, "a"), key(ChangeKind::Proxy, "10.0.0.2"));
        assert_eq!(told(&[endpoints.clone(), workload.clone()]), [(one.number, 1), (two.number, 1)]);
        assert_eq!(told(std::slice::from_ref(&workload)), [(two.number, 1)]);
        hub.leave(two.number);
        assert_eq!(told(&[endpoints, workload]), [(one.number, 1)]);
    }

    #[test]
    fn pushes_that_come_while_one_is_under_way_are_one() {
        let hub = Hub::new(1);
        let (client, _turns) = hub.join(proxy(1), None, "GRPC");
        let mesh = |name: &str| push(&hub, &[key(ChangeKind::MeshConfig, name)]);
        mesh("a");
        assert_eq!(turns(&hub), [(client.number, 1)]);
        mesh("b");
        mesh("c");
        assert_eq!(turns(&hub), [], "one turn at a time");
        hub.done(client.number);
        assert_eq!(turns(&hub), [(client.number, 2)]);
    }
}

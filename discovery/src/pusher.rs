//! The task that owns the world: event → apply → debounce → snapshot → affected proxies.
//!
//! No other task writes the world, and only snapshots leave it. Until all sources have synced there is no snapshot, and the
//! control plane is not ready.

use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_core::model::{ChangeKind, SourceEvent, SourceId};
use pilot_core::push::debounce::Params;
use pilot_core::push::{Debounce, PushContext, PushRequest, Reason, Urgency};
use pilot_core::world::{Changes, World};
use pilot_proto::mesh::MeshConfig;
use pilot_proto::mesh::networks::MeshNetworks;
use tokio::sync::{mpsc, watch};
use tracing::{debug, info};

use crate::ads;
use crate::metrics::by_type;
use crate::moment::at;

/// Maximum number of events that are applied together: a burst is applied at once, and timers are still checked.
const BATCH: usize = 256;

/// Minimum age of unused cached resources before eviction. It runs only after pushes: an unchanged mesh evicts nothing.
const KEPT: Duration = Duration::from_secs(5);

/// State of the task.
pub(crate) struct Pusher {
    world: World,
    debounce: Debounce,
    events: mpsc::Receiver<(SourceId, SourceEvent)>,
    settings: Settings,
    snapshots: watch::Sender<Arc<PushContext>>,
    context: Arc<ads::Context>,
    /// Time of the last eviction.
    tidied: Instant,
}

/// Mesh-wide settings and their changes.
#[derive(Debug)]
pub(crate) struct Settings {
    /// `--meshConfig`
    pub(crate) mesh: watch::Receiver<Arc<MeshConfig>>,
    /// `--networksConfig`
    pub(crate) networks: watch::Receiver<Arc<MeshNetworks>>,
}

// === impl Pusher ===

impl Pusher {
    /// Creates a pusher of an empty world.
    pub(crate) fn new(
        mut world: World,
        debounce: Params,
        events: mpsc::Receiver<(SourceId, SourceEvent)>,
        mut settings: Settings,
        snapshots: watch::Sender<Arc<PushContext>>,
        context: Arc<ads::Context>,
    ) -> Self {
        // The initial mesh configuration is not a change.
        drop(world.set_mesh(settings.mesh.borrow_and_update().clone()));
        drop(world.set_networks(settings.networks.borrow_and_update().clone()));
        let debounce = Debounce::new(debounce);
        Self { world, debounce, events, settings, snapshots, context, tidied: Instant::now() }
    }

    /// Runs until all sources have ended or the server stops.
    pub(crate) async fn run(mut self) -> anyhow::Result<()> {
        let stop = self.context.stop.clone();
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            let due = self.debounce.due().filter(|_| self.world.is_synced());
            tokio::select! {
                biased;
                () = stop.cancelled() => return Ok(()),
                () = at(due) => self.push(),
                taken = self.events.recv_many(&mut batch, BATCH) => {
                    anyhow::ensure!(taken > 0, "every source has ended");
                    let was_synced = self.world.is_synced();
                    for (source, event) in batch.drain(..) {
                        self.event(&source, event);
                    }
                    if self.world.is_synced() && !was_synced {
                        self.first_snapshot();
                    }
                }
                news = self.settings.mesh.changed() => {
                    anyhow::ensure!(news.is_ok(), "the mesh configuration is watched no more");
                    let mesh = self.settings.mesh.borrow_and_update().clone();
                    let changes = self.world.set_mesh(mesh);
                    self.collect(&changes);
                }
                news = self.settings.networks.changed() => {
                    anyhow::ensure!(news.is_ok(), "the networks are watched no more");
                    let networks = self.settings.networks.borrow_and_update().clone();
                    let changes = self.world.set_networks(networks);
                    self.collect(&changes);
                }
            }
        }
    }

    fn event(&mut self, source: &SourceId, event: SourceEvent) {
        if event == SourceEvent::Synced {
            debug!(%source, "source has synced");
        }
        let changes = self.world.apply(source, event);
        self.collect(&changes);
    }

    fn collect(&mut self, changes: &Changes) {
        if changes.is_empty() {
            return;
        }
        let mut request = PushRequest { updated: changes.keys.clone(), ..PushRequest::default() };
        for key in &changes.keys {
            let (reason, update) = match key.kind {
                ChangeKind::Service => {
                    let service = (key.name.as_ref().into(), key.namespace.clone());
                    let is_gone = !self.world.services().contains_key(&service);
                    (Reason::Service, if is_gone { "svcdelete" } else { "svc" })
                }
                ChangeKind::Endpoints => (Reason::Endpoint, "eds"),
                ChangeKind::Config(_) => (Reason::Config, "config"),
                ChangeKind::MeshConfig => (Reason::Global, "config"),
                ChangeKind::Proxy => (Reason::Proxy, "proxy"),
            };
            *request.reasons.entry(reason).or_default() += 1;
            self.context.metrics.inbound_updates.get_or_create(&by_type(update)).inc();
        }
        let urgency = if changes.endpoint_removed { Urgency::Urgent } else { Urgency::Normal };
        self.debounce.on_change(Instant::now(), request, urgency);
    }

    /// Publishes the first snapshot. No proxy is connected yet, so collected changes need no push.
    fn first_snapshot(&mut self) {
        self.debounce.clear();
        self.build();
        info!(services = self.world.services().len(), "all sources have synced");
        self.context.health.synced();
    }

    fn push(&mut self) {
        let now = Instant::now();
        let Some((request, urgency)) = self.debounce.take(now) else { return };
        let collected = request.start.map(|start| now.duration_since(start)).unwrap_or_default();
        for (reason, count) in &request.reasons {
            self.context
                .metrics
                .push_triggers
                .get_or_create(&by_type(reason.as_str()))
                .inc_by((*count).into());
        }
        if now.duration_since(self.tidied) >= KEPT {
            self.tidied = now;
            self.context.generation.forget_unused();
        }
        let before = self.snapshots.borrow().clone();
        self.build();
        let prepared = request.start.map(|start| start.elapsed()).unwrap_or_default();
        self.context.metrics.debounce_time.observe(prepared.as_secs_f64());
        let (updated, first) = (request.updated.len(), request.updated.first().map(ToString::to_string));
        let after = self.snapshots.borrow().clone();
        let proxies = self.context.hub.push(&Arc::new(request), urgency, (&before, &after), now);
        self.debounce.done();
        info!(
            updated,
            first = first.unwrap_or_default(),
            debounce_ms = collected.as_millis(),
            proxies,
            "push"
        );
    }

    fn build(&mut self) {
        let started = Instant::now();
        let next = Arc::new(self.snapshots.borrow().next(&self.world));
        self.context.metrics.services.set(i64::try_from(next.services.len()).unwrap_or(i64::MAX));
        self.snapshots.send_replace(next);
        self.context.metrics.context_init.observe(started.elapsed().as_secs_f64());
    }
}

//! The composition root: builds the parts, runs them as named tasks, and stops them in order.
//!
//! ```text
//!  running ──SIGTERM──▶ draining: not ready, nobody accepted, GOAWAY to one after the other ──all gone, or time is up──▶ stopped
//! ```
//!
//! A task that ends early ends the process with its reason: a control plane without one of its parts is worse than
//! none, because nobody notices.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use anyhow::Context as _;
use pilot_core::push::PushContext;
use pilot_core::world::World;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::ads::{self, Generation, Hub, Quarantine};
use crate::config::debug::DebugConfig;
use crate::config::{Config, Limits};
use crate::metrics::Metrics;
use crate::pusher::{Pusher, Settings};
use crate::source::file::{self, FileSourceConfig};
use crate::source::{RegistryKind, SourceSender, SourceStatus};
use crate::transport::{self, Admission, Balance, Connections, Load, Readiness, Transport};
use crate::{debug, http, mesh};

/// Events a source may be ahead of the pusher; when full, the source waits.
const EVENTS: usize = 1024;

/// What every part may read.
pub(crate) struct Shared {
    /// Who is connected.
    pub(crate) hub: Hub,
    /// What proxies have rejected.
    pub(crate) quarantine: Quarantine,
    /// What is counted.
    pub(crate) metrics: Metrics,
    /// What makes resources.
    pub(crate) generation: Generation,
    /// Status of every source.
    pub(crate) sources: Vec<Arc<SourceStatus>>,
    /// The mesh as it is now.
    pub(crate) snapshots: watch::Receiver<Arc<PushContext>>,
    /// Name of this instance.
    pub(crate) instance: String,
    /// Name of the cluster it runs in.
    pub(crate) cluster_id: String,
    /// Who may use the debug pages.
    pub(crate) debug: DebugConfig,
    /// Connections of the gRPC ports.
    pub(crate) connections: Arc<Connections>,
    /// The gate of new streams.
    pub(crate) admission: Admission,
    /// What clients may ask for.
    pub(crate) limits: Limits,
    /// No connection is accepted any more.
    pub(crate) draining: CancellationToken,
    /// Everything else is asked to end.
    pub(crate) stop: CancellationToken,
    ready: watch::Sender<Readiness>,
    /// Which instance this is, among those that compare their loads.
    id: String,
}

// === impl Shared ===

impl Shared {
    /// A control plane whose world is this snapshot, for tests of its parts.
    #[cfg(test)]
    pub(crate) fn with(snapshot: PushContext, debug: DebugConfig) -> Arc<Self> {
        // The receiver holds the last value though the sender is gone.
        let (_, snapshots) = watch::channel(Arc::new(snapshot));
        Arc::new(Self {
            hub: Hub::new(1),
            quarantine: Quarantine::default(),
            metrics: Metrics::new(),
            generation: Generation::default(),
            sources: vec![Arc::new(SourceStatus::new(RegistryKind::File.source_id()))],
            snapshots,
            instance: "istiod-1".to_owned(),
            cluster_id: "Kubernetes".to_owned(),
            debug,
            connections: Arc::default(),
            admission: Admission::new(Limits::default().opens_per_second),
            limits: Limits::default(),
            draining: CancellationToken::new(),
            stop: CancellationToken::new(),
            ready: watch::Sender::new(Readiness::Ready),
            id: "istiod-1".to_owned(),
        })
    }

    /// Why this instance takes no proxies, if it does not.
    pub(crate) fn not_ready(&self) -> Option<&'static str> {
        match *self.ready.borrow() {
            Readiness::Draining => Some("shutting down"),
            Readiness::Starting => Some("sources have not synced"),
            Readiness::Ready => None,
        }
    }

    /// The first snapshot is there.
    pub(crate) fn synced(&self) {
        self.ready.send_if_modified(|ready| {
            let first = *ready == Readiness::Starting;
            if first {
                *ready = Readiness::Ready;
            }
            first
        });
    }

    /// From here on nobody is taken.
    fn drain(&self) {
        self.ready.send_replace(Readiness::Draining);
        self.draining.cancel();
    }

    /// What this instance holds, for the others.
    pub(crate) fn load(&self) -> Load {
        Load {
            id: self.id.clone(),
            streams: self.connections.streams(),
            draining: self.not_ready().is_some(),
        }
    }

    /// The mesh as it is now.
    pub(crate) fn snapshot(&self) -> Arc<PushContext> {
        self.snapshots.borrow().clone()
    }
}

/// Runs the control plane until a signal ends it.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let result = runtime.block_on(serve(config));
    // Threads that generate or read files end by themselves; nobody waits for what they make.
    runtime.shutdown_background();
    result
}

type Tasks = JoinSet<(&'static str, anyhow::Result<()>)>;

async fn serve(config: Config) -> anyhow::Result<()> {
    let signals = signals()?;
    let grpc = bind(config.grpc.as_ref())?;
    let secure = bind(config.secure.as_ref().map(|secure| &secure.listen))?;
    let tls = config.secure.as_ref().map(transport::follow_tls).transpose()?;
    let http = bind(config.http.as_ref())?;
    let monitoring = bind(config.monitoring.as_ref())?;

    let mesh = mesh::watch(&config.mesh_file)?;
    let networks = mesh::watch_networks(&config.networks_file)?;
    let world = World::new(&config.domain, config.registries.iter().map(|registry| registry.source_id()));
    let (snapshot_tx, snapshots) = watch::channel(Arc::new(PushContext::default()));
    let status = |registry: &RegistryKind| Arc::new(SourceStatus::new(registry.source_id()));
    let sources: Vec<_> = config.registries.iter().map(status).collect();
    let shared = Arc::new(Shared {
        hub: Hub::new(config.push_throttle),
        quarantine: Quarantine::default(),
        metrics: Metrics::new(),
        generation: Generation::default(),
        sources: sources.clone(),
        snapshots,
        instance: config.instance.clone(),
        connections: Arc::default(),
        admission: Admission::new(config.limits.opens_per_second),
        limits: config.limits,
        cluster_id: config.cluster_id.clone(),
        debug: config.debug,
        draining: CancellationToken::new(),
        stop: CancellationToken::new(),
        ready: watch::Sender::new(Readiness::Starting),
        id: format!("{}-{:08x}", config.instance, std::hash::RandomState::new().hash_one(())),
    });

    let mut tasks = Tasks::new();
    let (event_tx, event_rx) = mpsc::channel(EVENTS);
    for (registry, status) in config.registries.iter().zip(sources) {
        let sender = SourceSender::new(status, event_tx.clone());
        match registry {
            RegistryKind::File => {
                let settings = FileSourceConfig {
                    directory: config.manifests.clone(),
                    domain_suffix: config.domain.clone(),
                    mesh: mesh.clone(),
                    cluster_id: config.cluster_id.clone(),
                    system_namespace: config.namespace.clone(),
                };
                spawn(&mut tasks, "file source", file::run(settings, sender));
            }
        }
    }
    drop(event_tx);
    let pusher = Pusher::new(
        world,
        config.debounce,
        event_rx,
        Settings { mesh, networks },
        snapshot_tx,
        shared.clone(),
    );
    spawn(&mut tasks, "pusher", pusher.run());
    spawn(&mut tasks, "dispatcher", ads::dispatch(shared.clone()));
    if let Some(listener) = http {
        spawn(&mut tasks, "HTTP server", http::serve(listener, http::http(shared.clone()), shared.clone()));
    }
    if let Some(listener) = monitoring {
        let router = http::monitoring(shared.clone());
        spawn(&mut tasks, "monitoring server", http::serve(listener, router, shared.clone()));
    }
    let server = grpc_server(&config, &shared).await;
    let plaintext = grpc.map(|listener| ("gRPC server", listener, Transport::Plaintext));
    let encrypted = secure.zip(tls);
    let encrypted = encrypted.map(|(listener, tls)| ("gRPC server with TLS", listener, Transport::Tls(tls)));
    for (name, listener, transport) in plaintext.into_iter().chain(encrypted) {
        spawn(&mut tasks, name, server.clone().accept(listener, transport, shared.draining.clone()));
    }
    if !config.peers.is_empty() {
        let balance = Balance {
            connections: shared.connections.clone(),
            metrics: shared.metrics.transport.clone(),
            peers: config.peers.clone(),
            id: shared.id.clone(),
        };
        let shared = shared.clone();
        spawn(&mut tasks, "rebalancing", async move {
            balance.run(|| shared.not_ready().is_none()).await;
            Ok(())
        });
    }

    let cause = tokio::select! {
        signal = signals => Ok(signal),
        ended = tasks.join_next() => Err(early(ended)),
    };
    match &cause {
        Ok(signal) => info!(signal, "shutting down"),
        // The reason is the last line of the log: `main` tells it.
        Err(_) => warn!("a part has ended; shutting down"),
    }
    let all = async {
        shared.drain();
        transport::drain(&shared.connections, config.shutdown).await;
        shared.stop.cancel();
        // The file source has nothing to finish.
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
    };
    if tokio::time::timeout(config.shutdown, all).await.is_err() {
        warn!(after = ?config.shutdown, "not everything has ended in time");
    }
    cause.map(|_| ())
}

fn spawn(
    tasks: &mut Tasks,
    name: &'static str,
    task: impl Future<Output = anyhow::Result<()>> + Send + 'static,
) {
    tasks.spawn(async move { (name, task.await) });
}

/// What a task that ended before its time says about it.
fn early(ended: Option<Result<(&'static str, anyhow::Result<()>), tokio::task::JoinError>>) -> anyhow::Error {
    match ended {
        Some(Ok((name, Err(error)))) => error.context(format!("{name} has failed")),
        Some(Ok((name, Ok(())))) => anyhow::anyhow!("{name} has ended"),
        Some(Err(error)) => anyhow::Error::new(error).context("a task has failed"),
        None => anyhow::anyhow!("no task is left"),
    }
}

fn bind(listen: Option<&crate::config::Listen>) -> anyhow::Result<Option<tokio::net::TcpListener>> {
    match listen {
        None => Ok(None),
        Some(listen) => {
            let listener = http::bind(listen)?;
            info!(flag = listen.flag, address = %listener.local_addr().context("local address")?, "listening");
            Ok(Some(listener))
        }
    }
}

/// Every gRPC service, on both ports alike.
async fn grpc_server(config: &Config, shared: &Arc<Shared>) -> transport::Server {
    let names: Vec<&str> = ads::names().collect();
    let (reflection, alpha) = transport::reflection(&names);
    let health = transport::health(&names, shared.ready.subscribe()).await;
    let routes = ads::routes(shared).add_service(health).add_service(reflection).add_service(alpha);
    let routes = routes.add_service(debug::csds(shared.clone()));
    let (connections, metrics) = (shared.connections.clone(), shared.metrics.transport.clone());
    transport::server(routes, config.keepalive, &config.limits, connections, metrics)
}

/// The signal that ends the process, when it comes. Signals are taken by a thread of their own.
fn signals() -> anyhow::Result<impl Future<Output = &'static str>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).context("take signals")?;
    let (tx, mut rx) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if tx.try_send(if signal == SIGTERM { "SIGTERM" } else { "SIGINT" }).is_err() {
                    // The process is ending already.
                    return;
                }
            }
        })
        .context("start the signal thread")?;
    Ok(async move {
        match rx.recv().await {
            Some(signal) => signal,
            None => std::future::pending().await,
        }
    })
}

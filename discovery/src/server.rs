//! Builds the parts, runs them as named tasks, and stops them in order.
//!
//! ```text
//!  running ──SIGTERM──▶ draining: not ready, no new connections, GOAWAY spread over time ──all closed, or timeout──▶ stopped
//! ```
//!
//! A task that ends early ends the process with its error: an incomplete control plane would go unnoticed.

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
use crate::config::Config;
use crate::inspect::RunningState;
use crate::metrics::Metrics;
use crate::pusher::{Pusher, Settings};
use crate::source::file::{self, FileSourceConfig};
use crate::source::{RegistryKind, SourceSender, SourceStatus};
use crate::transport::{self, Admission, Balance, Health, Readiness, Transport};
use crate::{debug, http, mesh};

/// Capacity of the event channel of sources; when full, a source waits.
const EVENTS: usize = 1024;

/// Runs the control plane until a signal.
pub(crate) fn run(config: Config) -> anyhow::Result<()> {
    let runtime =
        tokio::runtime::Builder::new_multi_thread().enable_all().build().context("start the runtime")?;
    let result = runtime.block_on(serve(config));
    // Threads that generate or read files end by themselves; their results are not needed.
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
    let context = Arc::new(ads::Context {
        hub: Hub::new(config.push_throttle),
        quarantine: Quarantine::default(),
        metrics: Metrics::new(),
        generation: Generation::default(),
        snapshots,
        instance: config.instance.clone(),
        connections: Arc::default(),
        admission: Admission::new(config.limits.opens_per_second),
        limits: config.limits,
        health: Arc::new(Health::new(Readiness::Starting)),
        stop: CancellationToken::new(),
    });
    let state = Arc::new(RunningState {
        ads: context.clone(),
        sources: sources.clone(),
        cluster_id: config.cluster_id.clone(),
        debug: config.debug,
        id: format!("{}-{:08x}", config.instance, std::hash::RandomState::new().hash_one(())),
    });
    // Cancelled when accepting stops.
    let draining = CancellationToken::new();

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
        context.clone(),
    );
    spawn(&mut tasks, "pusher", pusher.run());
    spawn(&mut tasks, "dispatcher", ads::dispatch(context.clone()));
    if let Some(listener) = http {
        spawn(&mut tasks, "HTTP server", http::serve(listener, http::http(state.clone()), state.clone()));
    }
    if let Some(listener) = monitoring {
        let router = http::monitoring(state.clone());
        spawn(&mut tasks, "monitoring server", http::serve(listener, router, state.clone()));
    }
    let server = grpc_server(&config, &state).await;
    let plaintext = grpc.map(|listener| ("gRPC server", listener, Transport::Plaintext));
    let encrypted = secure.zip(tls);
    let encrypted = encrypted.map(|(listener, tls)| ("gRPC server with TLS", listener, Transport::Tls(tls)));
    for (name, listener, transport) in plaintext.into_iter().chain(encrypted) {
        spawn(&mut tasks, name, server.clone().accept(listener, transport, draining.clone()));
    }
    if !config.peers.is_empty() {
        let balance = Balance {
            connections: context.connections.clone(),
            metrics: context.metrics.transport.clone(),
            peers: config.peers.clone(),
            id: state.id.clone(),
        };
        let health = context.health.clone();
        spawn(&mut tasks, "rebalancing", async move {
            balance.run(|| health.not_ready().is_none()).await;
            Ok(())
        });
    }

    let cause = tokio::select! {
        signal = signals => Ok(signal),
        ended = tasks.join_next() => Err(early(ended)),
    };
    match &cause {
        Ok(signal) => info!(signal, "shutting down"),
        // `main` logs the reason last.
        Err(_) => warn!("task failed; shutting down"),
    }
    let all = async {
        context.health.drain();
        draining.cancel();
        transport::drain(&context.connections, config.shutdown).await;
        context.stop.cancel();
        // The file source has no work to finish.
        tasks.abort_all();
        while tasks.join_next().await.is_some() {}
    };
    if tokio::time::timeout(config.shutdown, all).await.is_err() {
        warn!(after = ?config.shutdown, "shutdown timed out");
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

/// Returns the error of a task that ended early.
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

/// Returns the gRPC services, the same on both ports.
async fn grpc_server(config: &Config, state: &Arc<RunningState>) -> transport::Server {
    let context = &state.ads;
    let debug_requests: Arc<dyn ads::DebugRequests> = Arc::new(debug::XdsDebug(state.clone()));
    let names: Vec<&str> = ads::names().collect();
    let (reflection, alpha) = transport::reflection(&names);
    let health = transport::health(&names, context.health.subscribe()).await;
    let routes =
        ads::routes(context, &debug_requests).add_service(health).add_service(reflection).add_service(alpha);
    let routes = routes.add_service(debug::csds(state.clone()));
    let (connections, metrics) = (context.connections.clone(), context.metrics.transport.clone());
    transport::server(routes, config.keepalive, &config.limits, connections, metrics)
}

/// Returns the signal that ends the process, as a future. A thread of its own receives signals.
fn signals() -> anyhow::Result<impl Future<Output = &'static str>> {
    use signal_hook::consts::{SIGINT, SIGTERM};
    let mut signals = signal_hook::iterator::Signals::new([SIGTERM, SIGINT]).context("take signals")?;
    let (tx, mut rx) = mpsc::channel(1);
    std::thread::Builder::new()
        .name("signals".into())
        .spawn(move || {
            for signal in signals.forever() {
                if tx.try_send(if signal == SIGTERM { "SIGTERM" } else { "SIGINT" }).is_err() {
                    // The process is ending.
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

//! Builds a [`Driver`]: everything that can be refused (signals, ports, folders) comes before the first Envoy.

use std::{
    collections::VecDeque,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::Instant,
};

use anyhow::Context;
use tokio::{
    net::TcpListener,
    sync::{mpsc, watch},
    task::JoinSet,
};

use super::{
    Driver, Inputs, Outputs, Records, Settings,
    app_process::{AppProcess, EnvoyReadiness},
    bootstrap_folder::{self, BootstrapFolder},
    instances::InstanceTable,
    launch_spec::{AdminAccess, LaunchSpecs},
    lifecycle_publisher::{self, LifecyclePublisher},
    policy,
    timers::Timers,
};
use crate::{
    admin_proxy::AdminProxy,
    bootstrap::argv::parent_shutdown,
    cgroup::{Cgroup, OomCount},
    config::Config,
    desired::ConfigWatcher,
    handover::HotRestartBackend,
    lifecycle,
    logs::Sink,
    peer::PeerPolicy,
    process::ChildProcesses,
    signals::Signals,
    status::{self, Counters, Expected, HotRestartSupport, StatusInputs, StatusServer},
    supervisor::{Allowed, Effect, Supervisor},
};

/// Capacity of the queues of observations and of HTTP requests. When they are full, observers wait and requests are
/// rejected.
const QUEUE: usize = 16;

// === impl Driver ===

impl Driver {
    pub(super) async fn start(settings: Settings, sink: Sink) -> anyhow::Result<(Self, Vec<Effect>)> {
        let Settings { fixed_inputs, first, app, levels } = settings;
        let (flags, config) = (&fixed_inputs.flags, &first.config);
        let counters = Arc::new(Counters::since(Instant::now()));
        let signals = Signals::catch().context("catch signals")?;
        let access = if flags.raw_admin { AdminAccess::Unrestricted } else { AdminAccess::AgentOnly };
        let launch_specs = LaunchSpecs::new(Arc::clone(&first), access)?;
        let (status_listener, admin_listener) = listeners(config, &launch_specs).await?;
        let folder = PathBuf::from(&config.proxy.config_path);
        let bootstrap_folder = BootstrapFolder::open(&folder)?;
        let run_folder = bootstrap_folder::run_folder(&folder)?;
        let backend = HotRestartBackend::open(flags.hot_restart_mode, &run_folder, parent_shutdown(config));
        let children = ChildProcesses::new().context("start the spawner thread")?;

        let (allowed, restarts) = if backend.is_on() {
            (Allowed::Yes, HotRestartSupport::Hot)
        } else {
            (Allowed::No, HotRestartSupport::Off)
        };
        let policy = policy::policy(flags, config, allowed);
        let (supervisor, effects) = Supervisor::boot(&policy);

        let (phases, phase) = watch::channel(supervisor.phase());
        let (admin, current_admin) = watch::channel(None);
        let needed = launch_specs.latest().map_or(Expected::Nothing, |spec| spec.expected);
        let (expected, current_expected) = watch::channel(needed);
        let (observation_sender, observations) = mpsc::channel(QUEUE);
        let (order_sender, orders) = mpsc::channel(QUEUE);
        let (publisher, feed) = lifecycle::channel(lifecycle_publisher::first(&policy, &first));

        let peer_policy = PeerPolicy::new(flags.trusted_uids.clone());
        let readiness = EnvoyReadiness {
            phases: phase.clone(),
            admin: current_admin.clone(),
            expected: current_expected.clone(),
        };
        let server = StatusServer::new(StatusInputs {
            phases: phase,
            admin: current_admin.clone(),
            expected: current_expected,
            lifecycle: feed,
            restarts,
            orders: order_sender,
            levels: Some(Box::new(move |text| Ok(levels.set(text)?))),
            peer_policy: peer_policy.clone(),
            counters: Arc::clone(&counters),
            sink: sink.clone(),
        });
        let mut tasks = JoinSet::new();
        if let Some(listener) = status_listener {
            tasks.spawn(async { match server.run(listener).await {} });
        }
        if let Some(listener) = admin_listener {
            let proxy = AdminProxy::new(current_admin, peer_policy);
            tasks.spawn(async { match proxy.run(listener).await {} });
        }

        let cgroup = Arc::new(Cgroup::of_process());
        let inputs = Inputs {
            signals,
            timers: Timers::default(),
            observations,
            observation_sender,
            orders,
            config_watcher: backend
                .is_on()
                .then(|| ConfigWatcher::start(fixed_inputs.clone(), Arc::clone(&first))),
            app: AppProcess::new(app, readiness, policy.drain.deadline)?,
            validation: None,
            observers: JoinSet::new(),
            oom_checks: JoinSet::new(),
            tasks,
        };
        let outputs = Outputs {
            children,
            backend,
            bootstrap_folder,
            run_folder,
            phases,
            admin,
            expected,
            publisher: LifecyclePublisher::new(publisher, own_ports(config)),
            sink,
            pumps: JoinSet::new(),
        };
        let records = Records {
            launch_specs,
            instances: InstanceTable::default(),
            counters,
            draining_since: None,
            fault: None,
            oom_count: OomCount::of(&cgroup),
            cgroup,
            termination_log: PathBuf::from(&config.variables.termination_log),
        };
        Ok((Self { supervisor, pending: VecDeque::new(), inputs, outputs, records }, effects))
    }
}

/// Listeners of the status port, and of the admin port if the agent serves it in Envoy's place.
async fn listeners(
    config: &Config,
    launch_specs: &LaunchSpecs,
) -> anyhow::Result<(Option<TcpListener>, Option<TcpListener>)> {
    let status = match config.status_port() {
        Some(port) => {
            let wildcard: IpAddr = config.family.wildcard().parse().context("the wildcard address")?;
            Some(listen(SocketAddr::new(wildcard, port.get()), "status").await?)
        }
        None => None,
    };
    let admin = match launch_specs.latest().and_then(|spec| spec.admin_port()) {
        Some(port) => Some(listen(port, "Envoy's admin").await?),
        None => None,
    };
    Ok((status, admin))
}

/// Ports of Envoy's listeners that serve the sidecar itself; their connections are not traffic.
fn own_ports(config: &Config) -> Vec<u16> {
    let variables = &config.variables;
    vec![
        variables.envoy_status_port,
        variables.envoy_prometheus_port,
        variables.secure_metrics_port,
        variables.secure_merged_metrics_port,
    ]
}

async fn listen(address: SocketAddr, purpose: &str) -> anyhow::Result<TcpListener> {
    status::bind(address).await.with_context(|| format!("listen on {address} for {purpose}"))
}

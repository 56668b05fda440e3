//! Runs the agent: chooses the next event, lets the supervisor decide, does what it says.
//!
//! ```text
//!   signals ─┐                                            ┌▶ children: spawn, signal
//!   timers  ─┤  Event    supervisor   Effect   perform    ├▶ engine: sockets, shared memory
//!   observer ┼─────────▶ on_event() ──────────────────────┼▶ admin: drain
//!   status  ─┤             │                              ├▶ timers
//!   files   ─┘             └──▶ watch<Phase> ──▶ status,   └▶ exit
//!                                     observers, lifecycle
//! ```
//!
//! `select!` only picks, so that whatever it drops loses nothing; one line is logged per decision, here.
//! It deliberately decides nothing about Envoy.

mod bootstraps;
mod companion;
mod farewell;
mod journal;
mod ledger;
mod news;
mod observer;
mod perform;
mod plan;
mod policy;
mod probe;
mod timers;
mod validation;
mod wake;

use std::{
    collections::VecDeque,
    fmt,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
};
use tracing::info;

pub use self::companion::Companion;
pub(crate) use self::journal::Chain;
use self::{
    bootstraps::Bootstraps,
    companion::Company,
    ledger::Ledger,
    news::Bulletin,
    observer::Sight,
    plan::{Access, Plans},
    timers::Timers,
    validation::Validation,
    wake::Wake,
};
use crate::{
    admin_proxy::AdminProxy,
    cgroup::{Cgroup, Oom, OomCount},
    config::Config,
    desired::{ConfigWatcher, DesiredState, FixedInputs},
    engine::Engine,
    envoy_admin::EnvoyAdmin,
    lifecycle,
    logs::{Sink, subscriber::LevelControl},
    peer::Gate,
    process::Children,
    signals::Signals,
    status::{self, Counters, Order, Restarts, StatusServer, Wiring},
    supervisor::{Allowed, Effect, Event, Phase, Stage, Supervisor},
};

/// Sights and requests wait for one turn of the loop; whoever finds no room waits or is refused.
const QUEUE: usize = 16;

/// What Envoy wrote last is worth this much waiting. An orphan of Envoy's may hold the pipe for ever.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Everything an agent is told before it starts.
pub struct Settings {
    /// What every configuration is made of.
    pub given: FixedInputs,
    /// The first one.
    pub first: Arc<DesiredState>,
    /// Whose end is ours.
    pub companion: Option<Companion>,
    /// Of the agent's own log.
    pub levels: LevelControl,
}

/// The agent at work.
struct Driver {
    plans: Plans,
    bootstraps: Bootstraps,
    /// Where sockets of ours are.
    run_folder: PathBuf,
    engine: Engine,
    supervisor: Supervisor,
    children: Children,
    signals: Signals,
    timers: Timers,
    phases: watch::Sender<Phase>,
    seen: mpsc::Sender<Sight>,
    sights: mpsc::Receiver<Sight>,
    orders: mpsc::Receiver<Order>,
    /// `None`: nothing is followed, because nothing could be done about it.
    follower: Option<ConfigWatcher>,
    admin: watch::Sender<Option<EnvoyAdmin>>,
    expected: watch::Sender<status::Expected>,
    bulletin: Bulletin,
    ledger: Ledger,
    validation: Option<Validation>,
    company: Company,
    /// Events already here, oldest first.
    pending: VecDeque<Event>,
    /// Tasks that live as long as the agent. One that ends early ends the agent with its reason.
    tasks: JoinSet<&'static str>,
    observers: JoinSet<()>,
    fault: Option<anyhow::Error>,
    pumps: JoinSet<()>,
    sink: Sink,
    counters: Arc<Counters>,
    draining_since: Option<Instant>,
    /// Looks at the kernel's count of kills, after a death that may be one.
    autopsies: JoinSet<Oom>,
    cgroup: Arc<Cgroup>,
    kills: OomCount,
    termination_log: PathBuf,
}

/// Runs the agent until its end; the exit code.
pub async fn run(settings: Settings, sink: Sink) -> anyhow::Result<u8> {
    let (mut driver, effects) = Driver::start(settings, sink).await?;
    driver.run(effects).await
}

// === impl Driver ===

impl Driver {
    /// Takes whatever can be refused (signals, ports, folders) before there is an Envoy.
    async fn start(settings: Settings, sink: Sink) -> anyhow::Result<(Self, Vec<Effect>)> {
        let Settings { given, first, companion, levels } = settings;
        let (flags, config) = (&given.flags, &first.config);
        let counters = Arc::new(Counters::since(Instant::now()));
        let signals = Signals::catch().context("catch signals")?;
        let access = if flags.raw_admin { Access::Everybody } else { Access::Agent };
        let plans = Plans::new(Arc::clone(&first), access)?;
        let status = match config.status_port() {
            Some(port) => {
                let wildcard: IpAddr = config.family.wildcard().parse().context("the wildcard address")?;
                Some(listen(SocketAddr::new(wildcard, port.get()), "status").await?)
            }
            None => None,
        };
        let admin_port = plans.latest().and_then(|plan| plan.admin_port());
        let admin_listener = match admin_port {
            Some(port) => Some(listen(port, "Envoy's admin").await?),
            None => None,
        };
        let folder = PathBuf::from(&config.proxy.config_path);
        let bootstraps = Bootstraps::open(&folder)?;
        let run_folder = bootstraps::run_folder(&folder)?;
        let engine = Engine::open(
            flags.hot_restart_mode,
            &run_folder,
            crate::bootstrap::argv::parent_shutdown(config),
        );
        let children = Children::new().context("start the spawner thread")?;

        let allowed = if engine.is_on() { Allowed::Yes } else { Allowed::No };
        let policy = policy::policy(flags, config, allowed);
        let (supervisor, effects) = Supervisor::boot(policy);
        let (phases, watching) = watch::channel(supervisor.phase());
        let (seen, sights) = mpsc::channel(QUEUE);
        let (ask, orders) = mpsc::channel(QUEUE);
        let (admin, admins) = watch::channel(None);
        let (publisher, feed) = lifecycle::channel(news::first(&policy, &first));
        let gate = Gate::new(flags.trusted_uids.clone());
        let expected = plans.latest().map_or(status::Expected::Nothing, |plan| plan.expected);
        let (expect, expected) = watch::channel(expected);
        let serving =
            companion::Watch { phases: watching.clone(), admin: admins.clone(), expected: expected.clone() };
        let server = StatusServer::new(Wiring {
            phases: watching,
            admin: admins.clone(),
            expected,
            lifecycle: feed,
            restarts: if engine.is_on() { Restarts::Hot } else { Restarts::Off },
            orders: ask,
            levels: Some(Box::new(move |text| Ok(levels.set(text)?))),
            gate: gate.clone(),
            counters: Arc::clone(&counters),
            sink: sink.clone(),
        });
        let mut tasks = JoinSet::new();
        if let Some(listener) = status {
            tasks.spawn(async { match server.run(listener).await {} });
        }
        if let Some(listener) = admin_listener {
            let proxy = AdminProxy::new(admins, gate);
            tasks.spawn(async { match proxy.run(listener).await {} });
        }
        let follower = engine.is_on().then(|| ConfigWatcher::start(given.clone(), Arc::clone(&first)));
        let cgroup = Arc::new(Cgroup::of_process());
        let driver = Self {
            plans,
            bootstraps,
            run_folder,
            engine,
            supervisor,
            children,
            signals,
            timers: Timers::default(),
            phases,
            seen,
            sights,
            orders,
            follower,
            admin,
            expected: expect,
            bulletin: Bulletin::new(publisher, own_ports(config)),
            ledger: Ledger::default(),
            validation: None,
            company: Company::new(companion, serving, policy.drain.deadline)?,
            pending: VecDeque::new(),
            tasks,
            observers: JoinSet::new(),
            fault: None,
            pumps: JoinSet::new(),
            sink,
            counters,
            draining_since: None,
            autopsies: JoinSet::new(),
            kills: OomCount::of(&cgroup),
            cgroup,
            termination_log: PathBuf::from(&config.variables.termination_log),
        };
        Ok((driver, effects))
    }

    async fn run(&mut self, mut effects: Vec<Effect>) -> anyhow::Result<u8> {
        loop {
            for effect in effects {
                if let Effect::Exit(code) = effect {
                    return self.finish(code).await;
                }
                self.perform(effect).await;
            }
            self.publish();
            let event = self.choose().await?;
            effects = self.decide(event);
            if let Event::Died(launch, _) | Event::SpawnFailed(launch, _) = event {
                effects = self.settle(launch, effects).await;
            }
        }
    }

    /// The next event. May be cancelled between two wakes only by its caller's end.
    async fn choose(&mut self) -> anyhow::Result<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            let wake = tokio::select! {
                caught = self.signals.next() => Wake::Signal(caught.context("wait for signals")?),
                timer = self.timers.next() => Wake::Timer(timer),
                Some(sight) = self.sights.recv() => Wake::Sight(sight),
                Some(order) = self.orders.recv() => Wake::Order(order),
                news = news::next(&mut self.follower) => Wake::News(news),
                news = self.company.next() => Wake::Company(news),
                () = validation::overdue(self.validation.as_ref()) => Wake::Validation,
                Some(oom) = self.autopsies.join_next() => Wake::Autopsy(oom.unwrap_or(Oom::Unknown)),
                Some(_) = self.observers.join_next() => continue,
                Some(ended) = self.tasks.join_next() => Wake::Ended(match ended {
                    Ok(task) => format!("the {task} ended"),
                    Err(error) => format!("a task broke: {error}"),
                }),
            };
            self.wake(wake).await;
        }
    }

    fn decide(&mut self, event: Event) -> Vec<Effect> {
        let before = self.supervisor.phase();
        if let Event::Live(launch) = event {
            self.ledger.live(launch);
        }
        if let (Event::Died(launch, status), Some(rising)) = (event, before.rising)
            && rising.launch == launch
        {
            let words = self.ledger.get(launch).and_then(|entry| entry.last_words.reason());
            self.bulletin.failed(words.unwrap_or_else(|| format!("it ended before it was LIVE: {status}")));
        }
        if let Event::Died(launch, status) = event
            && let Some(reason) = self.ledger.died(launch, status, before)
        {
            self.counters.exited(reason);
        }
        let effects = self.supervisor.on_event(event, Instant::now());
        let after = self.supervisor.phase();
        if before != after {
            journal::log(event, before, after);
            journal::count(event, before, after, &self.counters);
            self.time_drain(after.stage);
            self.phases.send_replace(after);
            self.tell_admin();
            self.bulletin.transition(event, before, after);
        }
        effects
    }

    /// Draining is the one phase whose length is asked for afterwards.
    fn time_drain(&mut self, stage: Stage) {
        if stage == Stage::Draining {
            self.draining_since.get_or_insert_with(Instant::now);
        } else if let Some(since) = self.draining_since.take() {
            let lasted = since.elapsed();
            self.counters.drained(lasted);
            info!(millis = lasted.as_millis(), "drained");
        }
    }

    fn publish(&mut self) {
        let phase = self.supervisor.phase();
        let wanted = self.plans.latest().map(|plan| plan.desired.hash);
        self.bulletin.publish(phase, &self.ledger, wanted, &self.timers);
    }
}

/// Of listeners that are nobody's traffic.
fn own_ports(config: &Config) -> Vec<u16> {
    let variables = &config.variables;
    vec![
        variables.envoy_status_port,
        variables.envoy_prometheus_port,
        variables.secure_metrics_port,
        variables.secure_merged_metrics_port,
    ]
}

async fn listen(address: SocketAddr, what: &str) -> anyhow::Result<tokio::net::TcpListener> {
    status::bind(address).await.with_context(|| format!("listen on {address} for {what}"))
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("supervisor", &self.supervisor)
            .field("children", &self.children)
            .field("timers", &self.timers)
            .field("engine", &self.engine)
            .field("log_lines_dropped", &self.sink.dropped())
            .finish_non_exhaustive()
    }
}

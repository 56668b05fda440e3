//! Runs the agent: takes the next event, lets the supervisor decide, performs the effects.
//!
//! ```text
//!   signals ─┐                                            ┌▶ children: spawn, signal
//!   timers  ─┤  Event    supervisor   Effect   perform    ├▶ hot restart: sockets, shared memory
//!   observer ┼─────────▶ on_event() ──────────────────────┼▶ admin: drain, probe
//!   status  ─┤             │                              ├▶ timers
//!   files   ─┘             └──▶ watch<Phase> ──▶ status,   └▶ exit
//!                                     observers, lifecycle
//! ```
//!
//! `select!` only picks an input, so cancelling the other branches loses nothing. Each decision is logged once, here.
//! The driver makes no decision about Envoy.

mod app_process;
mod bootstrap_folder;
mod config_change;
mod input;
mod instances;
mod launch_spec;
mod lifecycle_publisher;
mod observer;
mod perform;
mod policy;
mod probe;
mod shutdown;
mod start;
mod timers;
mod transition_log;
mod validation;

use std::{
    collections::VecDeque,
    fmt,
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

pub(crate) use self::app_process::AppSource;
use self::{
    app_process::AppProcess, bootstrap_folder::BootstrapFolder, input::Input, instances::InstanceTable,
    launch_spec::LaunchSpecs, lifecycle_publisher::LifecyclePublisher, observer::Observation, timers::Timers,
    validation::Validation,
};
use crate::{
    cgroup::{Cgroup, Oom, OomCount},
    desired::{ConfigWatcher, DesiredState, FixedInputs},
    envoy_admin::EnvoyAdmin,
    handover::HotRestartBackend,
    logs::{Sink, subscriber::LevelControl},
    process::ChildProcesses,
    signals::Signals,
    status::{self, ControlRequest, Counters},
    supervisor::{Effect, Event, Phase, Stage, Supervisor},
};

/// Time to wait for the end of Envoy's standard error. An orphan of Envoy may hold the pipe open forever.
const STDERR_TIMEOUT: Duration = Duration::from_millis(250);

/// Settings of one run of the agent.
pub(crate) struct Settings {
    /// The sources of every configuration.
    pub(crate) fixed_inputs: FixedInputs,
    /// The first configuration.
    pub(crate) first: Arc<DesiredState>,
    /// Process whose exit ends the agent.
    pub(crate) app: Option<AppSource>,
    /// Control of the agent's own log levels.
    pub(crate) levels: LevelControl,
}

/// The running agent.
struct Driver {
    supervisor: Supervisor,
    /// Events that have arrived, oldest first.
    pending: VecDeque<Event>,
    inputs: Inputs,
    outputs: Outputs,
    records: Records,
}

/// Sources of events.
struct Inputs {
    signals: Signals,
    timers: Timers,
    observations: mpsc::Receiver<Observation>,
    /// Cloned by everything that reports observations.
    observation_sender: mpsc::Sender<Observation>,
    orders: mpsc::Receiver<ControlRequest>,
    /// `None` if hot restart is off: a change could not be applied.
    config_watcher: Option<ConfigWatcher>,
    app: AppProcess,
    validation: Option<Validation>,
    /// Observers and probes of Envoys.
    observers: JoinSet<()>,
    /// Reads of the kernel's OOM-kill counter after a death by SIGKILL.
    oom_checks: JoinSet<Oom>,
    /// Servers that run as long as the agent. The agent terminates if one of them ends.
    tasks: JoinSet<&'static str>,
}

/// Objects that effects change, and published state.
struct Outputs {
    children: ChildProcesses,
    backend: HotRestartBackend,
    bootstrap_folder: BootstrapFolder,
    /// Folder of the agent's sockets.
    run_folder: PathBuf,
    phases: watch::Sender<Phase>,
    /// Admin of the Envoy that serves.
    admin: watch::Sender<Option<EnvoyAdmin>>,
    /// xDS resources that the Envoy that serves needs to be ready.
    expected: watch::Sender<status::Expected>,
    publisher: LifecyclePublisher,
    sink: Sink,
    /// Readers of Envoy's output, and requests to Envoys that need no answer.
    pumps: JoinSet<()>,
}

/// Bookkeeping besides the supervisor's state.
struct Records {
    launch_specs: LaunchSpecs,
    instances: InstanceTable,
    counters: Arc<Counters>,
    draining_since: Option<Instant>,
    /// First failure of a task of the agent; the reason of its end.
    fault: Option<anyhow::Error>,
    cgroup: Arc<Cgroup>,
    oom_count: OomCount,
    termination_log: PathBuf,
}

/// Runs the agent until it ends and returns its exit code.
pub(crate) async fn run(settings: Settings, sink: Sink) -> anyhow::Result<u8> {
    let (mut driver, effects) = Driver::start(settings, sink).await?;
    driver.run(effects).await
}

// === impl Driver ===

impl Driver {
    async fn run(&mut self, mut effects: Vec<Effect>) -> anyhow::Result<u8> {
        loop {
            for effect in effects {
                if let Effect::Exit(code) = effect {
                    return self.finish(code).await;
                }
                self.perform(effect).await;
            }
            self.publish();
            let event = self.next_event().await?;
            effects = self.decide(event);
            if let Event::Died(launch, _) | Event::SpawnFailed(launch, _) = event {
                effects = self.clean_up(launch, effects).await;
            }
        }
    }

    /// Returns the next event. Not cancel-safe while an input is being handled.
    async fn next_event(&mut self) -> anyhow::Result<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            let inputs = &mut self.inputs;
            let input = tokio::select! {
                signal = inputs.signals.next() => Input::Signal(signal.context("wait for signals")?),
                timer = inputs.timers.next() => Input::Timer(timer),
                Some(observation) = inputs.observations.recv() => Input::Observation(observation),
                Some(order) = inputs.orders.recv() => Input::ControlRequest(order),
                update = lifecycle_publisher::next(&mut inputs.config_watcher) => Input::Config(update),
                event = inputs.app.next() => Input::App(event),
                () = validation::overdue(inputs.validation.as_ref()) => Input::ValidationOverdue,
                Some(oom) = inputs.oom_checks.join_next() => Input::OomCheck(oom.unwrap_or(Oom::Unknown)),
                Some(_) = inputs.observers.join_next() => continue,
                Some(ended) = inputs.tasks.join_next() => Input::TaskEnded(match ended {
                    Ok(task) => format!("the {task} ended"),
                    Err(error) => format!("a task failed: {error}"),
                }),
            };
            self.handle_input(input).await;
        }
    }

    fn decide(&mut self, event: Event) -> Vec<Effect> {
        let before = self.supervisor.phase();
        let Records { instances, counters, .. } = &mut self.records;
        if let Event::Live(launch) = event {
            instances.set_live(launch);
        }
        if let (Event::Died(launch, status), Some(successor)) = (event, before.successor)
            && successor.launch == launch
        {
            let last_error = instances.get(launch).and_then(|instance| instance.stderr_tail.reason());
            let reason = last_error.unwrap_or_else(|| format!("it ended before it was LIVE: {status}"));
            self.outputs.publisher.handover_failed(reason);
        }
        if let Event::Died(launch, status) = event
            && let Some(reason) = instances.remove(launch, status, before)
        {
            counters.exited(reason);
        }
        let effects = self.supervisor.on_event(event, Instant::now());
        let after = self.supervisor.phase();
        if before != after {
            transition_log::log(event, before, after);
            transition_log::count(event, before, after, counters);
            self.time_drain(after.stage);
            self.outputs.phases.send_replace(after);
            self.publish_admin();
            self.outputs.publisher.transition(event, before, after);
        }
        effects
    }

    /// Measures the duration of the drain, for the log.
    fn time_drain(&mut self, stage: Stage) {
        let Records { draining_since, counters, .. } = &mut self.records;
        if stage == Stage::Draining {
            draining_since.get_or_insert_with(Instant::now);
        } else if let Some(since) = draining_since.take() {
            let elapsed = since.elapsed();
            counters.drained(elapsed);
            info!(millis = elapsed.as_millis(), "drained");
        }
    }

    fn publish(&mut self) {
        let phase = self.supervisor.phase();
        let desired = self.records.launch_specs.latest().map(|spec| spec.desired.hash);
        self.outputs.publisher.publish(phase, &self.records.instances, desired, &self.inputs.timers);
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("supervisor", &self.supervisor)
            .field("children", &self.outputs.children)
            .field("timers", &self.inputs.timers)
            .field("engine", &self.outputs.backend)
            .field("log_lines_dropped", &self.outputs.sink.dropped())
            .finish_non_exhaustive()
    }
}

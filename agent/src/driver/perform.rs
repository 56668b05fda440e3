//! Performs the supervisor's effects, in order.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use nix::unistd::Pid;
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::{
    Driver, bootstrap_folder,
    instances::Instance,
    launch_spec::LaunchSpec,
    observer::{Observation, ObservationKind, Observer},
};
use crate::{
    bootstrap::argv::{HotRestartFlags, LaunchArgs as CommandLine, argv},
    envoy_admin::{AdminError, EnvoyAdmin},
    handover::{DrainRequest, HotRestartArgs},
    logs::{self, ErrorChain, StderrTail, envoy::LogOrigin},
    process::{self, ChildId, ChildOutput, ChildStdio, Program},
    supervisor::{
        Coupling, DrainScope, Effect, EnvoySignal, Event, Generation, Launch, SpawnFailure, StartMode, Timer,
    },
};

/// Back-off delays grow by up to one part in this many, so that the agents of many pods do not retry together.
const JITTER: u32 = 5;

/// Limit for a request to an Envoy during which signals and deadlines wait.
const LISTENERS_TIMEOUT: Duration = Duration::from_millis(200);

impl Driver {
    pub(super) async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Validate(revision) => self.validate(revision).await,
            Effect::Spawn(new, start) => self.spawn(new, start).await,
            Effect::StopAccepting(predecessor, Coupling::Independent) => {
                self.stop_accepting(predecessor).await;
            }
            Effect::RepairSegment(dead) => self.outputs.backend.repair_segment(dead),
            Effect::EmulateParent(parent) => self.outputs.backend.emulate_parent(parent),
            Effect::AnswerPendingStats(dead) => self.outputs.backend.answer_pending_stats(dead),
            Effect::Probe { launch, predecessor, after } => self.probe(launch, predecessor, after),
            Effect::Drain(launch, scope) => self.drain(launch, scope),
            Effect::ReleaseListeners => self.outputs.backend.release_listeners(),
            Effect::Signal(launch, signal) => self.signal(launch, signal),
            Effect::ArmTimer(timer, after) => {
                let after = match timer {
                    Timer::Respawn | Timer::Retry => after + jitter(after),
                    _ => after,
                };
                self.inputs.timers.arm(timer, Instant::now() + after);
            }
            // The successor has already done it; `run` has returned.
            Effect::StopAccepting(_, Coupling::Coupled) | Effect::Exit(_) => {}
        }
    }

    fn signal(&mut self, launch: Launch, signal: EnvoySignal) {
        let epoch = self.records.instances.get(launch).map(|instance| instance.generation.epoch.get());
        match signal {
            EnvoySignal::Kill => warn!(epoch, "killing Envoy"),
            EnvoySignal::Terminate | EnvoySignal::ReopenLogs => debug!(epoch, ?signal, "signalling Envoy"),
        }
        self.records.instances.set_signalled(launch, signal);
        if let Err(error) = self.outputs.children.signal(launch, signal) {
            error!(%error, epoch, ?signal, "cannot signal Envoy");
        }
    }

    /// Sends a drain request in the background. The drain deadline is armed already.
    fn drain(&mut self, launch: Launch, scope: DrainScope) {
        let Some(admin) = self.records.instances.get(launch).map(|instance| instance.admin.clone()) else {
            return;
        };
        let observations = self.inputs.observation_sender.clone();
        self.outputs.pumps.spawn(async move {
            match admin.drain(scope).await {
                Ok(()) => info!(?scope, "Envoy drains its listeners"),
                Err(error) => {
                    warn!(error = %ErrorChain(&error), ?scope, "cannot drain Envoy's listeners");
                    if scope == DrainScope::All {
                        // Fails only when the driver has ended.
                        drop(
                            observations
                                .send(Observation { launch, kind: ObservationKind::DrainFailed })
                                .await,
                        );
                    }
                }
            }
        });
    }

    /// Makes a predecessor stop accepting: connections in the listen queues belong to its successor. Uses the hot
    /// restart protocol, because the admin's `drain_listeners` before 1.40 leaves idle connections to their clients.
    async fn stop_accepting(&mut self, predecessor: Launch) {
        let Some(instance) = self.records.instances.get(predecessor) else { return };
        let (generation, admin) = (instance.generation, instance.admin.clone());
        match self.outputs.backend.stop_accepting(generation).await {
            Ok(DrainRequest::Sent) => return,
            Ok(DrainRequest::Unsupported) => {}
            Err(error) => warn!(error = %ErrorChain(&error), "cannot ask the predecessor to stop accepting"),
        }
        self.outputs.pumps.spawn(async move {
            if let Err(error) = admin.close_listeners().await {
                warn!(error = %ErrorChain(&error), "the predecessor keeps accepting");
            }
        });
    }

    async fn spawn(&mut self, new: Generation, start: StartMode) {
        // A predecessor that is leaving has closed its listeners.
        let owner = self.supervisor.phase().owner.map(|owner| owner.launch);
        if let StartMode::After(predecessor, Coupling::Independent) = start
            && owner == Some(predecessor)
        {
            self.retain_listeners(predecessor).await;
        }
        if new.launch != Launch::FIRST && !matches!(start, StartMode::After(..)) {
            self.records.counters.restarted();
        }
        let Some(spec) = self.records.launch_specs.get(new.revision).cloned() else {
            error!(revision = %new.revision, "unknown revision");
            return self.spawn_failed(new, SpawnFailure::Transient);
        };
        let hot_restart_args = match (self.outputs.backend.prepare(new, start).await, start) {
            (Ok(hot_restart_args), _) => hot_restart_args,
            // A cold start loses only the next hand-over.
            (Err(error), StartMode::Cold) => {
                warn!(error = %ErrorChain(&error), "no hot restart for this Envoy");
                HotRestartArgs::Off
            }
            (Err(error), StartMode::After(..)) => {
                error!(error = %ErrorChain(&error), epoch = %new.epoch, "cannot hand over");
                return self.spawn_failed(new, SpawnFailure::Transient);
            }
        };
        match self.start_envoy(new, &spec, &hot_restart_args).await {
            Ok(pid) => info!(
                epoch = %new.epoch, launch = %new.launch, %pid, hash = %spec.desired.hash,
                engine = self.outputs.backend.mode(new.launch).as_str(), "started Envoy"
            ),
            Err(error) => {
                let binary = spec.config().envoy.binary.display();
                error!(%error, epoch = %new.epoch, %binary, "cannot start Envoy");
                self.spawn_failed(new, process::failure(&error));
            }
        }
    }

    fn spawn_failed(&mut self, new: Generation, failure: SpawnFailure) {
        self.pending.push_front(Event::SpawnFailed(new.launch, failure));
    }

    /// Fetches the listening sockets anew: they may have changed since the last look.
    async fn retain_listeners(&mut self, predecessor: Launch) {
        let Some(instance) = self.records.instances.get(predecessor) else { return };
        let (generation, admin) = (instance.generation, instance.admin.clone());
        match timeout(LISTENERS_TIMEOUT, admin.listeners())
            .await
            .unwrap_or(Err(AdminError::Silent(LISTENERS_TIMEOUT)))
        {
            Ok(listeners) => {
                let addresses = super::observer::addresses(&listeners);
                if let Err(error) = self.outputs.backend.retain_listeners(generation, &addresses).await {
                    warn!(error = %ErrorChain(&error), "handing over the sockets of the last look");
                }
            }
            Err(error) => warn!(error = %ErrorChain(&error), "handing over the sockets of the last look"),
        }
    }

    async fn start_envoy(
        &mut self,
        new: Generation,
        spec: &LaunchSpec,
        hot_restart_args: &HotRestartArgs,
    ) -> io::Result<Pid> {
        let socket = bootstrap_folder::admin_socket(&self.outputs.run_folder, new.launch);
        let (bootstrap, admin) = spec.bootstrap(&socket);
        Self::write_side_files(spec)?;
        let path = self.outputs.bootstrap_folder.write(new.epoch, bootstrap.as_bytes())?;
        let (hot_restart, restart_epoch) = match hot_restart_args {
            HotRestartArgs::Off => (HotRestartFlags::Off, 0),
            HotRestartArgs::On { base_id, socket_path, epoch, parent_shutdown } => {
                let (base_id, epoch, parent_shutdown) = (*base_id, *epoch, *parent_shutdown);
                (HotRestartFlags::On { base_id, socket_path, epoch, parent_shutdown }, epoch)
            }
        };
        let arguments = argv(spec.config(), CommandLine { bootstrap: &path, hot_restart });
        let program =
            Program { path: spec.config().envoy.binary.clone(), arguments, stdio: ChildStdio::Piped };
        let (pid, output) = self.outputs.children.spawn(ChildId::Envoy(new.launch), program).await?;
        let stderr_tail = StderrTail::default();
        if let Some(output) = output {
            self.pump(output, LogOrigin { epoch: new.epoch, pid }, &stderr_tail);
        }
        let observer = Observer {
            launch: new.launch,
            pid,
            admin: admin.clone(),
            bootstrap: path.clone(),
            restart_epoch,
            expected: spec.expected,
            phases: self.outputs.phases.subscribe(),
            observations: self.inputs.observation_sender.clone(),
        };
        let mode = self.outputs.backend.mode(new.launch);
        let identity = (restart_epoch, path);
        self.records.instances.insert(Instance::new(
            (new, pid),
            (admin, mode),
            identity,
            spec.desired.hash,
            stderr_tail,
        ));
        self.outputs.phases.send_replace(self.supervisor.phase());
        self.publish_admin();
        self.inputs.observers.spawn(observer.run());
        Ok(pid)
    }

    /// Writes the files that the bootstrap refers to.
    pub(super) fn write_side_files(spec: &LaunchSpec) -> io::Result<()> {
        spec.desired
            .rendered
            .files
            .iter()
            .try_for_each(|file| bootstrap_folder::write(&file.path, file.contents.as_bytes()))
    }

    /// Forwards a child's output to the agent's log.
    pub(super) fn pump(&mut self, output: ChildOutput, origin: LogOrigin, last: &StderrTail) {
        while self.outputs.pumps.try_join_next().is_some() {}
        let (sink, last) = (self.outputs.sink.clone(), last.clone());
        let access = logs::drain_access(output.stdout.into(), sink.clone());
        let log = logs::drain_log(output.stderr.into(), origin, sink, last);
        self.outputs.pumps.spawn(log_errors(access));
        self.outputs.pumps.spawn(log_errors(log));
    }

    /// Performs the effects that concern a dead Envoy, removes its state, and returns the other effects.
    pub(super) async fn clean_up(&mut self, dead: Launch, effects: Vec<Effect>) -> Vec<Effect> {
        let (for_dead, rest): (Vec<_>, Vec<_>) = effects.into_iter().partition(|effect| {
            matches!(
                effect,
                Effect::RepairSegment(_) | Effect::EmulateParent(_) | Effect::AnswerPendingStats(_)
            )
        });
        for effect in for_dead {
            self.perform(effect).await;
        }
        self.outputs.backend.forget(dead);
        drop(fs::remove_file(bootstrap_folder::admin_socket(&self.outputs.run_folder, dead)));
        rest
    }

    /// Publishes the admin of the Envoy that serves.
    pub(super) fn publish_admin(&mut self) {
        let owner = self.supervisor.phase().owner;
        if let Some(spec) = owner.and_then(|owner| self.records.launch_specs.get(owner.revision)) {
            self.outputs
                .expected
                .send_if_modified(|expected| std::mem::replace(expected, spec.expected) != spec.expected);
        }
        let current: Option<EnvoyAdmin> = owner
            .and_then(|owner| self.records.instances.get(owner.launch))
            .map(|instance| instance.admin.clone());
        self.outputs.admin.send_if_modified(|admin| {
            let changed = *admin != current;
            admin.clone_from(&current);
            changed
        });
    }
}

async fn log_errors(pump: impl Future<Output = io::Result<()>>) {
    if let Err(error) = pump.await {
        error!(%error, "cannot read Envoy's output");
    }
}

/// Returns a random part of the delay, at most one in [`JITTER`].
fn jitter(delay: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let limit = u64::try_from((delay / JITTER).as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(RandomState::new().hash_one(()).checked_rem(limit.saturating_add(1)).unwrap_or(0))
}

//! Does what the supervisor says, one effect after the other.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use nix::unistd::Pid;
use tokio::time::timeout;
use tracing::{debug, error, info, warn};

use super::{
    Driver, bootstraps,
    journal::Chain,
    ledger::Entry,
    observer::{Observer, Sight, What},
    plan::Plan,
};
use crate::{
    bootstrap::argv::{HotRestart, Launch as CommandLine, argv},
    engine::{Asked, Link},
    envoy_admin::{AdminError, EnvoyAdmin},
    logs::{self, LastWords, envoy::Origin},
    process::{self, Child, Output, Program, Wiring},
    supervisor::{
        Bond, DrainScope, Effect, EnvoySignal, Event, Generation, Launch, SpawnFailure, Start, Timer,
    },
};

/// Agents of many pods that failed together do not try again together: up to this much of the delay more.
const JITTER: u32 = 5;

/// While an Envoy is asked here, signals and deadlines wait.
const BRIEFLY: Duration = Duration::from_millis(200);

impl Driver {
    pub(super) async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Validate(revision) => self.validate(revision).await,
            Effect::Spawn(new, start) => self.spawn(new, start).await,
            Effect::Retire(old, Bond::Loose) => self.retire(old).await,
            Effect::Repair(dead) => self.engine.repair(dead),
            Effect::EmulateParent(parent) => self.engine.emulate_parent(parent),
            Effect::AnswerPendingStats(dead) => self.engine.answer_pending_stats(dead),
            Effect::Probe { launch, predecessor, after } => self.probe(launch, predecessor, after),
            Effect::Drain(launch, scope) => self.drain(launch, scope),
            Effect::LetGo => self.engine.let_go(),
            Effect::Signal(launch, signal) => self.signal(launch, signal),
            Effect::Arm(timer, after) => {
                let after = match timer {
                    Timer::Respawn | Timer::Retry => after + jitter(after),
                    _ => after,
                };
                self.timers.arm(timer, Instant::now() + after);
            }
            // Its successor has told it; `run` has left already.
            Effect::Retire(_, Bond::Tied) | Effect::Exit(_) => {}
        }
    }

    fn signal(&mut self, launch: Launch, signal: EnvoySignal) {
        let epoch = self.ledger.get(launch).map(|entry| entry.generation.epoch.get());
        match signal {
            EnvoySignal::Kill => warn!(epoch, "killing Envoy"),
            EnvoySignal::Terminate | EnvoySignal::ReopenLogs => debug!(epoch, ?signal, "signalling Envoy"),
        }
        self.ledger.told(launch, signal);
        if let Err(error) = self.children.signal(launch, signal) {
            error!(%error, epoch, ?signal, "cannot signal Envoy");
        }
    }

    /// The deadline is armed already, so that a deaf admin delays nothing.
    fn drain(&mut self, launch: Launch, scope: DrainScope) {
        let Some(admin) = self.ledger.get(launch).map(|entry| entry.admin.clone()) else { return };
        let deaf = self.seen.clone();
        self.pumps.spawn(async move {
            match admin.drain(scope).await {
                Ok(()) => info!(?scope, "Envoy drains its listeners"),
                Err(error) => {
                    warn!(error = %Chain(&error), ?scope, "cannot drain Envoy's listeners");
                    if scope == DrainScope::All {
                        // An error is the driver's end.
                        drop(deaf.send(Sight { launch, what: What::Deaf }).await);
                    }
                }
            }
        });
    }

    /// The old one must not accept any more: what waits in the queues is its successor's. Over the protocol of hot
    /// restart, because the admin's `drain_listeners` of before 1.40 lets idle clients keep their connections.
    async fn retire(&mut self, old: Launch) {
        let Some(entry) = self.ledger.get(old) else { return };
        let (generation, admin) = (entry.generation, entry.admin.clone());
        match self.engine.retire(generation).await {
            Ok(Asked::Yes) => return,
            Ok(Asked::CannotBe) => {}
            Err(error) => warn!(error = %Chain(&error), "cannot ask the old Envoy to stop accepting"),
        }
        self.pumps.spawn(async move {
            if let Err(error) = admin.close_listeners().await {
                warn!(error = %Chain(&error), "the old Envoy goes on accepting");
            }
        });
    }

    async fn spawn(&mut self, new: Generation, start: Start) {
        // One that already leaves has closed what it listened on.
        let owner = self.supervisor.phase().owner.map(|owner| owner.launch);
        if let Start::After(old, Bond::Loose) = start
            && owner == Some(old)
        {
            self.hold(old).await;
        }
        if new.launch != Launch::FIRST && !matches!(start, Start::After(..)) {
            self.counters.restarted();
        }
        let Some(plan) = self.plans.get(new.revision).cloned() else {
            error!(revision = %new.revision, "nothing is known of this revision");
            return self.spawn_failed(new, SpawnFailure::Transient);
        };
        let link = match (self.engine.prepare(new, start).await, start) {
            (Ok(link), _) => link,
            // Without a predecessor there is nothing to lose but the next hand-over.
            (Err(error), Start::Cold) => {
                warn!(error = %Chain(&error), "no hot restart for this Envoy");
                Link::Off
            }
            (Err(error), Start::After(..)) => {
                error!(error = %Chain(&error), epoch = %new.epoch, "cannot hand over");
                return self.spawn_failed(new, SpawnFailure::Transient);
            }
        };
        match self.start_envoy(new, &plan, &link).await {
            Ok(pid) => info!(
                epoch = %new.epoch, launch = %new.launch, %pid, hash = %plan.desired.hash,
                engine = self.engine.way(new.launch).as_str(), "started Envoy"
            ),
            Err(error) => {
                let binary = plan.config().envoy.binary.display();
                error!(%error, epoch = %new.epoch, %binary, "cannot start Envoy");
                self.spawn_failed(new, process::failure(&error));
            }
        }
    }

    fn spawn_failed(&mut self, new: Generation, why: SpawnFailure) {
        self.pending.push_front(Event::SpawnFailed(new.launch, why));
    }

    /// What the old one listens on may have changed within the last second.
    async fn hold(&mut self, old: Launch) {
        let Some(entry) = self.ledger.get(old) else { return };
        let (generation, admin) = (entry.generation, entry.admin.clone());
        match timeout(BRIEFLY, admin.listeners()).await.unwrap_or(Err(AdminError::Silent(BRIEFLY))) {
            Ok(listeners) => {
                let addresses = super::observer::addresses(&listeners);
                if let Err(error) = self.engine.hold(generation, &addresses).await {
                    warn!(error = %Chain(&error), "handing over what was held before");
                }
            }
            Err(error) => warn!(error = %Chain(&error), "handing over what was held before"),
        }
    }

    async fn start_envoy(&mut self, new: Generation, plan: &Plan, link: &Link) -> io::Result<Pid> {
        let socket = bootstraps::admin_socket(&self.run_folder, new.launch);
        let (bootstrap, admin) = plan.bootstrap(&socket);
        Self::write_side_files(plan)?;
        let path = self.bootstraps.write(new.epoch, bootstrap.as_bytes())?;
        let (hot_restart, restart_epoch) = match link {
            Link::Off => (HotRestart::Off, 0),
            Link::On { base_id, socket_path, epoch, parent_shutdown } => {
                let (base_id, epoch, parent_shutdown) = (*base_id, *epoch, *parent_shutdown);
                (HotRestart::On { base_id, socket_path, epoch, parent_shutdown }, epoch)
            }
        };
        let arguments = argv(plan.config(), CommandLine { bootstrap: &path, hot_restart });
        let program = Program { path: plan.config().envoy.binary.clone(), arguments, wiring: Wiring::Piped };
        let (pid, output) = self.children.spawn(Child::Envoy(new.launch), program).await?;
        let last_words = LastWords::default();
        if let Some(output) = output {
            self.pump(output, Origin { epoch: new.epoch, pid }, &last_words);
        }
        let observer = Observer {
            launch: new.launch,
            pid,
            admin: admin.clone(),
            bootstrap: path.clone(),
            restart_epoch,
            expected: plan.expected,
            phases: self.phases.subscribe(),
            sights: self.seen.clone(),
        };
        let way = self.engine.way(new.launch);
        let identity = (restart_epoch, path);
        self.ledger.enter(Entry::new((new, pid), (admin, way), identity, plan.desired.hash, last_words));
        self.phases.send_replace(self.supervisor.phase());
        self.tell_admin();
        self.observers.spawn(observer.run());
        Ok(pid)
    }

    /// Files the bootstrap refers to come before it.
    pub(super) fn write_side_files(plan: &Plan) -> io::Result<()> {
        plan.desired
            .rendered
            .files
            .iter()
            .try_for_each(|file| bootstraps::write(&file.path, file.contents.as_bytes()))
    }

    pub(super) fn pump(&mut self, output: Output, origin: Origin, last: &LastWords) {
        while self.pumps.try_join_next().is_some() {}
        let (sink, last) = (self.sink.clone(), last.clone());
        let access = logs::drain_access(output.stdout.into(), sink.clone());
        let log = logs::drain_log(output.stderr.into(), origin, sink, last);
        self.pumps.spawn(noted(access));
        self.pumps.spawn(noted(log));
    }

    /// An Envoy is gone: what the supervisor wants done about it comes first, then what was its goes.
    pub(super) async fn settle(&mut self, dead: Launch, effects: Vec<Effect>) -> Vec<Effect> {
        let (about_it, rest): (Vec<_>, Vec<_>) = effects.into_iter().partition(|effect| {
            matches!(effect, Effect::Repair(_) | Effect::EmulateParent(_) | Effect::AnswerPendingStats(_))
        });
        for effect in about_it {
            self.perform(effect).await;
        }
        self.engine.forget(dead);
        drop(fs::remove_file(bootstraps::admin_socket(&self.run_folder, dead)));
        rest
    }

    /// Where the admin of the one that serves is.
    pub(super) fn tell_admin(&mut self) {
        let owner = self.supervisor.phase().owner;
        if let Some(plan) = owner.and_then(|owner| self.plans.get(owner.revision)) {
            self.expected
                .send_if_modified(|expected| std::mem::replace(expected, plan.expected) != plan.expected);
        }
        let now: Option<EnvoyAdmin> =
            owner.and_then(|owner| self.ledger.get(owner.launch)).map(|entry| entry.admin.clone());
        self.admin.send_if_modified(|admin| {
            let changed = *admin != now;
            admin.clone_from(&now);
            changed
        });
    }
}

async fn noted(pump: impl Future<Output = io::Result<()>>) {
    if let Err(error) = pump.await {
        error!(%error, "cannot read what Envoy writes");
    }
}

/// Somewhere up to a fifth of the delay.
fn jitter(delay: Duration) -> Duration {
    use std::hash::{BuildHasher, RandomState};
    let most = u64::try_from((delay / JITTER).as_millis()).unwrap_or(u64::MAX);
    Duration::from_millis(RandomState::new().hash_one(()).checked_rem(most.saturating_add(1)).unwrap_or(0))
}

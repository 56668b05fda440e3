//! Runs the agent: chooses the next event, lets the supervisor decide, does what it says.
//!
//! ```text
//!   signals ─┐                                            ┌▶ children: spawn, signal
//!   timers  ─┤  Event    supervisor   Effect   perform    ├▶ admin: drain
//!   observer ┼─────────▶ on_event() ──────────────────────┼▶ timers
//!   status  ─┘             │                              └▶ exit
//!                          └──▶ watch<Phase> ──▶ status, observer
//! ```
//!
//! `select!` only picks, so that whatever it drops loses nothing; one line is logged per decision, here.
//! It deliberately decides nothing about Envoy.

mod journal;
mod observer;
mod revision;
mod timers;

use std::{
    collections::VecDeque,
    ffi::OsString,
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, anyhow};
use tokio::{
    sync::{mpsc, watch},
    task::JoinSet,
    time::timeout,
};
use tracing::{debug, error, info, warn};

use self::{
    journal::Chain,
    observer::{Observer, Sight},
    revision::Revisions,
    timers::Timers,
};
use crate::{
    envoy_admin::EnvoyAdmin,
    lifecycle::{self, Lifecycle, Publisher},
    logs::{self, LastWords, Sink, Stream},
    peer::{Gate, TrustedUids},
    process::{self, Children, Program},
    signals::{Caught, Signals},
    status::{self, Counters, Expected, Order, StatusServer, Wiring},
    supervisor::{Effect, EnvoySignal, Epoch, Event, Phase, Policy, Stage, Supervisor, Timer},
};

/// Sights and requests wait for one turn of the loop; whoever finds no room waits or is refused.
const QUEUE: usize = 16;

/// What Envoy wrote last is worth this much waiting. An orphan of Envoy's may hold the pipe for ever.
const LAST_WORDS: Duration = Duration::from_millis(250);

/// Everything an agent is told before it starts.
pub struct Settings {
    /// Durations and budgets.
    pub policy: Policy,
    /// Envoy.
    pub binary: PathBuf,
    /// Its command line, for this epoch and this bootstrap file.
    pub arguments: Arguments,
    /// Its bootstrap, as JSON.
    pub bootstrap: String,
    /// What the bootstrap refers to, by path. Secrets.
    pub files: Vec<(PathBuf, String)>,
    /// Where bootstrap files are written.
    pub folder: PathBuf,
    /// Where Envoy's admin listens.
    pub admin: SocketAddr,
    /// Where the status server is to listen; `None`: there is none.
    pub status: Option<SocketAddr>,
    /// What readiness waits for.
    pub expected: Expected,
}

/// Renders Envoy's command line for an epoch and the bootstrap file it is to read.
pub type Arguments = Box<dyn Fn(Epoch, &Path) -> Vec<OsString> + Send>;

/// The agent at work.
struct Driver {
    settings: Settings,
    revisions: Revisions,
    supervisor: Supervisor,
    children: Children,
    signals: Signals,
    timers: Timers,
    phases: watch::Sender<Phase>,
    sights: mpsc::Receiver<Sight>,
    orders: mpsc::Receiver<Order>,
    lifecycle: Publisher,
    /// Events already here, oldest first.
    pending: VecDeque<Event>,
    /// Tasks that live as long as the agent. One that ends early ends the agent with its reason.
    tasks: JoinSet<&'static str>,
    fault: Option<anyhow::Error>,
    pumps: JoinSet<()>,
    last_words: LastWords,
    sink: Sink,
    counters: Arc<Counters>,
    draining_since: Option<Instant>,
}

/// Something to be turned into events.
enum Wake {
    Signal(Caught),
    Sight(Sight),
    Order(Order),
    Timer(Timer),
    Ended(String),
}

/// Runs the agent until its end; the exit code.
pub async fn run(settings: Settings, sink: Sink) -> anyhow::Result<u8> {
    let (mut driver, effects) = Driver::start(settings, sink).await?;
    driver.run(effects).await
}

// === impl Driver ===

impl Driver {
    /// Takes whatever can be refused (signals, port, folder) before there is an Envoy.
    async fn start(settings: Settings, sink: Sink) -> anyhow::Result<(Self, Vec<Effect>)> {
        let counters = Arc::new(Counters::since(Instant::now()));
        let signals = Signals::catch().context("catch signals")?;
        let listener = match settings.status {
            Some(address) => {
                let bound = status::bind(address).await;
                Some(bound.with_context(|| format!("listen on {address} for status"))?)
            }
            None => None,
        };
        let revisions = Revisions::open(&settings.folder)?;
        for (path, contents) in &settings.files {
            let written = revision::write(path, contents.as_bytes());
            written.with_context(|| format!("write {}", path.display()))?;
        }
        let children = Children::new().context("start the spawner thread")?;

        let (supervisor, effects) = Supervisor::boot(settings.policy);
        let (phases, watching) = watch::channel(supervisor.phase());
        let (seen, sights) = mpsc::channel(QUEUE);
        let (ask, orders) = mpsc::channel(QUEUE);
        let (lifecycle, feed) = lifecycle::channel(Lifecycle::begin(supervisor.phase().stage.as_str()));
        let admin = EnvoyAdmin::at(settings.admin);
        let observer = Observer {
            admin: admin.clone(),
            bootstrap: revisions.path(Epoch::FIRST),
            phases: watching.clone(),
            sights: seen,
        };
        let status = StatusServer::new(Wiring {
            phases: watching,
            admin: watch::channel(Some(admin)).1,
            expected: settings.expected,
            lifecycle: feed,
            orders: ask,
            levels: None,
            gate: Gate::new(TrustedUids::default()),
            counters: Arc::clone(&counters),
            sink: sink.clone(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(async {
            observer.run().await;
            "observer"
        });
        if let Some(listener) = listener {
            tasks.spawn(async { match status.run(listener).await {} });
        }

        let driver = Self {
            settings,
            revisions,
            supervisor,
            children,
            signals,
            timers: Timers::default(),
            phases,
            sights,
            orders,
            lifecycle,
            pending: VecDeque::new(),
            tasks,
            fault: None,
            pumps: JoinSet::new(),
            last_words: LastWords::default(),
            sink,
            counters,
            draining_since: None,
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
            let event = self.choose().await?;
            effects = self.decide(event);
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
                Some(ended) = self.tasks.join_next() => Wake::Ended(match ended {
                    Ok(task) => format!("the {task} ended"),
                    Err(error) => format!("a task broke: {error}"),
                }),
            };
            self.wake(wake);
        }
    }

    fn wake(&mut self, wake: Wake) {
        match wake {
            Wake::Signal(Caught::Terminate) => self.pending.push_back(Event::Terminate),
            Wake::Signal(Caught::ReopenLogs) => self.pending.push_back(Event::ReopenLogs),
            Wake::Signal(Caught::Child) => self.reap(),
            Wake::Signal(Caught::Hangup) => warn!("SIGHUP ignored: nothing can be reloaded yet"),
            Wake::Signal(Caught::Dump) => info!(driver = ?self, "SIGQUIT: this is what I know"),
            Wake::Timer(timer) => {
                self.timers.disarm(timer);
                self.pending.push_back(Event::Due(timer));
            }
            Wake::Sight(Sight { launch, event }) if launch == self.phases.borrow().launch => {
                self.pending.push_back(event);
            }
            Wake::Sight(stale) => debug!(?stale, "late news of an earlier Envoy"),
            Wake::Order(Order::Quit) => self.pending.push_back(Event::Quit),
            Wake::Order(Order::Withdraw) => self.pending.push_back(Event::Withdraw),
            Wake::Order(Order::Restart) => warn!("restart ignored: there is no hand-over yet"),
            Wake::Ended(reason) => {
                error!(reason, "stopping, because a part of the agent is gone");
                self.fault.get_or_insert(anyhow!(reason));
                self.pending.push_back(Event::Terminate);
            }
        }
    }

    fn reap(&mut self) {
        let ended = self.children.reap();
        self.counters.reaped(self.children.orphans());
        for (epoch, status) in ended {
            self.counters.died(status);
            self.pending.push_back(Event::Died(epoch, status));
        }
    }

    fn decide(&mut self, event: Event) -> Vec<Effect> {
        let before = self.supervisor.phase();
        let effects = self.supervisor.on_event(event, Instant::now());
        let after = self.supervisor.phase();
        if before != after {
            journal::log(event, before, after);
            self.time_drain(after.stage);
            self.phases.send_replace(after);
            self.lifecycle.update(|lifecycle| lifecycle.enter(after.stage.as_str()));
        }
        effects
    }

    /// Draining is the one phase whose length is asked for afterwards.
    fn time_drain(&mut self, stage: Stage) {
        if stage == Stage::Draining {
            self.draining_since = Some(Instant::now());
        } else if let Some(since) = self.draining_since.take() {
            let lasted = since.elapsed();
            self.counters.drained(lasted);
            info!(millis = lasted.as_millis(), "drained");
        }
    }

    async fn perform(&mut self, effect: Effect) {
        match effect {
            Effect::Spawn(epoch) => self.spawn(epoch).await,
            Effect::Signal(epoch, signal) => {
                match signal {
                    EnvoySignal::Kill => warn!(%epoch, "killing Envoy"),
                    EnvoySignal::Terminate | EnvoySignal::ReopenLogs => {
                        debug!(%epoch, ?signal, "signalling Envoy");
                    }
                }
                if let Err(error) = self.children.signal(epoch, signal) {
                    error!(%error, %epoch, ?signal, "cannot signal Envoy");
                }
            }
            // The deadline is armed already, so that a deaf admin delays nothing.
            Effect::Drain(scope) => {
                let admin = EnvoyAdmin::at(self.settings.admin);
                tokio::spawn(async move {
                    match admin.drain(scope).await {
                        Ok(()) => info!(?scope, "Envoy drains its listeners"),
                        Err(error) => warn!(error = %Chain(&error), ?scope, "cannot drain Envoy's listeners"),
                    }
                });
            }
            Effect::Arm(timer, after) => self.timers.arm(timer, Instant::now() + after),
            // `run` has left already.
            Effect::Exit(_) => {}
        }
    }

    async fn spawn(&mut self, epoch: Epoch) {
        let launch = self.supervisor.phase().launch;
        let path = match self.revisions.write(epoch, self.settings.bootstrap.as_bytes()) {
            Ok(path) => path,
            Err(error) => {
                error!(%error, path = %self.revisions.path(epoch).display(), "cannot write Envoy's bootstrap");
                return self.pending.push_front(Event::SpawnFailed(epoch, process::failure(&error)));
            }
        };
        let arguments = (self.settings.arguments)(epoch, &path);
        let program = Program { path: self.settings.binary.clone(), arguments };
        match self.children.spawn(epoch, program).await {
            Ok((pid, output)) => {
                info!(%epoch, launch, %pid, "started Envoy");
                while self.pumps.try_join_next().is_some() {}
                self.last_words = LastWords::default();
                self.pump(output.stdout.into(), Stream::Stdout);
                self.pump(output.stderr.into(), Stream::Stderr);
            }
            Err(error) => {
                error!(%error, %epoch, binary = %self.settings.binary.display(), "cannot start Envoy");
                self.pending.push_front(Event::SpawnFailed(epoch, process::failure(&error)));
            }
        }
    }

    fn pump(&mut self, pipe: std::os::fd::OwnedFd, to: Stream) {
        let drain = logs::drain(pipe, to, self.sink.clone(), self.last_words.clone());
        self.pumps.spawn(async {
            if let Err(error) = drain.await {
                error!(%error, "cannot read what Envoy writes");
            }
        });
    }

    /// Leaves nothing unread and nothing behind.
    async fn finish(&mut self, code: u8) -> anyhow::Result<u8> {
        let drained = async { while self.pumps.join_next().await.is_some() {} };
        if timeout(LAST_WORDS, drained).await.is_err() {
            debug!("somebody still holds Envoy's stdout or stderr");
        }
        let own = self.settings.files.iter().map(|(path, _)| revision::remove(path));
        if let Some(error) = own.chain([self.revisions.clear()]).find_map(Result::err) {
            warn!(%error, "cannot remove Envoy's bootstrap");
        }
        if let Some(fault) = self.fault.take() {
            return Err(fault);
        }
        match self.last_words.get() {
            // From 128 on it is a signal, and Envoy had no say.
            Some(last) if (1..128).contains(&code) => error!(code, "Envoy gave up; its last words: {last}"),
            _ => info!(code, "leaving"),
        }
        Ok(code)
    }
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver")
            .field("supervisor", &self.supervisor)
            .field("children", &self.children)
            .field("timers", &self.timers)
            .field("log_lines_dropped", &self.sink.dropped())
            .finish_non_exhaustive()
    }
}

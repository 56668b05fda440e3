//! The application process, if there is one: a command that the agent starts beside Envoy, or a running process. Its exit ends
//! the agent.
//!
//! A command starts once Envoy serves and receives the agent's signals. When it exits, Envoy is drained and the agent exits with
//! the command's code, so that a job with a sidecar completes with its own result. A command that does not stop after a signal
//! has the drain deadline, or until the next signal.

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    sync::watch,
    time::{sleep, sleep_until},
};
use tracing::{error, info, warn};

use super::Driver;
use crate::{
    envoy_admin::EnvoyAdmin,
    process::{self, ChildId, ChildProcesses, ChildStdio, Program, pidfd::WatchedProcess},
    signals::AgentSignal,
    status::Expected,
    supervisor::{Event, ExitStatus, Phase, Stage},
};

/// Interval of the checks whether Envoy serves.
const INTERVAL: Duration = Duration::from_millis(20);

/// The origin of the process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AppSource {
    /// A command to start: `pilot-agent run -- CMD`.
    Command(Vec<OsString>),
    /// A running process: `--exitWith PID`.
    Process(i32),
}

/// The process and its state.
#[derive(Debug)]
pub(super) struct AppProcess {
    state: AppState,
    /// Exit code of the agent once the process has ended.
    code: Option<u8>,
    /// Time that a command has to stop after a signal.
    stop_timeout: Duration,
}

#[derive(Debug)]
enum AppState {
    /// There is no process, or it has ended.
    None,
    /// A command that starts once Envoy serves.
    WaitingForEnvoy(Vec<OsString>, EnvoyReadiness),
    /// A command that runs, and the time of its stop signal.
    Running { stopped_at: Option<Instant> },
    /// A process that is not a child.
    Watched(WatchedProcess),
}

/// Readiness of Envoy as the condition to start the command.
#[derive(Debug)]
pub(super) struct EnvoyReadiness {
    pub(super) phases: watch::Receiver<Phase>,
    pub(super) admin: watch::Receiver<Option<EnvoyAdmin>>,
    pub(super) expected: watch::Receiver<Expected>,
}

/// A change of the process's state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum AppEvent {
    /// Envoy serves; the command is to be started.
    Start(Vec<OsString>),
    /// The process has ended. `None` if its code is unknown.
    Exited(Option<u8>),
    /// The command was signalled and has not stopped in time.
    StopTimeout,
}

/// Outcome of forwarding a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Forwarded {
    /// The command has received it.
    Yes,
    /// There is no command, or it was signalled before.
    No,
}

// === impl AppProcess ===

impl AppProcess {
    pub(super) fn new(
        source: Option<AppSource>,
        readiness: EnvoyReadiness,
        stop_timeout: Duration,
    ) -> anyhow::Result<Self> {
        let state = match source {
            None => AppState::None,
            Some(AppSource::Command(command)) => AppState::WaitingForEnvoy(command, readiness),
            Some(AppSource::Process(pid)) => AppState::Watched(
                WatchedProcess::open(pid).with_context(|| format!("--exitWith: watch process {pid}"))?,
            ),
        };
        Ok(Self { state, code: None, stop_timeout })
    }

    /// Returns the next event. Cancel-safe.
    pub(super) async fn next(&mut self) -> AppEvent {
        let event = match &mut self.state {
            AppState::None | AppState::Running { stopped_at: None } => std::future::pending().await,
            AppState::Running { stopped_at: Some(stopped_at) } => {
                sleep_until((*stopped_at + self.stop_timeout).into()).await;
                *stopped_at = far_future(Instant::now());
                return AppEvent::StopTimeout;
            }
            AppState::WaitingForEnvoy(command, readiness) => {
                readiness.serves().await;
                AppEvent::Start(command.clone())
            }
            AppState::Watched(process) => AppEvent::Exited(process.end().await),
        };
        self.state = AppState::None;
        event
    }

    /// Forwards a signal to a running command. A second stop signal is not forwarded; it ends the agent.
    fn forward(&mut self, signal: AgentSignal, children: &ChildProcesses) -> Forwarded {
        let AppState::Running { stopped_at } = &mut self.state else { return Forwarded::No };
        if let AgentSignal::Terminate(_) = signal
            && stopped_at.replace(Instant::now()).is_some()
        {
            return Forwarded::No;
        }
        if let Err(error) = children.send(ChildId::Command, signal.signal()) {
            warn!(%error, ?signal, "forward a signal to the command");
        }
        Forwarded::Yes
    }

    pub(super) fn exited(&mut self, status: ExitStatus) -> AppEvent {
        self.state = AppState::None;
        AppEvent::Exited(Some(status.code()))
    }

    /// Returns the agent's exit code if the process decides it. Kills a command that still runs.
    pub(super) fn code(&self, children: &ChildProcesses) -> Option<u8> {
        if let AppState::Running { .. } = self.state {
            warn!("killing the command");
            if let Err(error) = children.kill(ChildId::Command) {
                warn!(%error, "kill the command");
            }
            return Some(ExitStatus::KILLED.code());
        }
        self.code
    }
}

/// A time that is never reached.
fn far_future(now: Instant) -> Instant {
    now + Duration::from_hours(365 * 24)
}

// === impl EnvoyReadiness ===

impl EnvoyReadiness {
    async fn serves(&mut self) {
        loop {
            if self.phases.wait_for(|phase| phase.stage == Stage::Running).await.is_err() {
                std::future::pending::<()>().await;
            }
            let admin = self.admin.borrow().clone();
            if let Some(admin) = admin
                && let Ok(updates) = admin.config_updates().await
                && updates.workers_started > 0
                && self.expected.borrow().is_met(updates)
            {
                return;
            }
            sleep(INTERVAL).await;
        }
    }
}

// === impl Driver ===

impl Driver {
    /// Forwards a signal of the agent to the command, if one runs.
    pub(super) fn forward(&mut self, signal: AgentSignal) -> Forwarded {
        if signal == AgentSignal::Child {
            return Forwarded::No;
        }
        let forwarded = self.inputs.app.forward(signal, &self.outputs.children);
        if let (Forwarded::Yes, AgentSignal::Terminate(_)) = (forwarded, signal) {
            self.pending.push_back(Event::Withdraw);
        }
        forwarded
    }

    pub(super) async fn app_event(&mut self, event: AppEvent) {
        match event {
            AppEvent::Start(command) => self.start_command(command).await,
            AppEvent::StopTimeout => {
                warn!("the command did not stop in time");
                self.pending.push_back(Event::Terminate);
            }
            AppEvent::Exited(code) => {
                info!(code, "the application process has ended");
                self.inputs.app.code = Some(code.unwrap_or(0));
                self.pending.push_back(Event::Terminate);
            }
        }
    }

    async fn start_command(&mut self, command: Vec<OsString>) {
        let mut words = command.into_iter();
        let Some(path) = words.next() else { return };
        let program = Program { path: path.into(), arguments: words.collect(), stdio: ChildStdio::Inherited };
        match self.outputs.children.spawn(ChildId::Command, program).await {
            Ok((pid, _)) => {
                info!(%pid, "started the command");
                self.inputs.app.state = AppState::Running { stopped_at: None };
            }
            Err(error) => {
                error!(%error, "cannot start the command");
                self.inputs.app.code = Some(process::failure(&error).code());
                self.pending.push_back(Event::Terminate);
            }
        }
    }
}

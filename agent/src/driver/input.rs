//! Inputs of the driver, and the events that they become.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::{
    Driver,
    app_process::{AppEvent, Forwarded},
    observer::{Observation, ObservationKind},
};
use crate::{
    cgroup::{Oom, OomCount},
    desired::ConfigUpdate,
    hot_restart::ListenAddress,
    logs::ErrorChain,
    process::ChildId,
    signals::AgentSignal,
    status::ControlRequest,
    supervisor::{Event, ExitStatus, Launch, Stage, Timer},
};

/// An input of the driver, from one of its [`Inputs`](super::Inputs).
pub(super) enum Input {
    Signal(AgentSignal),
    Observation(Observation),
    ControlRequest(ControlRequest),
    Timer(Timer),
    Config(Option<ConfigUpdate>),
    App(AppEvent),
    ValidationOverdue,
    OomCheck(Oom),
    TaskEnded(String),
}

/// Interval between attempts to fetch the listening sockets of a busy Envoy.
const FETCH_INTERVAL: Duration = Duration::from_secs(1);

// === impl Driver ===

impl Driver {
    pub(super) async fn handle_input(&mut self, input: Input) {
        match input {
            Input::Signal(AgentSignal::Child) => self.reap().await,
            Input::Signal(signal) => self.handle_signal(signal),
            Input::Timer(timer) => {
                self.inputs.timers.disarm(timer);
                self.pending.push_back(Event::TimerExpired(timer));
            }
            Input::Observation(Observation { launch, kind }) => self.handle_observation(launch, kind).await,
            Input::ControlRequest(ControlRequest::Quit) => self.pending.push_back(Event::Quit),
            Input::ControlRequest(ControlRequest::Withdraw) => self.pending.push_back(Event::Withdraw),
            Input::ControlRequest(ControlRequest::Restart) => self.restart(),
            Input::Config(Some(update)) => self.config_changed(update),
            Input::Config(None) => {
                error!("configuration is no longer followed");
                self.inputs.config_watcher = None;
            }
            Input::App(event) => self.app_event(event).await,
            Input::ValidationOverdue => {
                warn!("Envoy takes too long to validate its bootstrap");
                self.validation_overdue();
            }
            Input::OomCheck(oom) => {
                self.records.instances.record_oom(oom);
                if oom == Oom::Yes {
                    error!("Envoy was killed because the container is out of memory");
                }
                self.publish();
            }
            Input::TaskEnded(reason) => {
                error!(reason, "task failed; shutting down");
                self.records.fault.get_or_insert(anyhow!(reason));
                self.pending.push_back(Event::Terminate);
            }
        }
    }

    fn handle_signal(&mut self, signal: AgentSignal) {
        // Beside a command the agent forwards signals.
        if self.forward(signal) == Forwarded::Yes {
            return;
        }
        match signal {
            AgentSignal::Terminate(_) => self.pending.push_back(Event::Terminate),
            AgentSignal::ReopenLogs => self.pending.push_back(Event::ReopenLogs),
            AgentSignal::Hangup => self.restart(),
            AgentSignal::Dump => info!(driver = ?self, "SIGQUIT: state dump"),
            AgentSignal::Other(_) | AgentSignal::Child => {}
        }
    }

    async fn handle_observation(&mut self, launch: Launch, kind: ObservationKind) {
        match kind {
            ObservationKind::Event(event) => self.pending.push_back(event),
            ObservationKind::HotRestartVersion(version) => {
                if let Some(instance) = self.records.instances.get(launch) {
                    let (revision, in_use) = (instance.generation.revision, self.revisions());
                    self.outputs.backend.record_version(revision, version, &in_use);
                }
            }
            ObservationKind::Listeners(addresses) => self.retain_listeners_of(launch, addresses).await,
            ObservationKind::DrainFailed => {
                // An Envoy that has been signalled drains without a request.
                if self.supervisor.phase().stage == Stage::Draining
                    && let Some(instance) = self.records.instances.get(launch)
                    && let Err(error) = self.outputs.backend.drain(instance.generation).await
                {
                    warn!(error = %ErrorChain(&error), "Envoy cannot be told to drain");
                }
            }
            ObservationKind::Activity(activity_stats, listeners) => {
                self.outputs.publisher.drain_activity(&activity_stats, &listeners);
                self.pending.push_back(Event::Activity(launch, activity_stats.activity));
            }
        }
    }

    /// Fetches the listening sockets of the Envoy that serves; on failure once more, later.
    async fn retain_listeners_of(&mut self, launch: Launch, addresses: Vec<ListenAddress>) {
        let owner = self.supervisor.phase().owner.filter(|owner| owner.launch == launch);
        let Some(owner) = owner else { return };
        if let Err(error) = self.outputs.backend.retain_listeners(owner, &addresses).await {
            warn!(error = %ErrorChain(&error), "listening sockets are not retained yet");
            let observations = self.inputs.observation_sender.clone();
            self.outputs.pumps.spawn(async move {
                sleep(FETCH_INTERVAL).await;
                // Fails only when the driver has ended.
                let kind = ObservationKind::Listeners(addresses);
                drop(observations.send(Observation { launch, kind }).await);
            });
        }
    }

    async fn reap(&mut self) {
        let ended = self.outputs.children.reap();
        self.records.counters.reaped(self.outputs.children.orphans());
        for (child, status) in ended {
            match child {
                ChildId::Envoy(launch) => {
                    self.records.counters.died(status);
                    self.check_for_oom(status);
                    self.pending.push_back(Event::Died(launch, status));
                }
                ChildId::Validation(revision) => self.validated(revision, status).await,
                ChildId::Version(revision) => self.version_printed(revision, status).await,
                ChildId::Command => {
                    let event = self.inputs.app.exited(status);
                    self.app_event(event).await;
                }
            }
        }
    }

    /// Reads the kernel's OOM-kill counter after a SIGKILL; it is updated with a delay.
    fn check_for_oom(&mut self, status: ExitStatus) {
        let (before, cgroup) = (self.records.oom_count, Arc::clone(&self.records.cgroup));
        self.records.oom_count = OomCount::of(&self.records.cgroup);
        if status == ExitStatus::KILLED {
            self.inputs.oom_checks.spawn(async move { before.verdict(&cgroup).await });
        }
    }
}

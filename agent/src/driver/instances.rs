//! Table of Envoy processes: the data of each besides the supervisor's state, and the last exits. Source of the
//! lifecycle API and the crash report.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    time::Instant,
};

use nix::unistd::Pid;

use crate::{
    cgroup::Oom,
    desired::ConfigHash,
    envoy_admin::EnvoyAdmin,
    handover::HandoverMode,
    lifecycle::{self, EnvoyExit, ExitReason, Timestamp},
    logs::StderrTail,
    supervisor::{Coupling, EnvoyRole, EnvoySignal, ExitStatus, Generation, Launch, Phase},
};

/// Number of exits that are kept.
const EXITS: usize = 16;

/// Envoys that run, and the last ones that have exited.
#[derive(Debug, Default)]
pub(super) struct InstanceTable {
    instances: BTreeMap<Launch, Instance>,
    exits: VecDeque<EnvoyExit>,
    last: Option<ExitedInstance>,
}

/// One Envoy process.
#[derive(Debug)]
pub(super) struct Instance {
    pub(super) generation: Generation,
    pub(super) pid: Pid,
    pub(super) admin: EnvoyAdmin,
    pub(super) stderr_tail: StderrTail,
    /// `--restart-epoch` and `--config-path`; they tell its admin from that of another Envoy.
    pub(super) identity: (u32, PathBuf),
    hash: ConfigHash,
    mode: HandoverMode,
    started: (Timestamp, Instant),
    live: Option<Instant>,
    /// Last signal that ends it.
    signalled: Option<EnvoySignal>,
}

/// The Envoy that exited last.
#[derive(Debug)]
pub(super) struct ExitedInstance {
    pub(super) instance: Instance,
    pub(super) status: ExitStatus,
    pub(super) reason: ExitReason,
    pub(super) at: Instant,
}

// === impl InstanceTable ===

impl InstanceTable {
    pub(super) fn insert(&mut self, instance: Instance) {
        self.instances.insert(instance.generation.launch, instance);
    }

    pub(super) fn get(&self, launch: Launch) -> Option<&Instance> {
        self.instances.get(&launch)
    }

    pub(super) fn set_live(&mut self, launch: Launch) {
        if let Some(instance) = self.instances.get_mut(&launch) {
            instance.live = Some(Instant::now());
        }
    }

    pub(super) fn set_signalled(&mut self, launch: Launch, signal: EnvoySignal) {
        if let Some(instance) = self.instances.get_mut(&launch)
            && signal != EnvoySignal::ReopenLogs
        {
            instance.signalled = Some(signal);
        }
    }

    /// Removes an Envoy that has exited and returns the reason.
    pub(super) fn remove(&mut self, launch: Launch, status: ExitStatus, before: Phase) -> Option<ExitReason> {
        let instance = self.instances.remove(&launch)?;
        let reason = match (instance.signalled, status, before.role(launch)) {
            (_, ExitStatus::Exited(0), EnvoyRole::Leaving(Coupling::Coupled | Coupling::Independent)) => {
                ExitReason::HandedOver
            }
            (Some(EnvoySignal::Kill), ExitStatus::KILLED, _) => ExitReason::Killed,
            (Some(EnvoySignal::Terminate), _, _) => ExitReason::Stopped,
            (_, ExitStatus::Exited(0), _) => ExitReason::Left,
            (_, ExitStatus::Exited(_), _) => ExitReason::Failed,
            (_, ExitStatus::Signaled(_), _) => ExitReason::Crashed,
        };
        let (code, signal) = match status {
            ExitStatus::Exited(code) => (Some(code), None),
            ExitStatus::Signaled(signal) => (None, Some(signal)),
        };
        self.exits.truncate(EXITS - 1);
        self.exits.push_front(EnvoyExit {
            epoch: instance.generation.epoch.get(),
            pid: instance.pid.as_raw().unsigned_abs(),
            at: Timestamp::now(),
            code,
            signal,
            reason,
            detail: String::new(),
            oom: None,
        });
        self.last = Some(ExitedInstance { instance, status, reason, at: Instant::now() });
        Some(reason)
    }

    /// Records the kernel's verdict on the last death by SIGKILL.
    pub(super) fn record_oom(&mut self, oom: Oom) {
        let Some(exit) = self.exits.front_mut() else { return };
        exit.oom = match oom {
            Oom::Yes => Some(true),
            Oom::No => Some(false),
            Oom::Unknown => None,
        };
        if oom == Oom::Yes {
            exit.reason = ExitReason::OutOfMemory;
        }
    }

    /// Returns the Envoy that exited last.
    pub(super) fn last(&self) -> Option<&ExitedInstance> {
        self.last.as_ref()
    }

    pub(super) fn exits(&self) -> Vec<EnvoyExit> {
        self.exits.iter().cloned().collect()
    }

    /// Returns the running Envoys in the form of the lifecycle API.
    pub(super) fn generations(&self, phase: Phase) -> Vec<lifecycle::EnvoyStatus> {
        self.instances.values().map(|instance| instance.show(phase)).collect()
    }
}

// === impl Instance ===

impl Instance {
    pub(super) fn new(
        (generation, pid): (Generation, Pid),
        (admin, mode): (EnvoyAdmin, HandoverMode),
        identity: (u32, PathBuf),
        hash: ConfigHash,
        stderr_tail: StderrTail,
    ) -> Self {
        let started = (Timestamp::now(), Instant::now());
        Self {
            generation,
            pid,
            admin,
            stderr_tail,
            identity,
            hash,
            mode,
            started,
            live: None,
            signalled: None,
        }
    }

    /// Time since its start.
    pub(super) fn age(&self) -> std::time::Duration {
        self.started.1.elapsed()
    }

    fn show(&self, phase: Phase) -> lifecycle::EnvoyStatus {
        let state = match (phase.role(self.generation.launch), self.signalled) {
            (_, Some(EnvoySignal::Terminate)) | (EnvoyRole::Gone, None) => "stopping",
            (_, Some(_)) => "killed",
            (EnvoyRole::Starting, None) => "initializing",
            (EnvoyRole::Serving, None) => "live",
            (EnvoyRole::Draining | EnvoyRole::Leaving(_), None) => "draining",
        };
        let after = self.live.map(|live| live.saturating_duration_since(self.started.1).as_millis());
        lifecycle::EnvoyStatus {
            epoch: self.generation.epoch.get(),
            launch: self.generation.launch.get(),
            pid: self.pid.as_raw().unsigned_abs(),
            state: state.into(),
            started: self.started.0,
            live_after_ms: after.and_then(|millis| millis.try_into().ok()),
            config_hash: self.hash.to_string(),
            engine: self.mode.as_str().into(),
        }
    }
}

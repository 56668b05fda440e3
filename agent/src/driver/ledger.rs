//! What is known of each Envoy besides what the supervisor knows, and of those that are gone: for the lifecycle
//! API, the crash report and the log.

use std::{
    collections::{BTreeMap, VecDeque},
    path::PathBuf,
    time::Instant,
};

use nix::unistd::Pid;

use crate::{
    cgroup::Oom,
    desired::ConfigHash,
    engine::Way,
    envoy_admin::EnvoyAdmin,
    lifecycle::{self, Exit, ExitReason, Moment},
    logs::LastWords,
    supervisor::{Bond, EnvoySignal, Generation, Launch, Phase, Role, Status},
};

/// Exits that are remembered.
const EXITS: usize = 16;

/// Everything that was started and is not yet forgotten.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: BTreeMap<Launch, Entry>,
    exits: VecDeque<Exit>,
    last: Option<Ended>,
}

/// One Envoy.
#[derive(Debug)]
pub(super) struct Entry {
    pub(super) generation: Generation,
    pub(super) pid: Pid,
    pub(super) admin: EnvoyAdmin,
    pub(super) last_words: LastWords,
    /// `--restart-epoch` and `--config-path`, by which its admin is told from others'.
    pub(super) identity: (u32, PathBuf),
    hash: ConfigHash,
    way: Way,
    started: (Moment, Instant),
    live: Option<Instant>,
    told: Option<EnvoySignal>,
}

/// The last one that ended.
#[derive(Debug)]
pub(super) struct Ended {
    pub(super) entry: Entry,
    pub(super) status: Status,
    pub(super) reason: ExitReason,
    pub(super) at: Instant,
}

// === impl Ledger ===

impl Ledger {
    pub(super) fn enter(&mut self, entry: Entry) {
        self.entries.insert(entry.generation.launch, entry);
    }

    pub(super) fn get(&self, launch: Launch) -> Option<&Entry> {
        self.entries.get(&launch)
    }

    pub(super) fn live(&mut self, launch: Launch) {
        if let Some(entry) = self.entries.get_mut(&launch) {
            entry.live = Some(Instant::now());
        }
    }

    pub(super) fn told(&mut self, launch: Launch, signal: EnvoySignal) {
        if let Some(entry) = self.entries.get_mut(&launch)
            && signal != EnvoySignal::ReopenLogs
        {
            entry.told = Some(signal);
        }
    }

    /// It is gone; what that was to us.
    pub(super) fn died(&mut self, launch: Launch, status: Status, before: Phase) -> Option<ExitReason> {
        let entry = self.entries.remove(&launch)?;
        let reason = match (entry.told, status, before.role(launch)) {
            (_, Status::Exited(0), Role::Leaving(Bond::Tied | Bond::Loose)) => ExitReason::HandedOver,
            (Some(EnvoySignal::Kill), Status::KILLED, _) => ExitReason::Killed,
            (Some(EnvoySignal::Terminate), _, _) => ExitReason::Stopped,
            (_, Status::Exited(0), _) => ExitReason::Left,
            (_, Status::Exited(_), _) => ExitReason::Failed,
            (_, Status::Signaled(_), _) => ExitReason::Crashed,
        };
        let (code, signal) = match status {
            Status::Exited(code) => (Some(code), None),
            Status::Signaled(signal) => (None, Some(signal)),
        };
        self.exits.truncate(EXITS - 1);
        self.exits.push_front(Exit {
            epoch: entry.generation.epoch.get(),
            pid: entry.pid.as_raw().unsigned_abs(),
            at: Moment::now(),
            code,
            signal,
            reason,
            detail: String::new(),
            oom: None,
        });
        self.last = Some(Ended { entry, status, reason, at: Instant::now() });
        Some(reason)
    }

    /// What the kernel's counters say of the last death by SIGKILL.
    pub(super) fn judged(&mut self, oom: Oom) {
        let Some(exit) = self.exits.front_mut() else { return };
        exit.oom = match oom {
            Oom::Oom => Some(true),
            Oom::NotOom => Some(false),
            Oom::Unknown => None,
        };
        if oom == Oom::Oom {
            exit.reason = ExitReason::OutOfMemory;
        }
    }

    /// The one that ended last.
    pub(super) fn last(&self) -> Option<&Ended> {
        self.last.as_ref()
    }

    pub(super) fn exits(&self) -> Vec<Exit> {
        self.exits.iter().cloned().collect()
    }

    /// The Envoys there are, in the words of the lifecycle API.
    pub(super) fn generations(&self, phase: Phase) -> Vec<lifecycle::Generation> {
        self.entries.values().map(|entry| entry.show(phase)).collect()
    }
}

// === impl Entry ===

impl Entry {
    pub(super) fn new(
        (generation, pid): (Generation, Pid),
        (admin, way): (EnvoyAdmin, Way),
        identity: (u32, PathBuf),
        hash: ConfigHash,
        last_words: LastWords,
    ) -> Self {
        let started = (Moment::now(), Instant::now());
        Self { generation, pid, admin, last_words, identity, hash, way, started, live: None, told: None }
    }

    /// How long it has been there.
    pub(super) fn age(&self) -> std::time::Duration {
        self.started.1.elapsed()
    }

    fn show(&self, phase: Phase) -> lifecycle::Generation {
        let state = match (phase.role(self.generation.launch), self.told) {
            (_, Some(EnvoySignal::Terminate)) | (Role::Gone, None) => "stopping",
            (_, Some(_)) => "killed",
            (Role::Rising, None) => "initializing",
            (Role::Serving, None) => "live",
            (Role::Draining | Role::Leaving(_), None) => "draining",
        };
        let after = self.live.map(|live| live.saturating_duration_since(self.started.1).as_millis());
        lifecycle::Generation {
            epoch: self.generation.epoch.get(),
            launch: self.generation.launch.get(),
            pid: self.pid.as_raw().unsigned_abs(),
            state: state.into(),
            started: self.started.0,
            live_after_ms: after.and_then(|millis| millis.try_into().ok()),
            config_hash: self.hash.to_string(),
            engine: self.way.as_str().into(),
        }
    }
}

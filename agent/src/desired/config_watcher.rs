//! Watches the source files of the configuration and reports changes of the desired state.
//!
//! Updates are a state, not a queue: a slow receiver gets the last state only.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use pilot_watch::{Settings, Watcher};
use tokio::sync::watch;
use tracing::error;

use super::reloader::ConfigReloader;
use super::{ConfigHash, DesiredState, FixedInputs, WATCH_SETTINGS};
use crate::config::fault::Faults;

/// Watches the configuration until it is dropped.
#[derive(Debug)]
pub struct ConfigWatcher {
    state: watch::Receiver<ConfigState>,
    counts: Arc<ScanCounts>,
    reported: ReportedState,
}

/// Change of the configuration.
#[derive(Clone, Debug)]
pub enum ConfigUpdate {
    /// Another Envoy should run. An earlier rejection is obsolete.
    Changed(Arc<DesiredState>),
    /// The configuration is invalid; the last desired state stays.
    Rejected(Faults),
    /// The configuration is valid again and means the last desired state.
    Recovered,
}

/// Current state of the configuration.
#[derive(Clone, Debug)]
struct ConfigState {
    desired: Arc<DesiredState>,
    rejection: Option<Faults>,
}

/// State according to the updates returned so far.
#[derive(Debug)]
struct ReportedState {
    hash: ConfigHash,
    rejection: Option<Faults>,
}

/// Number of scans and loads.
#[derive(Debug, Default)]
struct ScanCounts {
    scans: AtomicU64,
    /// Scans after which the configuration was loaded.
    loads: AtomicU64,
}

// === impl ConfigWatcher ===

impl ConfigWatcher {
    /// Watches from `first` on, which was loaded from `inputs`: later changes are reported, also those before this call. Must
    /// be called in a runtime.
    pub fn start(inputs: FixedInputs, first: Arc<DesiredState>) -> Self {
        Self::with_settings(inputs, first, WATCH_SETTINGS)
    }

    pub(super) fn with_settings(inputs: FixedInputs, first: Arc<DesiredState>, settings: Settings) -> Self {
        let reported = ReportedState { hash: first.hash, rejection: None };
        let (sender, state) = watch::channel(ConfigState { desired: first.clone(), rejection: None });
        let counts = Arc::<ScanCounts>::default();
        let reloader = Box::new(ConfigReloader::new(inputs, first));
        tokio::spawn(run(Watcher::of_files(settings), reloader, sender, counts.clone()));
        Self { state, counts, reported }
    }

    /// Waits for the next update. Cancel safe. Returns `None` if there are no more updates, because a scan has panicked.
    pub async fn next(&mut self) -> Option<ConfigUpdate> {
        loop {
            let state = self.state.borrow_and_update().clone();
            if let Some(update) = self.reported.update(state) {
                return Some(update);
            }
            self.state.changed().await.ok()?;
        }
    }

    /// Returns the number of scans, and of the loads after them.
    pub fn scan_counts(&self) -> (u64, u64) {
        (self.counts.scans.load(Ordering::Relaxed), self.counts.loads.load(Ordering::Relaxed))
    }
}

async fn run(
    mut watcher: Watcher,
    mut reloader: Box<ConfigReloader>,
    state: watch::Sender<ConfigState>,
    counts: Arc<ScanCounts>,
) {
    loop {
        let scan = watcher.next(move |scanner| {
            let load = reloader.scan(scanner);
            (reloader, load)
        });
        let result = tokio::select! {
            () = state.closed() => return,
            result = scan => result,
        };
        let Some((returned_reloader, load)) = result else {
            return error!("configuration scan failed; configuration files are no longer watched");
        };
        reloader = returned_reloader;
        if let Some(load) = load {
            counts.loads.fetch_add(1, Ordering::Relaxed);
            state.send_if_modified(|state| state.apply(load.outcome));
        }
        counts.scans.fetch_add(1, Ordering::Relaxed);
    }
}

// === impl ReportedState ===

impl ReportedState {
    /// Returns the update that leads to a state, if there is one.
    fn update(&mut self, state: ConfigState) -> Option<ConfigUpdate> {
        if self.hash != state.desired.hash {
            *self = Self { hash: state.desired.hash, rejection: None };
            return Some(ConfigUpdate::Changed(state.desired));
        }
        if self.rejection == state.rejection {
            return None;
        }
        self.rejection.clone_from(&state.rejection);
        Some(state.rejection.map_or(ConfigUpdate::Recovered, ConfigUpdate::Rejected))
    }
}

// === impl ConfigState ===

impl ConfigState {
    /// Applies the outcome of a load. Returns `true` if the state has changed.
    fn apply(&mut self, outcome: Result<Arc<DesiredState>, Faults>) -> bool {
        let before = (self.desired.hash, self.rejection.clone());
        match outcome {
            Ok(desired) => *self = Self { desired, rejection: None },
            Err(faults) => self.rejection = Some(faults),
        }
        before != (self.desired.hash, self.rejection.clone())
    }
}

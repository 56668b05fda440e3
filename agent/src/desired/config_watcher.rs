//! Watches the source files of the configuration and reports changes of the desired state.
//!
//! Updates are a state, not a queue: a slow receiver gets the last state only.

use std::sync::Arc;

use pilot_watch::{Settings, Watcher};
use tokio::sync::watch;
use tracing::{debug, error};

use super::reloader::ConfigReloader;
use super::{DesiredState, FixedInputs, WATCH_SETTINGS};
use crate::config::fault::Faults;

/// Watches the configuration until it is dropped.
#[derive(Debug)]
pub(crate) struct ConfigWatcher {
    current: watch::Receiver<ConfigState>,
    /// State according to the updates returned so far.
    reported: ConfigState,
}

/// Change of the configuration.
#[derive(Clone, Debug)]
pub(crate) enum ConfigUpdate {
    /// Another Envoy should run. An earlier rejection is obsolete.
    Changed(Arc<DesiredState>),
    /// The configuration is invalid; the last desired state stays.
    Rejected(Faults),
    /// The configuration is valid again and means the last desired state.
    Recovered,
}

/// State of the configuration.
#[derive(Clone, Debug)]
pub(super) struct ConfigState {
    desired: Arc<DesiredState>,
    rejection: Option<Faults>,
    /// Number of scans.
    pub(super) scans: u64,
    /// Number of scans after which the configuration was loaded.
    pub(super) loads: u64,
}

// === impl ConfigWatcher ===

impl ConfigWatcher {
    /// Watches from `first` on, which was loaded from `inputs`: later changes are reported, also those before this call. Must
    /// be called in a runtime.
    pub(crate) fn start(inputs: FixedInputs, first: Arc<DesiredState>) -> Self {
        Self::with_settings(inputs, first, WATCH_SETTINGS)
    }

    pub(super) fn with_settings(inputs: FixedInputs, first: Arc<DesiredState>, settings: Settings) -> Self {
        let reported = ConfigState { desired: first.clone(), rejection: None, scans: 0, loads: 0 };
        let (sender, current) = watch::channel(reported.clone());
        tokio::spawn(watch_files(ConfigReloader::new(inputs, first), settings, sender));
        Self { current, reported }
    }

    /// Waits for the next update. Cancel safe. Returns `None` if there are no more updates, because a scan has panicked.
    pub(crate) async fn next(&mut self) -> Option<ConfigUpdate> {
        loop {
            let current = self.current.borrow_and_update().clone();
            if self.reported.desired.hash != current.desired.hash {
                self.reported = ConfigState { rejection: None, ..current };
                return Some(ConfigUpdate::Changed(self.reported.desired.clone()));
            }
            if self.reported.rejection != current.rejection {
                self.reported = current;
                let rejection = self.reported.rejection.clone();
                return Some(rejection.map_or(ConfigUpdate::Recovered, ConfigUpdate::Rejected));
            }
            self.current.changed().await.ok()?;
        }
    }

    /// Returns the state after the last scan.
    #[cfg(test)]
    pub(super) fn state(&self) -> ConfigState {
        self.current.borrow().clone()
    }
}

async fn watch_files(reloader: ConfigReloader, settings: Settings, sender: watch::Sender<ConfigState>) {
    let mut watcher = Watcher::of_files(reloader, settings);
    loop {
        let load = tokio::select! {
            () = sender.closed() => return,
            load = watcher.next(ConfigReloader::scan) => load,
        };
        let Some(load) = load else {
            return error!("configuration scan failed; configuration files are no longer watched");
        };
        sender.send_modify(|state| {
            state.scans += 1;
            if let Some(load) = load {
                state.loads += 1;
                match load.outcome {
                    Ok(desired) => (state.desired, state.rejection) = (desired, None),
                    Err(faults) => state.rejection = Some(faults),
                }
            }
            debug!(scans = state.scans, loads = state.loads, "configuration files scanned");
        });
    }
}

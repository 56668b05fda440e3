//! One scan of the source files: if any of them has changed, the whole configuration is loaded again. Blocks.

use std::sync::Arc;

use pilot_watch::{ScanReason, Scanner};

use super::{DesiredState, FixedInputs, Load};
use crate::config::source_files::SourceFiles;

/// Largest number of loads in a row that are discarded because a file changed in the meantime.
const MAX_DISCARDED: u32 = 3;

/// State between two scans.
#[derive(Debug)]
pub(super) struct ConfigReloader {
    inputs: FixedInputs,
    /// Desired state of the last valid configuration.
    last_valid: Arc<DesiredState>,
    /// Source files of the last load that was not discarded.
    sources: SourceFiles,
    /// Number of loads in a row that were discarded.
    discarded: u32,
}

// === impl ConfigReloader ===

impl ConfigReloader {
    /// Begins with a state that was loaded from these inputs.
    pub(super) fn new(inputs: FixedInputs, first: Arc<DesiredState>) -> Self {
        Self { inputs, sources: first.sources.clone(), last_valid: first, discarded: 0 }
    }

    /// Scans the source files and loads the configuration if they have changed. Returns `None` if nothing changed, or if a
    /// file is being changed or is missing for a moment; then another scan follows. A load during which a file changed is
    /// discarded, but for files that change all the time.
    pub(super) fn scan(&mut self, scanner: &mut Scanner) -> Option<Load> {
        scanner.set_files(self.sources.presence());
        // Fails for directory trees only.
        let scan = scanner.scan().ok()?;
        if scan.reason == ScanReason::Rescan {
            let last_valid = Arc::make_mut(&mut self.last_valid);
            last_valid.binary.read_content(&last_valid.config.envoy.binary);
        }
        if !scanner.is_stable() || self.sources.are_unchanged() {
            return None;
        }
        let load = self.inputs.load(Some(&self.last_valid));
        // New files are watched before they are compared with what was read: no change between the two is lost.
        scanner.set_files(load.sources.presence());
        scanner.scan().ok()?;
        if !scanner.is_stable() || !load.sources.are_unchanged() {
            load.sources.presence().for_each(|(path, _)| scanner.mark_changed(path));
            if scanner.has_missing() || self.discarded < MAX_DISCARDED {
                self.discarded = self.discarded.saturating_add(1);
                return None;
            }
        }
        self.discarded = 0;
        self.sources.clone_from(&load.sources);
        if let Ok(desired) = &load.outcome {
            self.last_valid = desired.clone();
        }
        Some(load)
    }
}

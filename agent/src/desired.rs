//! Desired state: the checked configuration, the bootstrap rendered from it, and a hash over everything that a new Envoy would
//! do differently. Loaded again from the same flags and environment when [`ConfigWatcher`] notices a change of a source file.
//!
//! Epochs are not known here: the supervisor decides when the desired Envoy is started.

mod config_watcher;
mod envoy_binary;
mod referenced_files;
mod reloader;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use pilot_watch::{Grouping, Settings};

pub(crate) use config_watcher::{ConfigUpdate, ConfigWatcher};

use crate::bootstrap::argv::{HotRestartFlags, LaunchArgs, argv};
use crate::bootstrap::{self, Rendered};
use crate::cgroup::Limits;
use crate::cli::{LogFlags, Overrides, ProxyFlags};
use crate::config::env::Environment;
use crate::config::fault::Faults;
use crate::config::source_files::{FileState, Probe, SourceFiles};
use crate::config::{Config, ConfigInputs, Interfaces, Purpose, Root};
use envoy_binary::EnvoyBinary;

/// Settings of the watch over the source files. A mounted secret changes with five events.
const WATCH_SETTINGS: Settings = Settings {
    debounce: Duration::from_millis(100),
    max_delay: Some(Duration::from_secs(1)),
    write_timeout: Duration::from_secs(10),
    absence: Duration::from_secs(1),
    rescan_interval: Duration::from_secs(30),
    poll_interval: Duration::from_secs(2),
    grouping: Grouping::WholeSet,
};

/// Inputs of the configuration that do not change while the agent runs.
///
/// The addresses of the machine are among them: the first is part of the node's id, and a control plane must not see another
/// node after a hot restart.
#[derive(Clone, Debug)]
pub(crate) struct FixedInputs {
    /// Flags of `proxy`.
    pub(crate) flags: ProxyFlags,
    /// Flags of the log.
    pub(crate) log: LogFlags,
    /// Values given by flags instead of detected.
    pub(crate) overrides: Overrides,
    /// Environment variables.
    pub(crate) environment: Environment,
    /// Directory that relative paths refer to.
    pub(crate) root: PathBuf,
    /// Addresses of the machine.
    pub(crate) interfaces: Interfaces,
    /// Resource limits. Determined once, so that the number of Envoy's threads stays the same.
    pub(crate) limits: Limits,
}

/// Desired state.
#[derive(Clone, Debug)]
pub(crate) struct DesiredState {
    /// Checked configuration.
    pub(crate) config: Config,
    /// Bootstrap and its side files.
    pub(crate) rendered: Rendered,
    /// Hash over everything that an Envoy would do differently. Settings that only the agent uses are not part of it.
    pub(crate) hash: ConfigHash,
    /// Files that it was made from, with the missing ones.
    pub(crate) sources: SourceFiles,
    binary: EnvoyBinary,
}

/// Hash of a desired state: bootstrap, side files, command line, content of the files that the bootstrap refers to, and
/// binary. Displayed as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct ConfigHash(u64);

/// Result of loading the configuration.
#[derive(Debug)]
struct Load {
    /// Source files. Also present for an invalid configuration: its faults are corrected in them.
    sources: SourceFiles,
    /// Desired state, or every fault.
    outcome: Result<Arc<DesiredState>, Faults>,
}

// === impl FixedInputs ===

impl FixedInputs {
    /// Loads the configuration for the first time. Blocks.
    pub(crate) fn load_first(&self) -> Result<Arc<DesiredState>, Faults> {
        self.load(None).outcome
    }

    /// Loads the configuration; `before` is the last valid desired state. Blocks, and may send DNS queries.
    fn load(&self, before: Option<&DesiredState>) -> Load {
        let root = Root::new(&self.root);
        let inputs = ConfigInputs {
            flags: &self.flags,
            log: &self.log,
            overrides: &self.overrides,
            environment: &self.environment,
            root: &root,
            interfaces: &self.interfaces,
            limits: &self.limits,
        };
        let loaded = Config::load(inputs, Purpose::Run).map(|config| {
            let rendered = bootstrap::render(&config);
            let referenced = referenced_files::paths(&rendered.json, config.envoy.overlay.as_deref());
            let states = referenced.into_iter().map(|file| (root.look(&file, Probe::Content), file));
            let referenced = states.map(|(state, file)| (file, state)).collect();
            (config, rendered, referenced)
        });
        let may_be_empty = |path: &Path| root.is_of_pod(path);
        let sources = root.sources();
        let mut faults =
            before.map_or_else(Faults::default, |before| emptied(&sources, before, may_be_empty));
        let loaded = loaded.map_err(|errors| faults.extend(errors)).ok();
        let outcome = match loaded {
            Some(loaded) => faults.unless_any(loaded),
            None => Err(faults),
        };
        let outcome = outcome.map(|(config, rendered, referenced)| {
            let path = &config.envoy.binary;
            let state = sources.state(path).unwrap_or(FileState::Absent);
            let binary = EnvoyBinary::detect(path, state, before.map(|before| &before.binary));
            let hash = ConfigHash::of(&config, &rendered, &referenced, &binary);
            Arc::new(DesiredState { config, rendered, hash, sources: sources.clone(), binary })
        });
        Load { sources, outcome }
    }
}

/// Returns a fault for each file that became empty: it was truncated and not yet written, or could not be. A file that was
/// empty at the start is valid.
fn emptied(sources: &SourceFiles, before: &DesiredState, may_be_empty: impl Fn(&Path) -> bool) -> Faults {
    let mut faults = Faults::default();
    for path in sources.emptied(&before.sources).filter(|path| !may_be_empty(path)) {
        let problem = "is empty, but was not before; to empty it on purpose, write {} or remove the file";
        faults.configuration(path.display().to_string(), problem);
    }
    faults
}

// === impl ConfigHash ===

impl ConfigHash {
    fn of(
        config: &Config,
        rendered: &Rendered,
        referenced: &BTreeMap<String, FileState>,
        binary: &EnvoyBinary,
    ) -> Self {
        // The same for every epoch: only the configuration matters.
        let launch = LaunchArgs { bootstrap: Path::new(""), hot_restart: HotRestartFlags::Off };
        let mut hasher = DefaultHasher::new();
        rendered.json.hash(&mut hasher);
        for file in &rendered.files {
            (&file.path, &file.contents).hash(&mut hasher);
        }
        argv(config, launch).hash(&mut hasher);
        referenced.hash(&mut hasher);
        (&config.envoy.binary, binary.identity()).hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl fmt::Display for ConfigHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

//! What should be running: the checked configuration, the bootstrap it makes, and a hash over everything that a
//! new Envoy would do differently. Computed again from the same flags and environment whenever a file may have
//! changed; [`Follower`] says when.
//!
//! Knows nothing of epochs: whether and when the desired Envoy is started is the supervisor's matter.

mod belief;
mod eyes;
mod follower;
mod observer;
mod patience;
mod program;
mod referred;
#[cfg(test)]
mod tests;
mod trail;

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use follower::{Follower, News};

use crate::bootstrap::argv::{HotRestart, Launch, argv};
use crate::bootstrap::{self, Rendered};
use crate::cgroup::Limits;
use crate::cli::{LogFlags, Overrides, ProxyFlags};
use crate::config::env::Environment;
use crate::config::fault::Faults;
use crate::config::sources::{Question, Sight, Sources};
use crate::config::{Config, Inputs, Interfaces, Purpose, Root};
use program::Program;

/// What a configuration is made of that does not change while the agent runs.
///
/// The machine's addresses are among it: the first is part of the node's id, and a control plane must not see
/// another node after a hot restart.
#[derive(Clone, Debug)]
pub struct Given {
    /// Flags of `proxy`.
    pub flags: ProxyFlags,
    /// Flags of the log.
    pub log: LogFlags,
    /// What is given instead of found out.
    pub overrides: Overrides,
    /// The environment.
    pub environment: Environment,
    /// Where relative paths begin.
    pub root: PathBuf,
    /// Addresses of the machine.
    pub interfaces: Interfaces,
    /// How much of the machine is ours: taken once, so that Envoy's threads stay as many.
    pub limits: Limits,
}

/// What should be running.
#[derive(Clone, Debug)]
pub struct Desired {
    /// The checked configuration.
    pub config: Config,
    /// The bootstrap and its side files.
    pub rendered: Rendered,
    /// Over everything that an Envoy would do differently. Parts of the configuration that only the agent acts
    /// on are not in it.
    pub hash: ConfigHash,
    /// Every file it was made from, also those that are not there.
    pub sources: Sources,
    program: Program,
}

/// Tells one desired Envoy from another: its bootstrap, side files, command line, the content of the files that
/// its bootstrap refers to, and its binary. Prints as 16 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ConfigHash(u64);

/// What one reading of everything gave.
#[derive(Debug)]
struct Reading {
    /// The files it was made from. Also a configuration with mistakes has them: they are where it is mended.
    sources: Sources,
    /// What should be running, or every mistake.
    outcome: Result<Arc<Desired>, Faults>,
}

// === impl Given ===

impl Given {
    /// What should be running, for the first time. Blocks.
    pub fn first(&self) -> Result<Arc<Desired>, Faults> {
        self.read(None).outcome
    }

    /// What should be running now that `before` was the last that could be. Blocks, and may ask the DNS.
    fn read(&self, before: Option<&Desired>) -> Reading {
        let root = Root::new(&self.root);
        let inputs = Inputs {
            flags: &self.flags,
            log: &self.log,
            overrides: &self.overrides,
            environment: &self.environment,
            root: &root,
            interfaces: &self.interfaces,
            limits: &self.limits,
        };
        let made = Config::load(inputs, Purpose::Run).map(|config| {
            let rendered = bootstrap::render(&config);
            let referred = referred::files(&rendered.json, config.envoy.overlay.as_deref());
            let sights = referred.into_iter().map(|file| (root.look(&file, Question::Content), file));
            let referred = sights.map(|(sight, file)| (file, sight)).collect();
            (config, rendered, referred)
        });
        let empty = |path: &Path| !root.is_of_pod(path);
        let sources = root.sources();
        let mut faults = before.map_or_else(Faults::default, |before| emptied(&sources, before, empty));
        let made = made.map_err(|mistakes| faults.extend(mistakes)).ok();
        let outcome = match made {
            Some(made) => faults.unless_any(made),
            None => Err(faults),
        };
        let outcome = outcome.map(|(config, rendered, referred)| {
            let binary = &config.envoy.binary;
            let file = sources.sight(binary).unwrap_or(Sight::Absent);
            let program = Program::found(binary, file, before.map(|before| &before.program));
            let hash = ConfigHash::of(&config, &rendered, &referred, &program);
            Arc::new(Desired { config, rendered, hash, sources: sources.clone(), program })
        });
        Reading { sources, outcome }
    }
}

/// A file that was truncated and not yet written to, or could not be, says nothing; an empty one at the start does.
fn emptied(sources: &Sources, before: &Desired, counts: impl Fn(&Path) -> bool) -> Faults {
    let mut faults = Faults::default();
    for path in sources.emptied(&before.sources).filter(|path| counts(path)) {
        let problem = "is empty, and was not; if that is meant, write {} or remove the file";
        faults.configuration(path.display().to_string(), problem);
    }
    faults
}

// === impl ConfigHash ===

impl ConfigHash {
    fn of(
        config: &Config,
        rendered: &Rendered,
        referred: &BTreeMap<String, Sight>,
        program: &Program,
    ) -> Self {
        // The same for every epoch: only what the configuration says counts.
        let launch = Launch { bootstrap: Path::new(""), hot_restart: HotRestart::Off };
        let mut hasher = DefaultHasher::new();
        rendered.json.hash(&mut hasher);
        for file in &rendered.files {
            (&file.path, &file.contents).hash(&mut hasher);
        }
        argv(config, launch).hash(&mut hasher);
        referred.hash(&mut hasher);
        (&config.envoy.binary, program.identity()).hash(&mut hasher);
        Self(hasher.finish())
    }
}

impl fmt::Display for ConfigHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

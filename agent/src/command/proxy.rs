//! `proxy`: everything up to the point where Envoy is started.

use super::Failure;
use crate::bootstrap::{self, Rendered};
use crate::cli::{LogFlags, Overrides, ProxyFlags};
use crate::config::env::Environment;
use crate::config::{Config, Inputs, Interfaces, Purpose, Root};

/// The checked configuration of this process, and the bootstrap it makes.
pub fn prepare(flags: &ProxyFlags, log: &LogFlags) -> Result<(Config, Rendered), Failure> {
    let inputs = Inputs {
        flags,
        log,
        overrides: &Overrides::default(),
        environment: &Environment::of_process(),
        root: &Root::new("."),
        interfaces: &Interfaces::of_machine(),
    };
    let config = Config::load(inputs, Purpose::Run)?;
    let rendered = bootstrap::render(&config);
    Ok((config, rendered))
}

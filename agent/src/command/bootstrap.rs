//! `bootstrap`: prints what `proxy` would give Envoy, and starts nothing.

use std::io::Write as _;
use std::path::Path;

use anyhow::Context as _;

use super::Failure;
use crate::bootstrap;
use crate::cgroup::Limits;
use crate::cli::{BootstrapFlags, LogFlags};
use crate::config::env::Environment;
use crate::config::{Config, ConfigInputs, Interfaces, Purpose, Root};

/// Renders and prints, or writes; gives the warnings.
pub(crate) fn run(flags: &BootstrapFlags, log: &LogFlags) -> Result<Vec<String>, Failure> {
    let inputs = ConfigInputs {
        flags: &flags.proxy,
        log,
        overrides: &flags.overrides,
        environment: &Environment::of_process(),
        root: &Root::new("."),
        interfaces: &Interfaces::of_machine(),
        limits: &Limits::of_process(),
    };
    let config = Config::load(inputs, Purpose::Show)?;
    let rendered = bootstrap::render(&config);
    if flags.out == Path::new("-") {
        std::io::stdout().write_all(rendered.json.as_bytes())?;
    } else {
        std::fs::write(&flags.out, &rendered.json)
            .with_context(|| format!("write {}", flags.out.display()))?;
    }
    Ok([config.warnings, rendered.warnings].concat())
}

//! `proxy` and `run`: read the configuration, run Envoy until the end.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use tracing::{info, warn};

use super::{Failure, block_on};
use crate::cgroup::Limits;
use crate::cli::{LogFlags, Overrides, ProxyFlags};
use crate::config::Interfaces;
use crate::config::env::Environment;
use crate::desired::Given;
use crate::driver::{self, Companion, Settings};
use crate::logs::{Sink, subscriber};
use crate::process;

/// What the last lines may take on their way out. Whoever has not read them by then never will.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Runs Envoy, and `command` beside it if there is one; the exit code of it all.
pub fn run(flags: &ProxyFlags, command: Option<Vec<OsString>>, log: &LogFlags) -> Result<u8, Failure> {
    let given = Given {
        flags: flags.clone(),
        log: log.clone(),
        overrides: Overrides::default(),
        environment: Environment::of_process(),
        root: PathBuf::from("."),
        interfaces: Interfaces::of_machine(),
        limits: Limits::of_process(),
    };
    let first = given.first()?;
    let sink = Sink::start(first.config.log.format).context("start the log thread")?;
    let levels = subscriber::subscribe(&first.config.log, &sink)?;
    for warning in first.config.warnings.iter().chain(&first.rendered.warnings) {
        warn!("{warning}");
    }
    match process::raise_open_files() {
        Ok(limit) => info!(limit, node = %first.config.node.id, "open files"),
        Err(error) => warn!(%error, "cannot raise the limit of open files"),
    }
    let companion = command.map(Companion::Command).or(flags.exit_with.map(Companion::Process));
    let end = block_on(driver::run(Settings { given, first, companion, levels }, sink.clone()));
    // A log nobody reads must not keep us.
    sink.flush(LAST_LINES);
    Ok(end??)
}

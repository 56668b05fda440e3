//! `proxy` and `run`: read the configuration, run Envoy until the end.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use tracing::{info, warn};

use super::{Failure, block_on};
use crate::cgroup::Limits;
use crate::cli::{LogFlags, Overrides, ProxyFlags};
use crate::config::Interfaces;
use crate::config::env::Environment;
use crate::config::fault::Faults;
use crate::desired::FixedInputs;
use crate::driver::{self, AppSource, Settings};
use crate::logs::{Sink, subscriber};
use crate::process;
use crate::report::{self, Report};

/// Time limit to flush the log at the end.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Runs Envoy, and `command` beside it if there is one; the exit code of it all.
pub(crate) fn run(flags: &ProxyFlags, command: Option<Vec<OsString>>, log: &LogFlags) -> Result<u8, Failure> {
    let fixed_inputs = FixedInputs {
        flags: flags.clone(),
        log: log.clone(),
        overrides: Overrides::default(),
        environment: Environment::of_process(),
        root: PathBuf::from("."),
        interfaces: Interfaces::of_machine(),
        limits: Limits::of_process(),
    };
    let first =
        fixed_inputs.load_first().inspect_err(|faults| report_faults(&fixed_inputs.environment, faults))?;
    let sink = Sink::start(first.config.log.format).context("start the log thread")?;
    let levels = subscriber::subscribe(&first.config.log, &sink)?;
    for warning in first.config.warnings.iter().chain(&first.rendered.warnings) {
        warn!("{warning}");
    }
    match process::raise_open_files() {
        Ok(limit) => info!(limit, node = %first.config.node.id, "open files"),
        Err(error) => warn!(%error, "cannot raise the limit of open files"),
    }
    let app = command.map(AppSource::Command).or(flags.exit_with.map(AppSource::Process));
    let end = block_on(driver::run(Settings { fixed_inputs, first, app, levels }, sink.clone()));
    // An unread log must not block the exit.
    sink.flush(LAST_LINES);
    Ok(end??)
}

/// Writes the errors to the termination log, where `kubectl` shows them, in addition to the log.
fn report_faults(environment: &Environment, faults: &Faults) {
    let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
    let report = Report { reason: "the configuration cannot be used", envoy: None, last_lines: &lines };
    let path = environment.termination_log();
    if let Err(error) = report::write(Path::new(path), &report) {
        eprintln!("pilot-agent: write {path}: {error}");
    }
}

//! Validates a bootstrap with `envoy --mode validate`, then reads the hot-restart version of the binary. One validation
//! at a time, each in a process of its own; the Envoy that serves is not involved.
//!
//! It does not find out whether addresses are free: `--mode validate` binds nothing.

use std::time::Duration;

use tokio::{io::AsyncReadExt, net::unix::pipe, task::JoinHandle, time::timeout};
use tracing::{error, info, warn};

use super::{Driver, STDERR_TIMEOUT, launch_spec::LaunchSpec};
use crate::{
    bootstrap::argv::{HotRestartFlags, LaunchArgs, argv},
    hot_restart::HotRestartVersion,
    logs::{ErrorChain, StderrTail, envoy::LogOrigin},
    process::{ChildId, ChildOutput, ChildStdio, Program},
    supervisor::{Event, ExitStatus, Revision, ValidationResult},
};

/// Limit of a validation. It takes 50 ms, and seconds with very many clusters on a busy machine.
const VALIDATION_TIMEOUT: Duration = Duration::from_secs(20);

/// Bytes of output that are read; a version is `11.104`.
const MAX_VERSION: u64 = 64;

/// A validation in progress.
#[derive(Debug)]
pub(super) struct Validation {
    revision: Revision,
    since: tokio::time::Instant,
    stderr_tail: StderrTail,
    version: Option<JoinHandle<String>>,
}

/// Waits until a validation has taken too long; forever if there is none.
pub(super) async fn overdue(validation: Option<&Validation>) {
    match validation {
        Some(validation) => tokio::time::sleep_until(validation.since + VALIDATION_TIMEOUT).await,
        None => std::future::pending().await,
    }
}

impl Driver {
    /// Starts the validation of a revision.
    pub(super) async fn validate(&mut self, revision: Revision) {
        let Some(spec) = self.records.launch_specs.get(revision).cloned() else {
            return self.finish_validation(revision, ValidationResult::Rejected);
        };
        let started = self.start_validation(revision, &spec).await;
        match started {
            Ok(stderr_tail) => {
                let since = tokio::time::Instant::now();
                self.inputs.validation = Some(Validation { revision, since, stderr_tail, version: None });
            }
            Err(error) => {
                error!(%error, %revision, "cannot start the validation of the bootstrap");
                self.outputs.publisher.config_rejected(spec.desired.hash.to_string(), error.to_string());
                self.finish_validation(revision, ValidationResult::Rejected);
            }
        }
    }

    async fn start_validation(
        &mut self,
        revision: Revision,
        spec: &LaunchSpec,
    ) -> std::io::Result<StderrTail> {
        let (bootstrap, _) = spec.bootstrap(&self.outputs.run_folder.join("validate.sock"));
        let path = self.outputs.bootstrap_folder.write_candidate(bootstrap.as_bytes())?;
        Self::write_side_files(spec)?;
        let launch = LaunchArgs { bootstrap: &path, hot_restart: HotRestartFlags::Off };
        let mut arguments = argv(spec.config(), launch);
        arguments.extend(["--mode".into(), "validate".into()]);
        let program =
            Program { path: spec.config().envoy.binary.clone(), arguments, stdio: ChildStdio::Piped };
        let (pid, output) = self.outputs.children.spawn(ChildId::Validation(revision), program).await?;
        let stderr_tail = StderrTail::default();
        let epoch =
            self.supervisor.phase().owner.map_or(crate::supervisor::Epoch::FIRST, |one| one.epoch.next());
        if let Some(output) = output {
            self.pump(output, LogOrigin { epoch, pid }, &stderr_tail);
        }
        Ok(stderr_tail)
    }

    /// Handles the exit of a validating Envoy.
    pub(super) async fn validated(&mut self, revision: Revision, status: ExitStatus) {
        let Some(validation) = self.inputs.validation.as_ref().filter(|v| v.revision == revision) else {
            return;
        };
        if status != ExitStatus::Exited(0) {
            let reason = validation.stderr_tail.reason().unwrap_or_else(|| status.to_string());
            error!(%revision, %status, "Envoy rejects the new configuration: {reason}");
            if let Some(spec) = self.records.launch_specs.get(revision) {
                self.outputs.publisher.config_rejected(spec.desired.hash.to_string(), reason);
            }
            return self.finish_validation(revision, ValidationResult::Rejected);
        }
        let Some(spec) = self.records.launch_specs.get(revision) else {
            return self.finish_validation(revision, ValidationResult::Rejected);
        };
        let program = Program {
            path: spec.config().envoy.binary.clone(),
            arguments: vec!["--hot-restart-version".into()],
            stdio: ChildStdio::Piped,
        };
        match self.outputs.children.spawn(ChildId::Version(revision), program).await {
            Ok((_, output)) => {
                let version = output.map(|output| tokio::spawn(first_bytes(output)));
                if let Some(validation) = &mut self.inputs.validation {
                    validation.version = version;
                }
            }
            Err(error) => {
                warn!(%error, "cannot read Envoy's hot-restart version");
                self.accept(revision);
            }
        }
    }

    /// Handles the exit of an Envoy that has printed its hot-restart version.
    pub(super) async fn version_printed(&mut self, revision: Revision, status: ExitStatus) {
        let version =
            self.inputs.validation.as_mut().filter(|v| v.revision == revision).and_then(|v| v.version.take());
        let Some(version) = version else { return };
        let text = match timeout(STDERR_TIMEOUT, version).await {
            Ok(Ok(text)) if status == ExitStatus::Exited(0) => text,
            _ => String::new(),
        };
        match text.parse::<HotRestartVersion>() {
            Ok(version) => self.outputs.backend.record_version(revision, version, &self.revisions()),
            Err(error) => {
                warn!(error = %ErrorChain(&error), %status, "Envoy does not print its hot-restart version");
            }
        }
        self.accept(revision);
    }

    fn accept(&mut self, revision: Revision) {
        let running = self.supervisor.phase().owner.map_or(revision, |owner| owner.revision);
        let coupling = self.outputs.backend.coupling(running, revision);
        info!(%revision, ?coupling, "Envoy accepts the new configuration");
        self.finish_validation(revision, ValidationResult::Accepted(coupling));
    }

    pub(super) fn validation_overdue(&mut self) {
        let Some(validation) = self.inputs.validation.take() else { return };
        for child in [ChildId::Validation(validation.revision), ChildId::Version(validation.revision)] {
            if let Err(error) = self.outputs.children.kill(child) {
                warn!(%error, "kill a validation");
            }
        }
        self.finish_validation(validation.revision, ValidationResult::Rejected);
    }

    fn finish_validation(&mut self, revision: Revision, result: ValidationResult) {
        self.inputs.validation = None;
        self.pending.push_back(Event::Validated(revision, result));
    }
}

/// Reads as much output as a version can have. Envoy 1.40 prints it to stderr.
async fn first_bytes(output: ChildOutput) -> String {
    let mut text = Vec::new();
    for pipe in [output.stdout.into(), output.stderr.into()] {
        if let Ok(mut pipe) = pipe::Receiver::from_owned_fd(pipe) {
            // A read error leaves a text that is no version, which is reported.
            drop((&mut pipe).take(MAX_VERSION).read_to_end(&mut text).await);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

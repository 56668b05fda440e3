//! Lets Envoy itself say whether it would start with a bootstrap, and which hot-restart protocol it speaks, before
//! anything depends on it. One at a time, each in a process of its own; the Envoy that serves notices nothing.
//!
//! What it cannot find out is whether addresses are free: `--mode validate` binds nothing.

use std::time::Duration;

use tokio::{io::AsyncReadExt, net::unix::pipe, task::JoinHandle, time::timeout};
use tracing::{error, info, warn};

use super::{Driver, LAST_WORDS, journal::Chain, plan::Plan};
use crate::{
    bootstrap::argv::{HotRestart, Launch, argv},
    hot_restart::Version,
    logs::{LastWords, envoy::Origin},
    process::{Child, Output, Program, Wiring},
    supervisor::{Event, Revision, Status, Verdict},
};

/// It takes 50 ms, and seconds with very many clusters on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);

/// A version is `11.104`.
const LONGEST: u64 = 64;

/// One in progress.
#[derive(Debug)]
pub(super) struct Validation {
    revision: Revision,
    since: tokio::time::Instant,
    last_words: LastWords,
    version: Option<JoinHandle<String>>,
}

/// Ends when it has taken too long.
pub(super) async fn overdue(validation: Option<&Validation>) {
    match validation {
        Some(validation) => tokio::time::sleep_until(validation.since + PATIENCE).await,
        None => std::future::pending().await,
    }
}

impl Driver {
    /// Has Envoy say what it thinks of this revision.
    pub(super) async fn validate(&mut self, revision: Revision) {
        let Some(plan) = self.plans.get(revision).cloned() else {
            return self.verdict(revision, Verdict::Refused);
        };
        let started = self.start_validation(revision, &plan).await;
        match started {
            Ok(last_words) => {
                let since = tokio::time::Instant::now();
                self.validation = Some(Validation { revision, since, last_words, version: None });
            }
            Err(error) => {
                error!(%error, %revision, "cannot have Envoy validate its bootstrap");
                self.bulletin.refuse(plan.desired.hash.to_string(), error.to_string());
                self.verdict(revision, Verdict::Refused);
            }
        }
    }

    async fn start_validation(&mut self, revision: Revision, plan: &Plan) -> std::io::Result<LastWords> {
        let (bootstrap, _) = plan.bootstrap(&self.run_folder.join("validate.sock"));
        let path = self.bootstraps.write_candidate(bootstrap.as_bytes())?;
        Self::write_side_files(plan)?;
        let launch = Launch { bootstrap: &path, hot_restart: HotRestart::Off };
        let mut arguments = argv(plan.config(), launch);
        arguments.extend(["--mode".into(), "validate".into()]);
        let program = Program { path: plan.config().envoy.binary.clone(), arguments, wiring: Wiring::Piped };
        let (pid, output) = self.children.spawn(Child::Validation(revision), program).await?;
        let last_words = LastWords::default();
        let epoch =
            self.supervisor.phase().owner.map_or(crate::supervisor::Epoch::FIRST, |one| one.epoch.next());
        if let Some(output) = output {
            self.pump(output, Origin { epoch, pid }, &last_words);
        }
        Ok(last_words)
    }

    /// Envoy has said what it thinks.
    pub(super) async fn validated(&mut self, revision: Revision, status: Status) {
        let Some(validation) = self.validation.as_ref().filter(|v| v.revision == revision) else { return };
        if status != Status::Exited(0) {
            let reason = validation.last_words.reason().unwrap_or_else(|| status.to_string());
            error!(%revision, %status, "Envoy refuses the new configuration: {reason}");
            if let Some(plan) = self.plans.get(revision) {
                self.bulletin.refuse(plan.desired.hash.to_string(), reason);
            }
            return self.verdict(revision, Verdict::Refused);
        }
        let Some(plan) = self.plans.get(revision) else { return self.verdict(revision, Verdict::Refused) };
        let program = Program {
            path: plan.config().envoy.binary.clone(),
            arguments: vec!["--hot-restart-version".into()],
            wiring: Wiring::Piped,
        };
        match self.children.spawn(Child::Version(revision), program).await {
            Ok((_, output)) => {
                let told = output.map(|output| tokio::spawn(first_bytes(output)));
                if let Some(validation) = &mut self.validation {
                    validation.version = told;
                }
            }
            Err(error) => {
                warn!(%error, "cannot ask Envoy for its hot-restart version");
                self.usable(revision);
            }
        }
    }

    /// Envoy has said what it speaks.
    pub(super) async fn version_told(&mut self, revision: Revision, status: Status) {
        let told = self.validation.as_mut().filter(|v| v.revision == revision).and_then(|v| v.version.take());
        let Some(told) = told else { return };
        let text = match timeout(LAST_WORDS, told).await {
            Ok(Ok(text)) if status == Status::Exited(0) => text,
            _ => String::new(),
        };
        match text.parse::<Version>() {
            Ok(version) => self.engine.learn(revision, version, &self.revisions()),
            Err(error) => {
                warn!(error = %Chain(&error), %status, "Envoy does not tell its hot-restart version");
            }
        }
        self.usable(revision);
    }

    fn usable(&mut self, revision: Revision) {
        let running = self.supervisor.phase().owner.map_or(revision, |owner| owner.revision);
        let bond = self.engine.bond(running, revision);
        info!(%revision, ?bond, "Envoy takes the new configuration");
        self.verdict(revision, Verdict::Usable(bond));
    }

    pub(super) fn validation_overdue(&mut self) {
        let Some(validation) = self.validation.take() else { return };
        for child in [Child::Validation(validation.revision), Child::Version(validation.revision)] {
            if let Err(error) = self.children.kill(child) {
                warn!(%error, "kill a validation");
            }
        }
        self.verdict(validation.revision, Verdict::Refused);
    }

    fn verdict(&mut self, revision: Revision, verdict: Verdict) {
        self.validation = None;
        self.pending.push_back(Event::Validated(revision, verdict));
    }
}

/// As much as a version can be. Envoy says it on stderr, and might one day do so where one expects it.
async fn first_bytes(output: Output) -> String {
    let mut text = Vec::new();
    for pipe in [output.stdout.into(), output.stderr.into()] {
        if let Ok(mut pipe) = pipe::Receiver::from_owned_fd(pipe) {
            // What cannot be read is no version, and that is told.
            drop((&mut pipe).take(LONGEST).read_to_end(&mut text).await);
        }
    }
    String::from_utf8_lossy(&text).into_owned()
}

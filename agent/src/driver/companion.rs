//! Who decides that the agent's work is done: nobody, a command that the agent starts beside Envoy, or a process
//! that is there already.
//!
//! A command starts once Envoy serves, gets the signals that the agent gets, and when it ends Envoy is drained and
//! the agent ends with its exit code: so a job with a sidecar completes, and as what it was.

use std::{ffi::OsString, time::Duration};

use anyhow::Context;
use nix::sys::signal::Signal;
use tokio::{sync::watch, time::sleep};
use tracing::{error, info, warn};

use super::Driver;
use crate::{
    envoy_admin::EnvoyAdmin,
    process::{self, Child, Children, Program, Wiring, pidfd::Watched},
    status::Expected,
    supervisor::{Event, Phase, Stage, Status},
};

/// Between two looks whether Envoy serves.
const INTERVAL: Duration = Duration::from_millis(20);

/// Whose end is ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Companion {
    /// That of a command we start: `pilot-agent run -- CMD`.
    Command(Vec<OsString>),
    /// That of a process: `--exitWith PID`.
    Process(i32),
}

/// How things stand with it.
#[derive(Debug)]
pub(super) struct Company {
    state: State,
    code: Option<u8>,
}

#[derive(Debug)]
enum State {
    Alone,
    /// Until Envoy serves.
    Waiting(Vec<OsString>, Watch),
    Running,
    Watching(Watched),
}

/// What tells that Envoy serves.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) phases: watch::Receiver<Phase>,
    pub(super) admin: watch::Receiver<Option<EnvoyAdmin>>,
    pub(super) expected: Expected,
}

/// What is new about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Envoy serves: now.
    Start(Vec<OsString>),
    /// It has ended; `None`: nobody tells how.
    Ended(Option<u8>),
}

/// Whether a signal of ours was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    On,
    NobodyThere,
}

// === impl Company ===

impl Company {
    pub(super) fn new(companion: Option<Companion>, watch: Watch) -> anyhow::Result<Self> {
        let state = match companion {
            None => State::Alone,
            Some(Companion::Command(command)) => State::Waiting(command, watch),
            Some(Companion::Process(pid)) => State::Watching(
                Watched::open(pid).with_context(|| format!("--exitWith: watch process {pid}"))?,
            ),
        };
        Ok(Self { state, code: None })
    }

    /// May be cancelled.
    pub(super) async fn next(&mut self) -> News {
        let news = match &mut self.state {
            State::Alone | State::Running => std::future::pending().await,
            State::Waiting(command, watch) => {
                watch.serves().await;
                News::Start(command.clone())
            }
            State::Watching(process) => News::Ended(process.end().await),
        };
        self.state = State::Alone;
        news
    }

    /// Passes SIGTERM on to a command that runs.
    pub(super) fn pass_on(&self, children: &Children) -> Passed {
        if !matches!(self.state, State::Running) {
            return Passed::NobodyThere;
        }
        if let Err(error) = children.send(Child::Command, Signal::SIGTERM) {
            warn!(%error, "pass SIGTERM on to the command");
        }
        Passed::On
    }

    pub(super) fn ended(&mut self, status: Status) -> News {
        self.state = State::Alone;
        News::Ended(Some(status.code()))
    }

    /// What the agent ends with because of it.
    pub(super) fn code(&self) -> Option<u8> {
        self.code
    }
}

// === impl Watch ===

impl Watch {
    async fn serves(&mut self) {
        loop {
            if self.phases.wait_for(|phase| phase.stage == Stage::Running).await.is_err() {
                std::future::pending::<()>().await;
            }
            let admin = self.admin.borrow().clone();
            if let Some(admin) = admin
                && let Ok(updates) = admin.config_updates().await
                && updates.workers_started > 0
                && self.expected.has_come(updates)
            {
                return;
            }
            sleep(INTERVAL).await;
        }
    }
}

// === impl Driver ===

impl Driver {
    pub(super) async fn company_news(&mut self, news: News) {
        match news {
            News::Start(command) => {
                let mut words = command.into_iter();
                let Some(path) = words.next() else { return };
                let program =
                    Program { path: path.into(), arguments: words.collect(), wiring: Wiring::Inherited };
                match self.children.spawn(Child::Command, program).await {
                    Ok((pid, _)) => {
                        info!(%pid, "started the command");
                        self.company.state = State::Running;
                    }
                    Err(error) => {
                        error!(%error, "cannot start the command");
                        self.company.code = Some(process::failure(&error).code());
                        self.pending.push_back(Event::Terminate);
                    }
                }
            }
            News::Ended(code) => {
                info!(code, "what we are here for has ended");
                self.company.code = Some(code.unwrap_or(0));
                self.pending.push_back(Event::Terminate);
            }
        }
    }
}

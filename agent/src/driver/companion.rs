//! Who decides that the agent's work is done: nobody, a command that the agent starts beside Envoy, or a process
//! that is there already.
//!
//! A command starts once Envoy serves, gets the signals that the agent gets, and when it ends Envoy is drained and
//! the agent ends with its exit code: so a job with a sidecar completes, and as what it was. A command that does not
//! end when it is told to has as long as a drain may take, or until the agent is told again.

use std::{
    ffi::OsString,
    time::{Duration, Instant},
};

use anyhow::Context;
use tokio::{
    sync::watch,
    time::{sleep, sleep_until},
};
use tracing::{error, info, warn};

use super::Driver;
use crate::{
    envoy_admin::EnvoyAdmin,
    process::{self, Child, Children, Program, Wiring, pidfd::Watched},
    signals::Caught,
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
    /// How long a command may take to end.
    patience: Duration,
}

#[derive(Debug)]
enum State {
    Alone,
    /// Until Envoy serves.
    Waiting(Vec<OsString>, Watch),
    Running {
        told: Option<Instant>,
    },
    Watching(Watched),
}

/// What tells that Envoy serves.
#[derive(Debug)]
pub(super) struct Watch {
    pub(super) phases: watch::Receiver<Phase>,
    pub(super) admin: watch::Receiver<Option<EnvoyAdmin>>,
    pub(super) expected: watch::Receiver<Expected>,
}

/// What is new about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum News {
    /// Envoy serves: now.
    Start(Vec<OsString>),
    /// It has ended; `None`: nobody tells how.
    Ended(Option<u8>),
    /// It was told to end, and has not.
    Overdue,
}

/// Whether a signal of ours was passed on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    On,
    NobodyThere,
}

// === impl Company ===

impl Company {
    pub(super) fn new(
        companion: Option<Companion>,
        watch: Watch,
        patience: Duration,
    ) -> anyhow::Result<Self> {
        let state = match companion {
            None => State::Alone,
            Some(Companion::Command(command)) => State::Waiting(command, watch),
            Some(Companion::Process(pid)) => State::Watching(
                Watched::open(pid).with_context(|| format!("--exitWith: watch process {pid}"))?,
            ),
        };
        Ok(Self { state, code: None, patience })
    }

    /// May be cancelled.
    pub(super) async fn next(&mut self) -> News {
        let news = match &mut self.state {
            State::Alone | State::Running { told: None } => std::future::pending().await,
            State::Running { told: Some(told) } => {
                sleep_until((*told + self.patience).into()).await;
                *told = far_from(Instant::now());
                return News::Overdue;
            }
            State::Waiting(command, watch) => {
                watch.serves().await;
                News::Start(command.clone())
            }
            State::Watching(process) => News::Ended(process.end().await),
        };
        self.state = State::Alone;
        news
    }

    /// Passes a signal on to a command that runs. One that was told to end already is not asked twice: the end is
    /// ours then.
    fn pass_on(&mut self, caught: Caught, children: &Children) -> Passed {
        let State::Running { told } = &mut self.state else { return Passed::NobodyThere };
        if let Caught::Terminate(_) = caught
            && told.replace(Instant::now()).is_some()
        {
            return Passed::NobodyThere;
        }
        if let Err(error) = children.send(Child::Command, caught.signal()) {
            warn!(%error, ?caught, "pass a signal on to the command");
        }
        Passed::On
    }

    pub(super) fn ended(&mut self, status: Status) -> News {
        self.state = State::Alone;
        News::Ended(Some(status.code()))
    }

    /// What the agent ends with because of it. A command that still runs is killed.
    pub(super) fn code(&self, children: &Children) -> Option<u8> {
        if let State::Running { .. } = self.state {
            warn!("killing the command");
            if let Err(error) = children.kill(Child::Command) {
                warn!(%error, "kill the command");
            }
            return Some(Status::KILLED.code());
        }
        self.code
    }
}

/// A moment that does not come.
fn far_from(now: Instant) -> Instant {
    now + Duration::from_hours(365 * 24)
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
                && self.expected.borrow().is_met(updates)
            {
                return;
            }
            sleep(INTERVAL).await;
        }
    }
}

// === impl Driver ===

impl Driver {
    /// Passes a signal on, if there is a command to pass it on to.
    pub(super) fn pass_on(&mut self, caught: Caught) -> Passed {
        if caught == Caught::Child {
            return Passed::NobodyThere;
        }
        let passed = self.company.pass_on(caught, &self.children);
        if let (Passed::On, Caught::Terminate(_)) = (passed, caught) {
            self.pending.push_back(Event::Withdraw);
        }
        passed
    }

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
                        self.company.state = State::Running { told: None };
                    }
                    Err(error) => {
                        error!(%error, "cannot start the command");
                        self.company.code = Some(process::failure(&error).code());
                        self.pending.push_back(Event::Terminate);
                    }
                }
            }
            News::Overdue => {
                warn!("the command was told to end, and has not");
                self.pending.push_back(Event::Terminate);
            }
            News::Ended(code) => {
                info!(code, "what we are here for has ended");
                self.company.code = Some(code.unwrap_or(0));
                self.pending.push_back(Event::Terminate);
            }
        }
    }
}

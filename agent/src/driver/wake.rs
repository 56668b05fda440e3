//! What wakes the driver, and the events that it makes of it.

use std::{sync::Arc, time::Duration};

use anyhow::anyhow;
use tokio::time::sleep;
use tracing::{error, info, warn};

use super::{
    Driver, companion,
    journal::Chain,
    observer::{Sight, What},
};
use crate::{
    cgroup::{Oom, OomCount},
    desired::ConfigUpdate,
    process::Child,
    signals::Caught,
    status::Order,
    supervisor::{Event, Launch, Stage, Status, Timer},
};

/// Something to be turned into events.
pub(super) enum Wake {
    Signal(Caught),
    Sight(Sight),
    Order(Order),
    Timer(Timer),
    News(Option<ConfigUpdate>),
    Company(companion::News),
    Validation,
    Autopsy(Oom),
    Ended(String),
}

/// Between two attempts to get at the sockets of an Envoy that is busy.
const AGAIN: Duration = Duration::from_secs(1);

// === impl Driver ===

impl Driver {
    pub(super) async fn wake(&mut self, wake: Wake) {
        match wake {
            Wake::Signal(Caught::Child) => self.reap().await,
            Wake::Signal(caught) => self.signalled(caught),
            Wake::Timer(timer) => {
                self.timers.disarm(timer);
                self.pending.push_back(Event::Due(timer));
            }
            Wake::Sight(Sight { launch, what }) => self.sighted(launch, what).await,
            Wake::Order(Order::Quit) => self.pending.push_back(Event::Quit),
            Wake::Order(Order::Withdraw) => self.pending.push_back(Event::Withdraw),
            Wake::Order(Order::Restart) => self.restart(),
            Wake::News(Some(news)) => self.desire(news),
            Wake::News(None) => {
                error!("configuration is no longer followed");
                self.follower = None;
            }
            Wake::Company(news) => self.company_news(news).await,
            Wake::Validation => {
                warn!("Envoy takes too long to validate its bootstrap");
                self.validation_overdue();
            }
            Wake::Autopsy(oom) => {
                self.ledger.judged(oom);
                if oom == Oom::Oom {
                    error!("Envoy was killed because the container is out of memory");
                }
                self.publish();
            }
            Wake::Ended(reason) => {
                error!(reason, "stopping, because a part of the agent is gone");
                self.fault.get_or_insert(anyhow!(reason));
                self.pending.push_back(Event::Terminate);
            }
        }
    }

    fn signalled(&mut self, caught: Caught) {
        // Beside a command the agent is one that passes signals on.
        if let companion::Passed::On = self.pass_on(caught) {
            return;
        }
        match caught {
            Caught::Terminate(_) => self.pending.push_back(Event::Terminate),
            Caught::ReopenLogs => self.pending.push_back(Event::ReopenLogs),
            Caught::Hangup => self.restart(),
            Caught::Dump => info!(driver = ?self, "SIGQUIT: this is what I know"),
            Caught::Other(_) | Caught::Child => {}
        }
    }

    async fn sighted(&mut self, launch: Launch, what: What) {
        match what {
            What::Event(event) => self.pending.push_back(event),
            What::Speaks(version) => {
                if let Some(entry) = self.ledger.get(launch) {
                    self.engine.learn(entry.generation.revision, version, &self.revisions());
                }
            }
            What::Listens(addresses) => {
                let owner = self.supervisor.phase().owner.filter(|owner| owner.launch == launch);
                if let Some(owner) = owner
                    && let Err(error) = self.engine.hold(owner, &addresses).await
                {
                    warn!(error = %Chain(&error), "listening sockets are not held yet");
                    let (again, what) = (self.seen.clone(), What::Listens(addresses));
                    self.pumps.spawn(async move {
                        sleep(AGAIN).await;
                        // An error is the driver's end.
                        drop(again.send(Sight { launch, what }).await);
                    });
                }
            }
            What::Deaf => {
                // Whoever is told to leave by a signal needs no other word.
                if self.supervisor.phase().stage == Stage::Draining
                    && let Some(generation) = self.ledger.get(launch).map(|entry| entry.generation)
                    && let Err(error) = self.engine.drain(generation).await
                {
                    warn!(error = %Chain(&error), "Envoy is not told to drain at all");
                }
            }
            What::Busy(census, listeners) => {
                self.bulletin.busy(&census, &listeners);
                self.pending.push_back(Event::Activity(launch, census.activity));
            }
        }
    }

    async fn reap(&mut self) {
        let ended = self.children.reap();
        self.counters.reaped(self.children.orphans());
        for (child, status) in ended {
            match child {
                Child::Envoy(launch) => {
                    self.counters.died(status);
                    self.autopsy(status);
                    self.pending.push_back(Event::Died(launch, status));
                }
                Child::Validation(revision) => self.validated(revision, status).await,
                Child::Version(revision) => self.version_told(revision, status).await,
                Child::Command => {
                    let news = self.company.ended(status);
                    self.company_news(news).await;
                }
            }
        }
    }

    /// Whether it was want of memory takes the kernel a moment to say.
    fn autopsy(&mut self, status: Status) {
        let (before, cgroup) = (self.kills, Arc::clone(&self.cgroup));
        self.kills = OomCount::of(&self.cgroup);
        if status == Status::KILLED {
            self.autopsies.spawn(async move { before.verdict(&cgroup).await });
        }
    }
}

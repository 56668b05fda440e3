//! Watches Envoy through its admin and tells the driver what it sees: LIVE, silent, back, how busy.
//!
//! What is worth looking at depends on the phase. A look is dropped half-way when the phase changes, and
//! every sight carries the launch it is of, because the next Envoy has the same epoch and the same port.

use std::{
    convert::Infallible,
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::{
    sync::{mpsc, watch},
    time::sleep,
};
use tracing::debug;

use crate::{
    envoy_admin::{EnvoyAdmin, Identity, Liveness},
    supervisor::{Epoch, Event, Phase, Stage},
};

/// A start takes 60 to 200 ms, and every one of them costs requests after a crash...
const START_INTERVAL: Duration = Duration::from_millis(10);

/// ...but one that waits for its control plane may take for ever.
const EAGER_FOR: Duration = Duration::from_secs(2);
const PATIENT_INTERVAL: Duration = Duration::from_millis(100);

/// While all is well.
const RUN_INTERVAL: Duration = Duration::from_secs(1);

/// With a second's patience per question, silence is noticed within five seconds.
const RETRY_INTERVAL: Duration = Duration::from_millis(250);
const SILENT_AFTER: Duration = Duration::from_millis(3500);

/// One lost answer is no silence, however long ago the last one was: it is we who may have been stopped.
const SILENT_QUESTIONS: u32 = 2;

/// While draining: often, but never more than a twentieth of Envoy's main thread.
const DRAIN_INTERVALS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));
const DRAIN_SHARE: u32 = 20;

/// Something seen of the Envoy of this launch.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sight {
    pub(super) launch: u32,
    pub(super) event: Event,
}

/// Looks at one Envoy after the other.
#[derive(Debug)]
pub(super) struct Observer {
    pub(super) admin: EnvoyAdmin,
    pub(super) bootstrap: PathBuf,
    pub(super) phases: watch::Receiver<Phase>,
    pub(super) sights: mpsc::Sender<Sight>,
}

/// What has been seen of one Envoy so far.
#[derive(Debug)]
struct Memory {
    since: Instant,
    admin: Admin,
    pause: Duration,
}

/// How its admin has been answering.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Admin {
    Never,
    Answers { last: Instant, missed: u32 },
    Silent,
}

// === impl Observer ===

impl Observer {
    /// Looks for as long as there is somebody to tell.
    pub(super) async fn run(mut self) {
        let mut memory = Memory::new(Instant::now());
        let mut launch = 0;
        loop {
            let phase = *self.phases.borrow_and_update();
            if phase.launch != launch {
                launch = phase.launch;
                memory = Memory::new(Instant::now());
            }
            let looking = look(&self.admin, &self.bootstrap, phase, &mut memory);
            let event = tokio::select! {
                event = looking => event,
                changed = self.phases.changed() => match changed {
                    Ok(()) => continue,
                    Err(_) => return,
                },
            };
            if self.sights.send(Sight { launch, event }).await.is_err() {
                return;
            }
        }
    }
}

/// The next event worth telling in this phase.
async fn look(admin: &EnvoyAdmin, bootstrap: &std::path::Path, phase: Phase, memory: &mut Memory) -> Event {
    match (phase.stage, phase.epoch) {
        (Stage::Starting, Some(epoch)) => starting(admin, bootstrap, epoch, memory).await,
        (Stage::Running | Stage::Silent, Some(_)) => running(admin, memory).await,
        (Stage::Draining, Some(_)) => draining(admin, memory).await,
        _ => match nothing().await {},
    }
}

async fn starting(
    admin: &EnvoyAdmin,
    bootstrap: &std::path::Path,
    epoch: Epoch,
    memory: &mut Memory,
) -> Event {
    loop {
        sleep(memory.start_interval()).await;
        let ready = admin.ready().await;
        let noted = memory.note(&ready, Instant::now());
        if matches!(ready, Ok(Liveness::Live)) {
            match admin.identify(epoch, bootstrap).await {
                Ok(Identity::Live) => return Event::Live(epoch),
                // Before ours has taken the port, or because it never will.
                other => debug!(?other, %epoch, "LIVE, but not ours"),
            }
        }
        if let Some(event) = noted {
            return event;
        }
    }
}

async fn running(admin: &EnvoyAdmin, memory: &mut Memory) -> Event {
    loop {
        sleep(memory.run_interval()).await;
        let ready = admin.ready().await;
        if let Some(event) = memory.note(&ready, Instant::now()) {
            return event;
        }
    }
}

async fn draining(admin: &EnvoyAdmin, memory: &mut Memory) -> Event {
    sleep(memory.pause).await;
    let asked = Instant::now();
    let activity = admin.activity().await.unwrap_or_else(|error| {
        debug!(%error, "what Envoy is busy with");
        None
    });
    memory.pause = drain_interval(asked.elapsed());
    Event::Activity(activity)
}

fn drain_interval(cost: Duration) -> Duration {
    cost.saturating_mul(DRAIN_SHARE).clamp(DRAIN_INTERVALS.0, DRAIN_INTERVALS.1)
}

async fn nothing() -> Infallible {
    std::future::pending().await
}

// === impl Memory ===

impl Memory {
    fn new(since: Instant) -> Self {
        Self { since, admin: Admin::Never, pause: Duration::ZERO }
    }

    /// One more answer, or none; what of it is news.
    fn note<T, E>(&mut self, answer: &Result<T, E>, now: Instant) -> Option<Event> {
        let (admin, news) = match (answer, self.admin) {
            (Ok(_), Admin::Silent) => (Admin::Answers { last: now, missed: 0 }, Some(Event::AdminBack)),
            (Ok(_), Admin::Never | Admin::Answers { .. }) => (Admin::Answers { last: now, missed: 0 }, None),
            (Err(_), Admin::Answers { last, missed }) => {
                let missed = missed.saturating_add(1);
                let silent =
                    missed >= SILENT_QUESTIONS && now.saturating_duration_since(last) >= SILENT_AFTER;
                if silent {
                    (Admin::Silent, Some(Event::AdminSilent))
                } else {
                    (Admin::Answers { last, missed }, None)
                }
            }
            (Err(_), Admin::Never | Admin::Silent) => (self.admin, None),
        };
        self.admin = admin;
        news
    }

    fn start_interval(&self) -> Duration {
        if self.since.elapsed() < EAGER_FOR { START_INTERVAL } else { PATIENT_INTERVAL }
    }

    fn run_interval(&self) -> Duration {
        match self.admin {
            Admin::Never | Admin::Answers { missed: 0, .. } => RUN_INTERVAL,
            Admin::Answers { .. } | Admin::Silent => RETRY_INTERVAL,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Answers (`true`) and lost ones at the given milliseconds; the news among them.
    fn check(answers: &[(u64, bool)], expected: &[(u64, Event)]) {
        let start = Instant::now();
        let mut memory = Memory::new(start);
        let mut news = Vec::new();
        for &(millis, answered) in answers {
            let answer = answered.then_some(()).ok_or(());
            let noted = memory.note(&answer, start + Duration::from_millis(millis));
            news.extend(noted.map(|event| (millis, event)));
        }
        assert_eq!(news, expected, "{answers:?}");
    }

    #[test]
    fn an_admin_that_never_answered_is_not_silent() {
        check(&[(0, false), (10_000, false), (20_000, false)], &[]);
    }

    #[test]
    fn silence_and_return_are_told_once_each() {
        let looks = [
            (0, true),
            (2_000, false),
            (3_250, false),
            (4_500, false),
            (5_750, false),
            (6_000, true),
            (7_000, true),
        ];
        check(&looks, &[(4_500, Event::AdminSilent), (6_000, Event::AdminBack)]);
    }

    #[test]
    fn refusals_in_quick_succession_and_a_single_late_one_are_no_silence() {
        check(&[(0, true), (10, false), (20, false), (30, false), (40, true)], &[]);
        check(&[(0, true), (90_000, false), (90_250, true)], &[]);
    }

    #[test]
    fn a_large_envoy_is_asked_less_often() {
        let check = |cost, expected| {
            assert_eq!(drain_interval(Duration::from_millis(cost)), Duration::from_millis(expected));
        };
        check(0, 50);
        check(2, 50);
        check(10, 200);
        check(128, 1_000);
    }
}

//! The supervisor's timers: one deadline for each.

use std::{collections::BTreeMap, time::Instant};

use tokio::time::sleep_until;

use crate::supervisor::Timer;

/// The armed timers.
#[derive(Debug, Default)]
pub(super) struct Timers(BTreeMap<Timer, Instant>);

// === impl Timers ===

impl Timers {
    pub(super) fn arm(&mut self, timer: Timer, at: Instant) {
        self.0.insert(timer, at);
    }

    pub(super) fn disarm(&mut self, timer: Timer) {
        self.0.remove(&timer);
    }

    /// Returns the deadline of an armed timer.
    pub(super) fn at(&self, timer: Timer) -> Option<Instant> {
        self.0.get(&timer).copied()
    }

    /// Waits for the next deadline. Cancel-safe: a timer stays armed until it is disarmed.
    pub(super) async fn next(&self) -> Timer {
        match self.0.iter().min_by_key(|&(_, at)| at) {
            Some((&timer, &at)) => {
                sleep_until(at.into()).await;
                timer
            }
            None => std::future::pending().await,
        }
    }
}

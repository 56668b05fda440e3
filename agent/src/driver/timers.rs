//! When to wake the supervisor: at most once per timer.

use std::{collections::BTreeMap, time::Instant};

use tokio::time::sleep_until;

use crate::supervisor::Timer;

/// The timers armed.
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

    /// When this one is due, if it is armed.
    pub(super) fn at(&self, timer: Timer) -> Option<Instant> {
        self.0.get(&timer).copied()
    }

    /// The next one due. May be cancelled: it stays armed until disarmed.
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

//! Publishes the lifecycle: the current state (watch) and transitions (broadcast).
//!
//! The driver never waits. A receiver that falls behind by more than [`BACKLOG`] transitions gets an error and has to read the
//! whole state again.

use std::sync::Arc;

use tokio::sync::{broadcast, watch};

use super::{Lifecycle, Transition};

/// Transitions kept for a slow listener.
const BACKLOG: usize = 64;

/// The driver's end.
#[derive(Debug)]
pub(crate) struct Publisher {
    state: watch::Sender<Arc<Lifecycle>>,
    transitions: broadcast::Sender<Transition>,
}

/// Receiving side.
#[derive(Debug)]
pub(crate) struct Feed {
    state: watch::Receiver<Arc<Lifecycle>>,
    transitions: broadcast::Receiver<Transition>,
}

/// Both ends; this is how things stand at first.
pub(crate) fn channel(first: Lifecycle) -> (Publisher, Feed) {
    let (state, watched) = watch::channel(Arc::new(first));
    let (transitions, told) = broadcast::channel(BACKLOG);
    (Publisher { state, transitions }, Feed { state: watched, transitions: told })
}

// === impl Publisher ===

impl Publisher {
    /// Changes how things stand.
    pub(crate) fn update(&self, change: impl FnOnce(&mut Lifecycle)) {
        self.state.send_modify(|state| change(Arc::make_mut(state)));
    }

    /// This has happened. The state after it is to be published before.
    pub(crate) fn send(&self, transition: Transition) {
        // An error means that there is no receiver.
        self.transitions.send(transition).map_or_else(drop, drop);
    }
}

// === impl Feed ===

impl Feed {
    /// Returns the current state.
    pub(crate) fn now(&self) -> Arc<Lifecycle> {
        Arc::clone(&self.state.borrow())
    }

    /// Returns a receiver of later transitions. It ends with the driver, and with an error if it is too slow.
    pub(crate) fn listen(&self) -> broadcast::Receiver<Transition> {
        self.transitions.resubscribe()
    }
}

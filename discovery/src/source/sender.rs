//! Sends the events of a source to the pusher, and records them in the status of the source.

use std::sync::Arc;

use pilot_core::model::{Change, SourceEvent, SourceId};
use tokio::sync::mpsc;

use super::SourceStatus;

/// Sending half of the event queue, for one source.
#[derive(Clone, Debug)]
pub(crate) struct SourceSender {
    status: Arc<SourceStatus>,
    events: mpsc::Sender<(SourceId, SourceEvent)>,
}

// === impl SourceSender ===

impl SourceSender {
    /// Returns a sender for the source with this status.
    pub(crate) const fn new(
        status: Arc<SourceStatus>,
        events: mpsc::Sender<(SourceId, SourceEvent)>,
    ) -> Self {
        Self { status, events }
    }

    /// Returns the status of the source.
    pub(crate) const fn status(&self) -> &Arc<SourceStatus> {
        &self.status
    }

    /// Sends the complete state, between `Resync` and `Synced`.
    pub(crate) async fn resync(&self, changes: Vec<Change>) {
        self.send(SourceEvent::Resync).await;
        self.changes(changes).await;
        self.send(SourceEvent::Synced).await;
        self.status.set_synced();
    }

    /// Sends changes.
    pub(crate) async fn changes(&self, changes: Vec<Change>) {
        for change in changes {
            self.send(SourceEvent::Change(change)).await;
        }
    }

    /// Waits until the receiver is dropped.
    pub(crate) async fn closed(&self) {
        self.events.closed().await;
    }

    /// Sends an event, and waits while the queue is full. Never returns if the receiver is dropped.
    async fn send(&self, event: SourceEvent) {
        if self.events.send((self.status.id().clone(), event)).await.is_err() {
            std::future::pending::<()>().await;
        }
        self.status.record_event();
    }
}

//! `GET /lifecycle/events`: the current state, then a server-sent event for each transition.
//!
//! A client that falls behind gets an event about it and is disconnected; when it reconnects, it starts with the current state. A
//! client that does not read makes no progress, which ends its connection.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Response, StatusCode};
use http_body_util::{BodyExt, StreamBody};
use hyper::body::Frame;
use serde::Serialize;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, broadcast},
    time::timeout,
};

use super::{StatusError, typed};
use crate::{
    lifecycle::{Lifecycle, Transition},
    listen::Progress,
    listen::ResponseBody,
};

/// Of the connections there may be; the others are for probes and scrapes.
const READERS: usize = 8;

/// Shorter than what a proxy between us gives a silent connection, and than our own patience.
const SIGN_OF_LIFE: Duration = Duration::from_secs(15);

const CONTENT_TYPE: HeaderValue = HeaderValue::from_static("text/event-stream");

/// Stream of events.
pub(super) struct Events {
    free: Arc<Semaphore>,
}

/// One of them.
struct EventStream {
    transitions: broadcast::Receiver<Transition>,
    progress: Arc<Progress>,
    /// Permit of the connection; `None` after the last event.
    open: Option<OwnedSemaphorePermit>,
}

// === impl Events ===

impl Default for Events {
    fn default() -> Self {
        Self { free: Arc::new(Semaphore::new(READERS)) }
    }
}

impl Events {
    /// An answer that goes on until the agent or its reader ends.
    /// The transitions are those since `now`, or a little longer: what comes twice is better than never.
    pub(super) fn begin(
        &self,
        transitions: broadcast::Receiver<Transition>,
        now: &Lifecycle,
        progress: &Arc<Progress>,
    ) -> Result<Response<ResponseBody>, StatusError> {
        let permit = Arc::clone(&self.free).try_acquire_owned().map_err(|_| StatusError::Busy)?;
        let first = event("lifecycle", None, now);
        let reader = EventStream { transitions, progress: Arc::clone(progress), open: Some(permit) };
        let later = stream::unfold(reader, EventStream::next);
        let frames = stream::once(async { first }).chain(later).map(|bytes| Ok(Frame::data(bytes)));
        Ok(typed(StatusCode::OK, CONTENT_TYPE, StreamBody::new(frames).boxed_unsync()))
    }
}

// === impl EventStream ===

impl EventStream {
    async fn next(mut self) -> Option<(Bytes, Self)> {
        self.open.as_ref()?;
        // The client has taken the previous events.
        self.progress.advance();
        let bytes = match timeout(SIGN_OF_LIFE, self.transitions.recv()).await {
            Ok(Ok(transition)) => event("transition", Some(transition.id), &transition),
            Ok(Err(broadcast::error::RecvError::Lagged(missed))) => {
                self.open = None;
                event("missed", None, &missed)
            }
            Ok(Err(broadcast::error::RecvError::Closed)) => return None,
            Err(_) => Bytes::from_static(b":\n\n"),
        };
        Some((bytes, self))
    }
}

/// JSON without line breaks fits one line of data.
fn event(name: &str, id: Option<u64>, data: &impl Serialize) -> Bytes {
    let id = id.map(|id| format!("id: {id}\n")).unwrap_or_default();
    let data = serde_json::to_string(data).unwrap_or_default();
    format!("event: {name}\n{id}data: {data}\n\n").into()
}

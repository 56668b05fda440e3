//! One connection as everybody else sees it: who is at its other end, what it carries, and how far its end has come.
//!
//! ```text
//!  Serving ──age, shutdown, too many here──▶ Leaving (GOAWAY) ──a moment──▶ Ending (streams end) ──grace is over──▶ Cut
//! ```

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::SystemTime;

use pilot_proto::identity::SpiffeId;
use serde_json::{Value, json};
use tokio::sync::watch;
use tonic::Status;

/// A connection.
pub(crate) struct Peer {
    /// Counts the connections of this instance.
    pub(crate) number: u64,
    /// Where it comes from.
    pub(crate) address: SocketAddr,
    /// Since when.
    pub(crate) since: SystemTime,
    /// Whom the client's certificate names, if it gave one that our CA has signed.
    pub(crate) identities: Vec<SpiffeId>,
    /// xDS streams open.
    pub(super) streams: AtomicUsize,
    /// HTTP requests so far, of any service.
    pub(super) requests: AtomicU64,
    /// Bytes of the transport, within TLS.
    pub(super) read: AtomicU64,
    /// Bytes of the transport, within TLS.
    pub(super) written: AtomicU64,
    stage: watch::Sender<Stage>,
}

/// Why we end a connection that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Farewell {
    /// It is as old as `--keepaliveMaxServerConnectionAge`.
    Age,
    /// Other instances hold fewer.
    Rebalance,
    /// The process ends.
    Shutdown,
}

/// How far the end of a connection has come. It never goes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// It has not begun.
    Serving,
    /// GOAWAY is due or said.
    Leaving(Farewell),
    /// Streams end.
    Ending(Farewell),
    /// Nobody waits for it any longer.
    Cut,
}

// === impl Peer ===

impl Peer {
    /// A connection that has just been accepted.
    pub(crate) fn new(number: u64, address: SocketAddr, identities: Vec<SpiffeId>) -> Self {
        Self {
            number,
            address,
            since: SystemTime::now(),
            identities,
            streams: AtomicUsize::new(0),
            requests: AtomicU64::new(0),
            read: AtomicU64::new(0),
            written: AtomicU64::new(0),
            stage: watch::Sender::new(Stage::Serving),
        }
    }

    /// xDS streams open.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Waits until the streams of this connection have to end, and says how.
    pub(crate) fn ended(&self) -> impl Future<Output = Status> + Send + use<> {
        let mut stage = self.stage.subscribe();
        async move {
            // The sender lives as long as the connection; when both are gone, so is the client.
            let reached = stage.wait_for(|stage| *stage >= Stage::Ending(Farewell::Age)).await;
            match reached.map(|stage| *stage) {
                Ok(Stage::Ending(why) | Stage::Leaving(why)) => why.status(),
                Ok(Stage::Serving | Stage::Cut) | Err(_) => Status::unavailable("the connection has ended"),
            }
        }
    }

    /// Everything known of it, as JSON.
    pub(crate) fn page(&self) -> Value {
        let counted = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        json!({
            "connection": self.number,
            "peer": self.address.to_string(),
            "since": prost_types::Timestamp::from(self.since).to_string(),
            "identities": self.identities.iter().map(ToString::to_string).collect::<Vec<_>>(),
            "streams": self.streams(),
            "requests": counted(&self.requests),
            "bytesRead": counted(&self.read),
            "bytesWritten": counted(&self.written),
            "stage": format!("{:?}", *self.stage.borrow()),
        })
    }

    /// Whether it may go on.
    pub(super) fn is_serving(&self) -> bool {
        *self.stage.borrow() == Stage::Serving
    }

    /// Moves the end on; what has come further stays.
    pub(super) fn advance(&self, to: Stage) {
        self.stage.send_if_modified(|stage| {
            let news = *stage < to;
            if news {
                *stage = to;
            }
            news
        });
    }

    /// Waits for a stage or a later one.
    pub(super) async fn reached(&self, stage: Stage) -> Stage {
        let mut stages = self.stage.subscribe();
        // We hold the sender: it is not closed.
        stages.wait_for(|now| *now >= stage).await.map_or(Stage::Cut, |now| *now)
    }
}

// === impl Farewell ===

impl Farewell {
    /// What streams end with. A proxy logs anything but OK as a fault.
    fn status(self) -> Status {
        match self {
            Self::Age | Self::Rebalance => Status::ok(""),
            Self::Shutdown => Status::unavailable("shutting down"),
        }
    }

    /// As metrics and logs spell it.
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Rebalance => "rebalance",
            Self::Shutdown => "shutdown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_end_never_goes_back_and_streams_hear_why() {
        let peer = Peer::new(1, ([127, 0, 0, 1], 1).into(), Vec::new());
        let ended = peer.ended();
        peer.advance(Stage::Leaving(Farewell::Age));
        assert!(!peer.is_serving());
        peer.advance(Stage::Ending(Farewell::Shutdown));
        peer.advance(Stage::Leaving(Farewell::Rebalance));
        assert_eq!(ended.await.code(), tonic::Code::Unavailable);
        assert_eq!(peer.reached(Stage::Leaving(Farewell::Age)).await, Stage::Ending(Farewell::Shutdown));
    }
}

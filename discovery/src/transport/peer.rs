//! State of one connection, shared with other parts: identity of the peer, streams, stage of its end.
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

/// Connection of the gRPC ports.
pub(crate) struct Peer {
    /// Number of the connection on this instance.
    pub(crate) number: u64,
    /// Address of the peer.
    pub(crate) address: SocketAddr,
    /// Time of accepting.
    pub(crate) since: SystemTime,
    /// Identities of the client's certificate, if it has one that our CA signed.
    pub(crate) identities: Vec<SpiffeId>,
    /// Open xDS streams.
    pub(super) streams: AtomicUsize,
    /// HTTP requests so far, of all services.
    pub(super) requests: AtomicU64,
    /// Bytes of the transport, within TLS.
    pub(super) read: AtomicU64,
    /// Bytes of the transport, within TLS.
    pub(super) written: AtomicU64,
    stage: watch::Sender<Stage>,
}

/// Reason to end a working connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Farewell {
    /// Reached `--keepaliveMaxServerConnectionAge`.
    Age,
    /// Other instances have fewer streams.
    Rebalance,
    /// The process is shutting down.
    Shutdown,
}

/// Stage of the end of a connection; only advances.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    /// In service.
    Serving,
    /// GOAWAY is due or sent.
    Leaving(Farewell),
    /// Streams are ending.
    Ending(Farewell),
    /// Closed without waiting.
    Cut,
}

// === impl Peer ===

impl Peer {
    /// Creates the state of an accepted connection.
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

    /// Returns the number of open xDS streams.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Waits until the streams of the connection must end; returns their status.
    pub(crate) fn ended(&self) -> impl Future<Output = Status> + Send + use<> {
        let mut stage = self.stage.subscribe();
        async move {
            // The sender lives as long as the connection.
            let reached = stage.wait_for(|stage| *stage >= Stage::Ending(Farewell::Age)).await;
            match reached.map(|stage| *stage) {
                Ok(Stage::Ending(why) | Stage::Leaving(why)) => why.status(),
                Ok(Stage::Serving | Stage::Cut) | Err(_) => Status::unavailable("the connection has ended"),
            }
        }
    }

    /// Returns the state as JSON.
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

    /// Returns `true` until GOAWAY.
    pub(super) fn is_serving(&self) -> bool {
        *self.stage.borrow() == Stage::Serving
    }

    /// Advances to a stage; a later one stays.
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
        // The sender is in `self`: the channel is not closed.
        stages.wait_for(|now| *now >= stage).await.map_or(Stage::Cut, |now| *now)
    }
}

// === impl Farewell ===

impl Farewell {
    /// Returns the status that ends streams. A proxy logs any code but OK as an error.
    fn status(self) -> Status {
        match self {
            Self::Age | Self::Rebalance => Status::ok(""),
            Self::Shutdown => Status::unavailable("shutting down"),
        }
    }

    /// Returns the name in metrics and logs.
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

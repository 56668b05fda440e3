//! Child side of the protocol: sends a running Envoy the requests that its successor would send.
//!
//! Envoy's main thread sends the replies. It aborts when the child's name is missing, and blocks while the child's
//! socket is full. So a task owns the socket and reads every reply to its end, even after the caller has given up or the
//! [`ChildClient`] has been dropped.
//!
//! ```text
//!   ChildClient ── request ──▶ task ── request ──▶ Envoy
//!     ▲                          │ one at a time      │
//!     └────── within 2 s ────────┴─────── reply ──────┘
//! ```

use std::{io, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use nix::sys::stat::fstat;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{
    address::{ListenAddress, SocketMismatch},
    base_id::{BaseIdLease, RestartEpoch, SocketRole},
    endpoint::{Completeness, Datagram, Endpoint},
    retained_listeners::{ListenSockets, RetainedListeners},
    wire::{
        Body, Empty, MAX_REPLY, MalformedMessage, Message, MessageAssembler, PassListenSocket, Progress,
        Reply, Request, Stats,
    },
};

/// Limit for one reply. Envoy takes 1 ms, unless its main thread is busy with new configuration.
const REPLY_TIMEOUT: Duration = Duration::from_secs(2);

/// Time that the task goes on reading a reply after the caller has given up. An Envoy that is silent for longer is dead
/// or will be killed.
const LINGER: Duration = Duration::from_mins(1);

/// Maximum number of requested workers, against an endless loop.
const MAX_WORKERS: u32 = 1024;

/// Sender of requests to a running Envoy, in the role of its successor. Among native Envoys it must be dropped before
/// the next one starts, which takes over its name.
#[derive(Debug)]
pub(crate) struct ChildClient {
    requests: mpsc::Sender<ChildRequest>,
}

/// A request without a usable reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PeerError {
    /// The child's name cannot be bound.
    #[error("bind {path} for hot-restart requests to Envoy")]
    Bind {
        /// The name.
        path: PathBuf,
        /// Error of the kernel.
        source: io::Error,
    },
    /// The parent's name is not bound: it is dead, not yet started, or elsewhere.
    #[error("send a request to Envoy's hot-restart socket")]
    Gone(#[source] io::Error),
    /// The parent does not reply.
    #[error("Envoy does not answer on its hot-restart socket within {REPLY_TIMEOUT:?}")]
    Silent,
    /// The reply is no message.
    #[error("read a reply from Envoy's hot-restart socket")]
    Malformed(#[from] MalformedMessage),
    /// The reply is of another type.
    #[error("unexpected reply from Envoy's hot-restart socket")]
    Unexpected,
}

/// Listening sockets received from an Envoy.
#[derive(Debug, Default)]
pub(crate) struct FetchedListeners {
    /// The sockets.
    pub(crate) retained: RetainedListeners,
    /// Addresses without a usable socket.
    pub(crate) refused: Vec<(ListenAddress, FetchRefusal)>,
}

/// Reason why an address has no usable socket.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum FetchRefusal {
    /// Envoy has no such socket.
    NoSocket,
    /// Envoy has passed a socket of something else.
    Mismatch(SocketMismatch),
}

/// Statistics of an Envoy about itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ParentStats {
    /// Bytes.
    pub(crate) memory_allocated: u64,
    /// Connections on all its listeners, without those of the admin.
    pub(crate) connections: u64,
}

#[derive(Debug)]
struct ChildRequest {
    request: Request,
    reply: oneshot::Sender<Result<ChildReply, PeerError>>,
}

#[derive(Debug)]
enum ChildReply {
    /// The request has no reply.
    Sent,
    Reply(Reply, Option<OwnedFd>),
    Head(Vec<u8>),
}

/// The task that owns the socket.
struct ChildTask {
    endpoint: Endpoint,
    parent: PathBuf,
    assembler: MessageAssembler,
}

// === impl ChildClient ===

impl ChildClient {
    /// Binds the name of the successor of the Envoy that runs as `parent`. Needs a tokio runtime.
    pub(crate) fn bind(base_id: &BaseIdLease, parent: RestartEpoch) -> Result<Self, PeerError> {
        let path = base_id.socket(SocketRole::Child, parent.next());
        let endpoint = Endpoint::bind(&path).map_err(|source| PeerError::Bind { path, source })?;
        let parent = base_id.socket(SocketRole::Parent, parent);
        let (requests, taken) = mpsc::channel(1);
        tokio::spawn(
            ChildTask { endpoint, parent, assembler: MessageAssembler::up_to(MAX_REPLY) }.run(taken),
        );
        Ok(Self { requests })
    }

    /// Returns duplicates of the sockets of these addresses. Each is checked to listen on its address.
    pub(crate) async fn listen_sockets(
        &self,
        requested: &[ListenAddress],
    ) -> Result<FetchedListeners, PeerError> {
        let mut fetched = FetchedListeners::default();
        for address in requested {
            let Some(sockets) = self.sockets_of(address).await? else {
                fetched.refused.push((address.clone(), FetchRefusal::NoSocket));
                continue;
            };
            if let Err(mismatch) = fetched.retained.insert(address.clone(), sockets) {
                fetched.refused.push((address.clone(), FetchRefusal::Mismatch(mismatch)));
            }
        }
        Ok(fetched)
    }

    /// Returns statistics. Envoy treats the request as its successor's: counters that go to a sink (statsd, metrics service)
    /// lose the increments since the last flush.
    pub(crate) async fn stats(&self) -> Result<ParentStats, PeerError> {
        let stats = match self.ask(Request::Stats(Empty {})).await? {
            ChildReply::Reply(Reply::Stats(stats), _) => stats,
            ChildReply::Head(head) => Stats::from_head(&head).ok_or(PeerError::Unexpected)?,
            _ => return Err(PeerError::Unexpected),
        };
        Ok(ParentStats { memory_allocated: stats.memory_allocated, connections: stats.num_connections })
    }

    /// Makes Envoy stop accepting and drain for `--drain-time-s`. There is no acknowledgement.
    pub(crate) async fn drain_listeners(&self) -> Result<(), PeerError> {
        self.ask(Request::DrainListeners(Empty {})).await.map(drop)
    }

    /// Requests the socket of one worker after the other, until there is none or all share one.
    async fn sockets_of(&self, address: &ListenAddress) -> Result<Option<ListenSockets>, PeerError> {
        let mut sockets: Vec<Arc<OwnedFd>> = Vec::new();
        for worker_index in 0..MAX_WORKERS {
            let (address, network_namespace) = (address.to_string(), String::new());
            let requested = PassListenSocket { address, worker_index, network_namespace };
            let answer = self.ask(Request::PassListenSocket(requested)).await?;
            let ChildReply::Reply(Reply::PassListenSocket(_), socket) = answer else {
                return Err(PeerError::Unexpected);
            };
            let Some(socket) = socket else { break };
            match sockets.first() {
                Some(first) if is_same(first, &socket) => {
                    return Ok(Some(ListenSockets::Shared(Arc::clone(first))));
                }
                _ => sockets.push(Arc::new(socket)),
            }
        }
        Ok(if sockets.is_empty() { None } else { Some(ListenSockets::PerWorker(sockets)) })
    }

    async fn ask(&self, request: Request) -> Result<ChildReply, PeerError> {
        let gone = || PeerError::Gone(io::ErrorKind::NotConnected.into());
        let answered = async {
            let (reply, answer) = oneshot::channel();
            self.requests.send(ChildRequest { request, reply }).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        timeout(REPLY_TIMEOUT, answered).await.unwrap_or(Err(PeerError::Silent))
    }
}

/// Returns `true` if two descriptors are duplicates.
fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    matches!((fstat(one), fstat(other)), (Ok(one), Ok(other)) if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

// === impl ChildTask ===

impl ChildTask {
    async fn run(mut self, mut requests: mpsc::Receiver<ChildRequest>) {
        loop {
            let request = tokio::select! {
                request = requests.recv() => request,
                // The sender of an unexpected datagram must not wait for room.
                stray = self.endpoint.receive() => match stray {
                    Ok(_) => continue,
                    Err(_) => return,
                },
            };
            let Some(ChildRequest { request, mut reply }) = request else { return };
            if reply.is_closed() {
                continue;
            }
            let mut abandoned = false;
            let answer = self.exchange(request);
            tokio::pin!(answer);
            let outcome = loop {
                tokio::select! {
                    outcome = &mut answer => break outcome,
                    () = reply.closed(), if !abandoned => abandoned = true,
                    () = sleep(LINGER), if abandoned => return,
                }
            };
            // Fails if the caller has given up; the reply was read for Envoy's sake.
            drop(reply.send(outcome));
        }
    }

    async fn exchange(&mut self, request: Request) -> Result<ChildReply, PeerError> {
        let is_answered = !matches!(
            request,
            Request::DrainListeners(_) | Request::Terminate(_) | Request::TestConnection(_)
        );
        let framed = Message::request(request).framed();
        // Earlier datagrams are no reply to this request.
        self.endpoint.discard();
        self.endpoint.send(&self.parent, &framed, None).await.map_err(PeerError::Gone)?;
        if is_answered { self.answer().await } else { Ok(ChildReply::Sent) }
    }

    async fn answer(&mut self) -> Result<ChildReply, PeerError> {
        loop {
            let Datagram { bytes, descriptors, completeness } =
                self.endpoint.receive().await.map_err(PeerError::Gone)?;
            if completeness == Completeness::Truncated {
                return Err(MalformedMessage::CutOff.into());
            }
            match self.assembler.push(&bytes) {
                Progress::More => {}
                Progress::Long(head) => return Ok(ChildReply::Head(head)),
                Progress::Malformed(malformed) => return Err(malformed.into()),
                Progress::Message(Message { body: Some(Body::Reply(message)), .. }) => {
                    let reply = message.reply.ok_or(PeerError::Unexpected)?;
                    return Ok(ChildReply::Reply(reply, descriptors.into_iter().next()));
                }
                Progress::Message(_) => return Err(PeerError::Unexpected),
            }
        }
    }
}

#[cfg(test)]
mod tests;

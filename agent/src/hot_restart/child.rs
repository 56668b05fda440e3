//! The child's end of the protocol: asks a running Envoy what its successor would ask.
//!
//! Envoy answers with its main thread, and an answer it cannot deliver is its end: it aborts when the name of
//! the child is gone, and waits for as long as the child's socket is full. So a task owns the socket, and
//! reads every answer to its end, also one nobody waits for any more, and even after the [`Child`] is dropped.
//!
//! ```text
//!   Child ── order ──▶ task ── request ──▶ Envoy
//!     ▲                  │ one at a time      │
//!     └── within 2 s ────┴─────── answer ─────┘
//! ```
//!
//! Deliberately does not know what any of it is for.

use std::{io, os::fd::OwnedFd, path::PathBuf, sync::Arc, time::Duration};

use nix::sys::stat::fstat;
use tokio::{
    sync::{mpsc, oneshot},
    time::{sleep, timeout},
};

use super::{
    address::{Address, Mismatch},
    endpoint::{Datagram, Endpoint, Whole},
    held::{Held, Sockets},
    lineage::{Lineage, RestartEpoch, Role},
    wire::{
        Body, Collector, Empty, Garbled, LONGEST_REPLY, Message, PassListenSocket, Progress, Reply, Request,
        Stats,
    },
};

/// How long Envoy may take for one answer: 1 ms, unless its main thread is busy with new configuration.
const PATIENCE: Duration = Duration::from_secs(2);

/// How long the task reads on for an answer nobody waits for. An Envoy that is silent for longer is dead, or
/// will be killed for it.
const LINGER: Duration = Duration::from_mins(1);

/// No machine has more; an Envoy that never says no is not one.
const MOST_WORKERS: u32 = 1024;

/// A running Envoy, asked as if by its successor. In a lineage where Envoys succeed each other it must be
/// dropped before the next one starts, which takes over its name.
#[derive(Debug)]
pub struct Child {
    orders: mpsc::Sender<Order>,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum PeerError {
    /// The child's own name cannot be taken.
    #[error("bind {path} to speak with Envoy")]
    Bind {
        /// The name.
        path: PathBuf,
        /// What the kernel says.
        source: io::Error,
    },
    /// Nobody has the parent's name: it is dead, not yet started, or elsewhere.
    #[error("speak with Envoy over its hot-restart socket")]
    Gone(#[source] io::Error),
    /// Somebody is there and does not answer.
    #[error("Envoy does not answer on its hot-restart socket within {PATIENCE:?}")]
    Silent,
    /// Something that is no message.
    #[error("read what Envoy answers on its hot-restart socket")]
    Garbled(#[from] Garbled),
    /// The answer to another question, or none to this.
    #[error("Envoy answers something else on its hot-restart socket")]
    Unexpected,
}

/// What an Envoy has handed out.
#[derive(Debug, Default)]
pub struct Fetched {
    /// The sockets.
    pub held: Held,
    /// Of what it has none, or something else.
    pub refused: Vec<(Address, Refused)>,
}

/// Why an address is not held.
#[derive(Debug, PartialEq, Eq)]
pub enum Refused {
    /// Envoy has no such socket.
    NoSuch,
    /// Envoy has handed out something else.
    Wrong(Mismatch),
}

/// What an Envoy says of itself in its statistics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ParentStats {
    /// Bytes.
    pub memory_allocated: u64,
    /// Connections on all its listeners, its admin's not among them.
    pub connections: u64,
}

#[derive(Debug)]
struct Order {
    request: Request,
    reply: oneshot::Sender<Result<Answer, PeerError>>,
}

#[derive(Debug)]
enum Answer {
    /// To what is never answered.
    Sent,
    Reply(Reply, Option<OwnedFd>),
    Head(Vec<u8>),
}

/// The task's side.
struct Line {
    endpoint: Endpoint,
    parent: PathBuf,
    collector: Collector,
}

// === impl Child ===

impl Child {
    /// Takes the names of the successor of the Envoy that runs as `parent`. Within a tokio runtime.
    pub fn bind(lineage: &Lineage, parent: RestartEpoch) -> Result<Self, PeerError> {
        let path = lineage.socket(Role::Child, parent.next());
        let endpoint = Endpoint::bind(&path).map_err(|source| PeerError::Bind { path, source })?;
        let parent = lineage.socket(Role::Parent, parent);
        let (orders, taken) = mpsc::channel(1);
        tokio::spawn(Line { endpoint, parent, collector: Collector::up_to(LONGEST_REPLY) }.run(taken));
        Ok(Self { orders })
    }

    /// Duplicates of the sockets of these addresses, each checked to be what was asked for.
    pub async fn listen_sockets(&self, wanted: &[Address]) -> Result<Fetched, PeerError> {
        let mut fetched = Fetched::default();
        for address in wanted {
            let Some(sockets) = self.sockets_of(address).await? else {
                fetched.refused.push((address.clone(), Refused::NoSuch));
                continue;
            };
            if let Err(mismatch) = fetched.held.hold(address.clone(), sockets) {
                fetched.refused.push((address.clone(), Refused::Wrong(mismatch)));
            }
        }
        Ok(fetched)
    }

    /// How Envoy is doing. It takes this for a successor's question: counters that are sent to a sink
    /// (statsd, metrics service) miss what was counted since the last flush.
    pub async fn stats(&self) -> Result<ParentStats, PeerError> {
        let stats = match self.ask(Request::Stats(Empty {})).await? {
            Answer::Reply(Reply::Stats(stats), _) => stats,
            Answer::Head(head) => Stats::from_head(&head).ok_or(PeerError::Unexpected)?,
            _ => return Err(PeerError::Unexpected),
        };
        Ok(ParentStats { memory_allocated: stats.memory_allocated, connections: stats.num_connections })
    }

    /// Envoy closes its admin, for good.
    pub async fn shutdown_admin(&self) -> Result<(), PeerError> {
        match self.ask(Request::ShutdownAdmin(Empty {})).await? {
            Answer::Reply(Reply::ShutdownAdmin(_), _) => Ok(()),
            _ => Err(PeerError::Unexpected),
        }
    }

    /// Envoy stops to accept, and drains for `--drain-time-s`. Nothing says whether it has heard.
    pub async fn drain_listeners(&self) -> Result<(), PeerError> {
        self.ask(Request::DrainListeners(Empty {})).await.map(drop)
    }

    /// Envoy leaves, as after SIGTERM. Nothing says whether it has heard.
    pub async fn terminate(&self) -> Result<(), PeerError> {
        self.ask(Request::Terminate(Empty {})).await.map(drop)
    }

    /// Asks for one worker after the other, until there is none or all have the same.
    async fn sockets_of(&self, address: &Address) -> Result<Option<Sockets>, PeerError> {
        let mut sockets: Vec<Arc<OwnedFd>> = Vec::new();
        for worker_index in 0..MOST_WORKERS {
            let (address, network_namespace) = (address.to_string(), String::new());
            let wanted = PassListenSocket { address, worker_index, network_namespace };
            let answer = self.ask(Request::PassListenSocket(wanted)).await?;
            let Answer::Reply(Reply::PassListenSocket(_), socket) = answer else {
                return Err(PeerError::Unexpected);
            };
            let Some(socket) = socket else { break };
            match sockets.first() {
                Some(first) if is_same(first, &socket) => {
                    return Ok(Some(Sockets::Shared(Arc::clone(first))));
                }
                _ => sockets.push(Arc::new(socket)),
            }
        }
        Ok(if sockets.is_empty() { None } else { Some(Sockets::PerWorker(sockets)) })
    }

    async fn ask(&self, request: Request) -> Result<Answer, PeerError> {
        let gone = || PeerError::Gone(io::ErrorKind::NotConnected.into());
        let answered = async {
            let (reply, answer) = oneshot::channel();
            self.orders.send(Order { request, reply }).await.map_err(|_| gone())?;
            answer.await.map_err(|_| gone())?
        };
        timeout(PATIENCE, answered).await.unwrap_or(Err(PeerError::Silent))
    }
}

/// Whether two descriptors are duplicates of one.
fn is_same(one: &OwnedFd, other: &OwnedFd) -> bool {
    matches!((fstat(one), fstat(other)), (Ok(one), Ok(other)) if (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino))
}

// === impl Line ===

impl Line {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        loop {
            let order = tokio::select! {
                order = orders.recv() => order,
                // Whoever sends what nobody asked for must not wait for room.
                stray = self.endpoint.receive() => match stray {
                    Ok(_) => continue,
                    Err(_) => return,
                },
            };
            let Some(Order { request, mut reply }) = order else { return };
            if reply.is_closed() {
                continue;
            }
            let mut given_up = false;
            let answer = self.exchange(request);
            tokio::pin!(answer);
            let outcome = loop {
                tokio::select! {
                    outcome = &mut answer => break outcome,
                    () = reply.closed(), if !given_up => given_up = true,
                    () = sleep(LINGER), if given_up => return,
                }
            };
            // Nobody waits any more: the answer was read for Envoy's sake.
            drop(reply.send(outcome));
        }
    }

    async fn exchange(&mut self, request: Request) -> Result<Answer, PeerError> {
        let is_answered = !matches!(
            request,
            Request::DrainListeners(_) | Request::Terminate(_) | Request::TestConnection(_)
        );
        let framed = Message::request(request).framed();
        // What is here already is no answer to this.
        self.endpoint.discard();
        self.endpoint.send(&self.parent, &framed, None).await.map_err(PeerError::Gone)?;
        if is_answered { self.answer().await } else { Ok(Answer::Sent) }
    }

    async fn answer(&mut self) -> Result<Answer, PeerError> {
        loop {
            let Datagram { bytes, descriptors, whole } =
                self.endpoint.receive().await.map_err(PeerError::Gone)?;
            if whole == Whole::CutOff {
                return Err(Garbled::CutOff.into());
            }
            match self.collector.push(&bytes) {
                Progress::More => {}
                Progress::Long(head) => return Ok(Answer::Head(head)),
                Progress::Garbled(garbled) => return Err(garbled.into()),
                Progress::Message(Message { body: Some(Body::Reply(message)), .. }) => {
                    let reply = message.reply.ok_or(PeerError::Unexpected)?;
                    return Ok(Answer::Reply(reply, descriptors.into_iter().next()));
                }
                Progress::Message(_) => return Err(PeerError::Unexpected),
            }
        }
    }
}

#[cfg(test)]
mod tests;

//! The parent's end of the protocol: answers a starting Envoy as the one before it would.
//!
//! ```text
//!   child's main thread                      what we do
//!   ShutdownAdmin, once, at first            answered: since when there have been Envoys
//!   PassListenSocket, for each listener      answered: a socket that is held, or none
//!   Stats, every 5 s from LIVE on            answered: nothing to add
//!   DrainListeners, once it is LIVE          no answer is expected
//!   Terminate, after --parent-shutdown-time  no answer is expected, and nothing is asked ever after
//! ```
//!
//! The child waits for each answer with its whole main thread, so they are given by a task of their own. An
//! Envoy whose parent has died waits up to ten seconds in its first attempt to send, and goes on as soon as
//! somebody has taken the parent's name.
//!
//! Deliberately does not know why it stands in: as the predecessor of every Envoy, or for one that has died.

use std::{
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net,
    },
    path::PathBuf,
    sync::Arc,
    time::{SystemTime, UNIX_EPOCH},
};

use tokio::sync::watch;

use super::{
    endpoint::{Datagram, Endpoint, Whole},
    held::Held,
    lineage::{Lineage, RestartEpoch, Role},
    wire::{
        AdminShutDown, Body, Collector, Garbled, LONGEST_REQUEST, Message, PassListenSocket, PassedSocket,
        Progress, Reply, Request, Stats,
    },
};

/// The parent of one epoch of one lineage.
#[derive(Debug)]
pub struct StandIn {
    main: Endpoint,
    /// Nobody sends here; but the name is a parent's.
    _udp: Endpoint,
    child: PathBuf,
    original_start: SystemTime,
}

/// What the child did.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Happened {
    /// It begins: a parent would have closed its admin.
    AdminShutDown,
    /// It wanted the socket of a worker for an address, in its own spelling.
    Asked {
        /// Such as `tcp://127.0.0.1:80`.
        address: String,
        /// From 0.
        worker: u32,
        /// What it got.
        answer: Answer,
    },
    /// It wanted statistics, and got none.
    StatsAsked,
    /// It is LIVE, and has all its sockets: a parent would begin to drain.
    Drain,
    /// A parent would leave. The child never speaks again.
    Terminated,
    /// It wanted to know whether somebody is there.
    Tested,
    /// A message no parent understands.
    Unknown,
    /// Something that is no message.
    Garbled(Garbled),
    /// It was gone before it had its answer.
    Unanswered(io::ErrorKind),
}

/// What became of a socket that was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It was passed on.
    Passed,
    /// None is held; Envoy binds one of its own.
    NotHeld,
}

/// How a message is answered.
struct Response {
    happened: Happened,
    reply: Option<Message>,
    socket: Option<Arc<OwnedFd>>,
}

// === impl StandIn ===

impl StandIn {
    /// Takes the names of the parent of this epoch, also from a parent that has died with a child waiting.
    /// `original_start` is when the first Envoy started, for `server.uptime`. Within a tokio runtime.
    pub fn bind(lineage: &Lineage, parent: RestartEpoch, original_start: SystemTime) -> io::Result<Self> {
        Ok(Self {
            // The child speaks as soon as it sees the first of them.
            _udp: Endpoint::bind(&lineage.socket(Role::UdpParent, parent))?,
            main: Endpoint::bind(&lineage.socket(Role::Parent, parent))?,
            child: lineage.socket(Role::Child, parent.next()),
            original_start,
        })
    }

    /// Answers the child from what is held at that moment until it ends the protocol; each thing that happens
    /// is reported after it was answered. Cancelled, it leaves a child that asks to wait ten seconds and abort.
    pub async fn serve(
        self,
        held: watch::Receiver<Held>,
        mut report: impl FnMut(Happened),
    ) -> io::Result<()> {
        let mut collector = Collector::up_to(LONGEST_REQUEST);
        loop {
            let Datagram { bytes, whole, .. } = self.main.receive().await?;
            let progress = match whole {
                Whole::Yes => collector.push(&bytes),
                Whole::CutOff => Progress::Garbled(Garbled::CutOff),
            };
            let response = match progress {
                Progress::More => continue,
                Progress::Message(message) => self.respond(&message, &held.borrow()),
                Progress::Long(_) => Response::nothing(Happened::Unknown),
                Progress::Garbled(garbled) => Response::nothing(Happened::Garbled(garbled)),
            };
            let happened = self.send(response).await;
            let over = happened == Happened::Terminated;
            report(happened);
            if over {
                return Ok(());
            }
        }
    }

    fn respond(&self, message: &Message, held: &Held) -> Response {
        let Some(Body::Request(request)) = &message.body else { return Response::unknown() };
        match &request.request {
            Some(Request::ShutdownAdmin(_)) => {
                let since = self.original_start.duration_since(UNIX_EPOCH).unwrap_or_default();
                let reply = AdminShutDown {
                    original_start_time_unix_seconds: since.as_secs(),
                    enable_reuse_port_default: true,
                };
                Response::with(Happened::AdminShutDown, Reply::ShutdownAdmin(reply))
            }
            Some(Request::PassListenSocket(wanted)) => Response::pass(wanted, held),
            Some(Request::Stats(_)) => Response::with(Happened::StatsAsked, Reply::Stats(Stats::default())),
            Some(Request::DrainListeners(_)) => Response::nothing(Happened::Drain),
            Some(Request::Terminate(_)) => Response::nothing(Happened::Terminated),
            Some(Request::TestConnection(_)) => Response::nothing(Happened::Tested),
            None => Response::unknown(),
        }
    }

    async fn send(&self, Response { happened, reply, socket }: Response) -> Happened {
        let Some(reply) = reply else { return happened };
        let socket = socket.as_ref().map(|socket| socket.as_fd());
        match self.main.send(&self.child, &reply.framed(), socket).await {
            Ok(()) => happened,
            Err(error) => Happened::Unanswered(error.kind()),
        }
    }
}

/// Sends the child of this epoch an empty statistics reply that it may not have asked for. A child waits without a limit
/// for a reply that its parent took along. One that does not wait takes this reply for that of its next request, and
/// statistics are all that a LIVE child waits for.
pub fn answer_stats(lineage: &Lineage, child: RestartEpoch) -> io::Result<()> {
    let socket = net::UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let reply = Message::reply(Reply::Stats(Stats::default())).framed();
    socket.send_to(&reply, lineage.socket(Role::Child, child)).map(drop)
}

// === impl Response ===

impl Response {
    fn nothing(happened: Happened) -> Self {
        Self { happened, reply: None, socket: None }
    }

    fn with(happened: Happened, reply: Reply) -> Self {
        Self { happened, reply: Some(Message::reply(reply)), socket: None }
    }

    /// A child that waits for an answer gets one, as from a parent older than itself.
    fn unknown() -> Self {
        Self { happened: Happened::Unknown, reply: Some(Message::not_recognized()), socket: None }
    }

    fn pass(wanted: &PassListenSocket, held: &Held) -> Self {
        let PassListenSocket { address, worker_index: worker, network_namespace } = wanted;
        let address_held = address.parse().ok().filter(|_| network_namespace.is_empty());
        let socket = address_held.and_then(|address| held.get(&address, *worker));
        let answer = if socket.is_some() { Answer::Passed } else { Answer::NotHeld };
        let happened = Happened::Asked { address: address.clone(), worker: *worker, answer };
        // The number is replaced by the one the kernel gives the child; were the socket lost, it has none.
        Self { socket, ..Self::with(happened, Reply::PassListenSocket(PassedSocket { fd: -1 })) }
    }
}

#[cfg(test)]
mod tests;

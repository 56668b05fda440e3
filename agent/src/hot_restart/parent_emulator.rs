//! Parent side of the protocol: answers a starting Envoy as its predecessor would.
//!
//! ```text
//!   request of the child's main thread       reply
//!   ShutdownAdmin, once, at first            start time of the first Envoy
//!   PassListenSocket, for each listener      a retained socket, or none
//!   Stats, every 5 s from LIVE on            empty
//!   DrainListeners, once it is LIVE          none
//!   Terminate, after --parent-shutdown-time  none, and no request follows
//! ```
//!
//! The child's main thread blocks until it has the reply, so replies come from a task of their own. An Envoy whose parent
//! has closed its socket retries to send once a second, ten times, and succeeds once the agent has bound the parent's
//! name. An Envoy whose parent dies after the request waits forever: see [`answer_stats`].
//!
//! Serves every Envoy in mediated mode, and native ones whose predecessor is ending or dead.

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
    base_id::{BaseIdLease, RestartEpoch, SocketRole},
    endpoint::{Completeness, Datagram, Endpoint},
    retained_listeners::RetainedListeners,
    wire::{
        AdminShutDown, Body, MAX_REQUEST, MalformedMessage, Message, MessageAssembler, PassListenSocket,
        PassedSocket, Progress, Reply, Request, Stats,
    },
};

/// The emulated parent of one epoch of one base id.
#[derive(Debug)]
pub(crate) struct ParentEmulator {
    main: Endpoint,
    /// Receives nothing, but a parent has this name too.
    _udp: Endpoint,
    child: PathBuf,
    original_start: SystemTime,
}

/// A request of the child, or a fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ParentEvent {
    /// First request: a parent would have closed its admin.
    AdminShutDown,
    /// The socket of a worker for an address, in Envoy's spelling.
    SocketRequested {
        /// Such as `tcp://127.0.0.1:80`.
        address: String,
        /// From 0.
        worker: u32,
        /// The reply.
        answer: SocketAnswer,
    },
    /// Statistics.
    StatsRequested,
    /// The child is LIVE and has its sockets: a parent would begin to drain.
    Drain,
    /// A parent would exit. The last request.
    Terminated,
    /// A connection test.
    Tested,
    /// A message of an unknown type.
    Unknown,
    /// A datagram that is no message.
    Malformed(MalformedMessage),
    /// The reply could not be delivered: the child has gone.
    Unanswered(io::ErrorKind),
}

/// Reply to a request for a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SocketAnswer {
    /// The socket was passed.
    Passed,
    /// None is retained; Envoy binds one itself.
    NotRetained,
}

/// The reply to a message, and the event to report.
struct Response {
    event: ParentEvent,
    reply: Option<Message>,
    socket: Option<Arc<OwnedFd>>,
}

// === impl ParentEmulator ===

impl ParentEmulator {
    /// Binds the names of the parent of this epoch, replacing those of the parent itself, whether or not it runs.
    /// `original_start` is the start of the first Envoy, for `server.uptime`. Needs a tokio runtime.
    pub(crate) fn bind(
        base_id: &BaseIdLease,
        parent: RestartEpoch,
        original_start: SystemTime,
    ) -> io::Result<Self> {
        Ok(Self {
            // The child sends as soon as the main name is bound.
            _udp: Endpoint::bind(&base_id.socket(SocketRole::UdpParent, parent))?,
            main: Endpoint::bind(&base_id.socket(SocketRole::Parent, parent))?,
            child: base_id.socket(SocketRole::Child, parent.next()),
            original_start,
        })
    }

    /// Answers the child with the sockets retained at that moment until it ends the protocol. Each event is reported
    /// after the reply. After cancellation a child that sends a request aborts after ten seconds.
    pub(crate) async fn serve(
        self,
        retained: watch::Receiver<RetainedListeners>,
        mut report: impl FnMut(ParentEvent),
    ) -> io::Result<()> {
        let mut assembler = MessageAssembler::up_to(MAX_REQUEST);
        loop {
            let Datagram { bytes, completeness, .. } = self.main.receive().await?;
            let progress = match completeness {
                Completeness::Whole => assembler.push(&bytes),
                Completeness::Truncated => Progress::Malformed(MalformedMessage::CutOff),
            };
            let response = match progress {
                Progress::More => continue,
                Progress::Message(message) => self.respond(&message, &retained.borrow()),
                Progress::Long(_) => Response::nothing(ParentEvent::Unknown),
                Progress::Malformed(malformed) => Response::nothing(ParentEvent::Malformed(malformed)),
            };
            let event = self.send(response).await;
            let over = event == ParentEvent::Terminated;
            report(event);
            if over {
                return Ok(());
            }
        }
    }

    fn respond(&self, message: &Message, retained: &RetainedListeners) -> Response {
        let Some(Body::Request(request)) = &message.body else { return Response::unknown() };
        match &request.request {
            Some(Request::ShutdownAdmin(_)) => {
                let since = self.original_start.duration_since(UNIX_EPOCH).unwrap_or_default();
                let reply = AdminShutDown {
                    original_start_time_unix_seconds: since.as_secs(),
                    enable_reuse_port_default: true,
                };
                Response::with(ParentEvent::AdminShutDown, Reply::ShutdownAdmin(reply))
            }
            Some(Request::PassListenSocket(wanted)) => Response::pass(wanted, retained),
            Some(Request::Stats(_)) => {
                Response::with(ParentEvent::StatsRequested, Reply::Stats(Stats::default()))
            }
            Some(Request::DrainListeners(_)) => Response::nothing(ParentEvent::Drain),
            Some(Request::Terminate(_)) => Response::nothing(ParentEvent::Terminated),
            Some(Request::TestConnection(_)) => Response::nothing(ParentEvent::Tested),
            None => Response::unknown(),
        }
    }

    async fn send(&self, Response { event, reply, socket }: Response) -> ParentEvent {
        let Some(reply) = reply else { return event };
        let socket = socket.as_ref().map(|socket| socket.as_fd());
        match self.main.send(&self.child, &reply.framed(), socket).await {
            Ok(()) => event,
            Err(error) => ParentEvent::Unanswered(error.kind()),
        }
    }
}

/// Sends the child of this epoch an empty statistics reply that it may not have requested. A child waits without a limit for a
/// reply that its parent did not send. A child that does not wait takes this reply for that of its next request, and statistics
/// are all that a LIVE child waits for.
pub(crate) fn answer_stats(base_id: &BaseIdLease, child: RestartEpoch) -> io::Result<()> {
    let socket = net::UnixDatagram::unbound()?;
    socket.set_nonblocking(true)?;
    let reply = Message::reply(Reply::Stats(Stats::default())).framed();
    socket.send_to(&reply, base_id.socket(SocketRole::Child, child)).map(drop)
}

// === impl Response ===

impl Response {
    fn nothing(event: ParentEvent) -> Self {
        Self { event, reply: None, socket: None }
    }

    fn with(event: ParentEvent, reply: Reply) -> Self {
        Self { event, reply: Some(Message::reply(reply)), socket: None }
    }

    /// The reply of a parent that is older than the child.
    fn unknown() -> Self {
        Self { event: ParentEvent::Unknown, reply: Some(Message::not_recognized()), socket: None }
    }

    fn pass(wanted: &PassListenSocket, retained: &RetainedListeners) -> Self {
        let PassListenSocket { address, worker_index: worker, network_namespace } = wanted;
        let listen_address = address.parse().ok().filter(|_| network_namespace.is_empty());
        let socket = listen_address.and_then(|address| retained.get(&address, *worker));
        let answer = if socket.is_some() { SocketAnswer::Passed } else { SocketAnswer::NotRetained };
        let event = ParentEvent::SocketRequested { address: address.clone(), worker: *worker, answer };
        // The kernel replaces the number by the child's descriptor; without a socket it stays invalid.
        Self { socket, ..Self::with(event, Reply::PassListenSocket(PassedSocket { fd: -1 })) }
    }
}

#[cfg(test)]
mod tests;

//! One Envoy stream: one task that reads requests, takes its turn in a push, and writes responses.
//!
//! Choose (`select!`), decide (`pilot_xds::Stream`), act (generate, frame, send). The stream decides which responses are due and
//! which resources have to be generated again, so that a change of one endpoint generates one assignment and not a thousand.
//!
//! Nothing is generated before the client can receive it. For a client that does not read, each changed type is marked; when it
//! reads again it gets the state of that time.

mod response;

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use pilot_core::model::NameSet;
use pilot_core::push::impact::touched;
use pilot_core::push::{PushContext, PushRequest, Reason};
use pilot_core::scope::Audience;
use pilot_proto::ResourceType;
use pilot_xds::grpc::{ResponseSender, SendPermit};
use pilot_xds::{Codec, RequestOutcome, RequestedNames, Stream};
use tokio::sync::mpsc;
use tonic::{Code, Status};
use tracing::{debug, error, info, warn};

use super::client::Client;
use super::context::Context;
use super::debug_request::{DebugRequests, DebugResponse};
use super::history::Answer;
use super::hub::Turn;
use super::request::{Request, Requests, introduce};
use crate::metrics::by_type;
use crate::moment::at;
use crate::transport::Peer;

/// Maximum wait for the ACK of a type before its next response. A proxy that takes longer gets the current state then.
const ANSWER: Duration = Duration::from_secs(30);

/// Maximum duration of a turn. After it a client that cannot receive loses its turn to others.
const TURN: Duration = Duration::from_millis(100);

struct Connection {
    context: Arc<Context>,
    debug_requests: Arc<dyn DebugRequests>,
    client: Arc<Client>,
    turns: mpsc::Receiver<Turn>,
    stream: Stream,
    snapshot: Arc<PushContext>,
    audience: Arc<Audience>,
    /// Current turn of this stream.
    turn: Option<Turn>,
    /// Time since which the client cannot receive a response that is due.
    blocked: Option<Instant>,
    /// Send times of unacknowledged responses.
    unanswered: BTreeMap<ResourceType, Instant>,
    /// Types that a debug request forces to be sent in full.
    forced: BTreeSet<ResourceType>,
    /// Response to a debug request, not yet sent. Requests are not read meanwhile, so there is at most one.
    debug_response: Option<(String, DebugResponse, Codec)>,
}

/// Starts the task of a stream.
pub(super) fn spawn(
    context: Arc<Context>,
    debug_requests: Arc<dyn DebugRequests>,
    mut requests: Requests,
    outbox: ResponseSender,
    peer: Arc<Peer>,
) {
    tokio::spawn(async move {
        let end = match introduce(&context, &peer, &mut requests).await {
            Ok((first, proxy)) => {
                let (client, turns) =
                    context.hub.join(Arc::new(proxy), Some(peer.address), requests.spelling());
                info!(
                    node = %client.id,
                    codec = client.codec,
                    peer = %peer.address,
                    caller = ?peer.identities,
                    "new connection"
                );
                let version =
                    client.proxy.metadata.istio_version.clone().unwrap_or_else(|| "unknown".to_owned());
                context.metrics.connected(&version, 1);
                let mut connection =
                    Connection::new(context.clone(), debug_requests, client, turns, requests.codec());
                // A panic ends the stream like any other end: the proxy leaves the hub.
                let run = connection.run(first, &mut requests, &outbox, &peer);
                let end = AssertUnwindSafe(run).catch_unwind().await;
                connection.close();
                context.metrics.connected(&version, -1);
                end.unwrap_or_else(|_| {
                    error!("stream task panicked; closing the stream");
                    context.metrics.internal_errors.inc();
                    Status::internal("stream task failed")
                })
            }
            Err(end) => end,
        };
        outbox.end(end);
    });
}

/// Waits for room for one message. `DEADLINE_EXCEEDED`: the client has read no message within the deadline.
async fn reserve(outbox: &ResponseSender, deadline: Duration) -> Result<SendPermit, Status> {
    tokio::time::timeout(deadline, outbox.reserve()).await.unwrap_or_else(|_| {
        Err(Status::deadline_exceeded(format!("client has not read a message for {deadline:?}")))
    })
}

// === impl Connection ===

impl Connection {
    fn new(
        context: Arc<Context>,
        debug_requests: Arc<dyn DebugRequests>,
        client: Arc<Client>,
        turns: mpsc::Receiver<Turn>,
        codec: Codec,
    ) -> Self {
        let stream = Stream::new(codec, context.instance.as_str().into())
            .with_cache(context.generation.stream_cache());
        let mut stream = if client.proxy.is_proxyless() { stream.proxyless() } else { stream };
        for (kind, refusals) in context.quarantine.of(&client.proxy.id) {
            stream.withhold(kind, refusals);
        }
        let snapshot = context.snapshot();
        Self {
            context,
            debug_requests,
            client,
            turns,
            stream,
            snapshot,
            audience: Arc::default(),
            turn: None,
            blocked: None,
            unanswered: BTreeMap::new(),
            forced: BTreeSet::new(),
            debug_response: None,
        }
    }

    /// Serves the stream; returns its end.
    async fn run(
        &mut self,
        first: Request,
        requests: &mut Requests,
        outbox: &ResponseSender,
        peer: &Peer,
    ) -> Status {
        if let Err(end) = self.on_request(&first).await {
            return end;
        }
        let dismissed = self.client.dismissed.clone();
        let limit = self.context.limits.send;
        let context = self.context.clone();
        let mut ended = std::pin::pin!(peer.ended());
        loop {
            let due = self.stream.next_due();
            if due.is_none() {
                self.end_turn();
            }
            let writes = due.is_some() || self.debug_response.is_some();
            self.blocked = if writes { self.blocked.or_else(|| Some(Instant::now())) } else { None };
            let turn_ends = self.turn.as_ref().map(|turn| turn.began + TURN);
            let late = self.unanswered.values().min().map(|sent| *sent + ANSWER);
            let left = self.blocked.map_or(limit, |since| limit.saturating_sub(since.elapsed()));
            // In random order: neither a client with endless requests nor a mesh with endless changes starves the other.
            tokio::select! {
                permit = reserve(outbox, left), if writes => {
                    self.blocked = None;
                    let sent = match (permit, due) {
                        (Ok(permit), _) if self.debug_response.is_some() => self.send_debug_response(permit),
                        (Ok(permit), Some(kind)) => self.respond(kind, permit).await,
                        (Ok(_), None) => Ok(()),
                        (Err(end), _) => Err(self.unread(end)),
                    };
                    if let Err(end) = sent {
                        return end;
                    }
                }
                request = requests.next(&context), if self.debug_response.is_none() => match request {
                    Ok(Some(request)) => if let Err(end) = self.on_request(&request).await {
                        return end;
                    },
                    Ok(None) => return Status::ok(""),
                    Err(status) => {
                        debug!(node = %self.client.id, %status, "stream broken");
                        return status;
                    }
                },
                Some(turn) = self.turns.recv() => self.on_turn(turn),
                () = at(turn_ends) => self.end_turn(),
                () = at(late) => self.waive(),
                // The connection got its GOAWAY before: the client opens another one, possibly to another instance.
                end = ended.as_mut() => return end,
                () = dismissed.cancelled() => return Status::ok(""),
            }
        }
    }

    fn unread(&self, end: Status) -> Status {
        if end.code() == Code::DeadlineExceeded {
            self.context.metrics.transport.write_timeouts.inc();
            warn!(node = %self.client.id, %end, "client does not read; closing its stream");
        }
        end
    }

    async fn on_request(&mut self, request: &Request) -> Result<(), Status> {
        let verdict = match request {
            Request::Sotw(request) => self.stream.on_sotw_request(request),
            Request::Delta(request) => self.stream.on_delta_request(request),
        };
        let (context, now) = (self.context.clone(), Instant::now());
        let metrics = &context.metrics;
        metrics.received(request.size());
        let kind = match verdict {
            RequestOutcome::Subscribe { kind, added } => {
                debug!(node = %self.client.id, %kind, names = added.len(), "subscribe");
                self.client.history.asked(now);
                self.follow(kind);
                kind
            }
            RequestOutcome::Unsubscribe { kind } => {
                self.follow(kind);
                kind
            }
            RequestOutcome::Ack { kind } => {
                let after = self.client.history.answered(kind, request.nonce(), Answer::Ack, now);
                if let Some(after) = after {
                    metrics.propagated(kind, after);
                }
                kind
            }
            RequestOutcome::Nack { kind, message, rejected, added } => {
                warn!(node = %self.client.id, %kind, %message, "proxy rejects configuration");
                metrics.rejects.get_or_create(&by_type(kind.short())).inc();
                self.client.refused(kind, request.error_code());
                self.client.history.answered(kind, request.nonce(), Answer::Nack, now);
                if !rejected.is_empty() {
                    let scope = context.generation.scope(&self.snapshot, &self.client.proxy);
                    context.quarantine.put(&self.client, kind, rejected, &scope);
                }
                if !added.is_empty() {
                    self.client.history.asked(now);
                }
                self.follow(kind);
                kind
            }
            RequestOutcome::StaleNonce { kind } => {
                debug!(node = %self.client.id, %kind, "request with an outdated nonce");
                metrics.expired_nonces.get_or_create(&by_type(kind.short())).inc();
                kind
            }
            RequestOutcome::UnknownType { type_url } => return self.on_unknown(type_url, request).await,
        };
        if !self.stream.awaits_ack(kind) {
            self.unanswered.remove(&kind);
        }
        self.client.note(kind, self.stream.status(kind));
        Ok(())
    }

    /// Handles a request for a type that is not an xDS type: a debug request, or one that is ignored.
    async fn on_unknown(&mut self, type_url: String, request: &Request) -> Result<(), Status> {
        match self.debug_requests.respond(&self.client, &type_url, request.names()).await {
            Some(response) => self.debug_response = Some((type_url, response?, request.codec())),
            None => info!(node = %self.client.id, %type_url, "unknown type, request ignored"),
        }
        Ok(())
    }

    /// Registers the changed subscription with the hub, and takes a snapshot that is no older: later pushes follow the
    /// subscription, and added names are generated from this snapshot. Other resources may be from an older one; the push that
    /// changes them follows.
    fn follow(&mut self, kind: ResourceType) {
        if kind == ResourceType::Endpoint {
            let names = match self.stream.requested(kind) {
                RequestedNames::Names(names) => names.clone(),
                RequestedNames::None | RequestedNames::Wildcard => NameSet::default(),
            };
            self.audience = self.context.hub.follow(self.client.number, &names);
        }
        self.snapshot = self.context.snapshot();
    }

    fn on_turn(&mut self, turn: Turn) {
        self.context.metrics.queue_time.observe(turn.queued.elapsed().as_secs_f64());
        self.snapshot = self.context.snapshot();
        let kinds = touched(&turn.request, self.client.proxy.node_type());
        for kind in &kinds {
            self.push_changed(*kind, &turn.request);
        }
        self.client.history.begin(&turn.request, kinds.iter().copied(), Instant::now());
        if turn.request.reasons.contains_key(&Reason::Debug) {
            self.forced.extend(&kinds);
        }
        self.turn = Some(turn);
    }

    fn end_turn(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        drop(turn.slot);
        self.context.hub.done(self.client.number);
        if let Some(start) = turn.request.start {
            self.context.metrics.convergence_time.observe(start.elapsed().as_secs_f64());
        }
    }

    /// Marks the resources of a type that a push changes; endpoints by name.
    fn push_changed(&mut self, kind: ResourceType, request: &PushRequest) {
        let names = if kind == ResourceType::Endpoint { self.audience.touched(request) } else { None };
        match names {
            Some(names) => self.stream.push_names(kind, &names),
            None => self.stream.push([kind]),
        }
    }

    /// Stops waiting for ACKs that are late.
    fn waive(&mut self) {
        let now = Instant::now();
        let late: Vec<ResourceType> = self
            .unanswered
            .iter()
            .filter(|(_, sent)| **sent + ANSWER <= now)
            .map(|(kind, _)| *kind)
            .collect();
        for kind in late {
            warn!(node = %self.client.id, %kind, after = ?ANSWER, "ACK timed out; continuing without it");
            self.unanswered.remove(&kind);
            self.stream.ack_timed_out(kind);
        }
    }

    fn close(&mut self) {
        self.end_turn();
        self.context.hub.leave(self.client.number);
        self.context.quarantine.keep(&self.client, &self.stream);
        info!(node = %self.client.id, "connection ended");
    }
}

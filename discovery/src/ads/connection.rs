//! One Envoy stream: one task that reads requests, takes its turn in a push, and writes what is due.
//!
//! Choose (`select!`), decide (`pilot_core::xds::Stream`), act (generate, frame, send). The stream decides what is
//! due; this task only remembers which of it has to be generated anew, so that a change of one endpoint generates one
//! assignment and not a thousand.
//!
//! Nothing is generated before the client can take it. A client that does not read costs a mark for each type that
//! changed meanwhile; when it reads again it is told how things stand then.

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use pilot_core::model::{NameSet, ResourceSet};
use pilot_core::push::impact::touched;
use pilot_core::push::{PushContext, PushRequest};
use pilot_core::scope::Audience;
use pilot_core::xds::{Codec, Response, Stream, Verdict, Wanted, Why};
use pilot_proto::ResourceType;
use tokio::sync::mpsc;
use tonic::{Code, Status};
use tracing::{debug, error, info, warn};

use super::hub::{Client, Turn};
use super::request::{Request, Requests, introduce};
use super::wire::{Outbox, Permit};
use crate::metrics::by_type;
use crate::moment::at;
use crate::server::Shared;
use crate::transport::Peer;

/// How long the next response of a type waits for the answer to the last one. A proxy that takes longer is late, not
/// lost: it is told what is true then.
const ANSWER: Duration = Duration::from_secs(30);

/// How long a turn lasts at most. A client that cannot take what it is sent goes on without one.
const TURN: Duration = Duration::from_millis(100);

/// Which resources of a type have to be generated before the type is offered to the stream again. The rest is what
/// was last offered.
enum Stale {
    All,
    Names(NameSet),
}

struct Connection {
    shared: Arc<Shared>,
    client: Arc<Client>,
    turns: mpsc::Receiver<Turn>,
    stream: Stream,
    snapshot: Arc<PushContext>,
    audience: Arc<Audience>,
    stale: BTreeMap<ResourceType, Stale>,
    /// The turn that this stream has.
    turn: Option<Turn>,
    /// Since when something is due that the client cannot take.
    blocked: Option<Instant>,
    /// When a response was sent that is not answered yet.
    unanswered: BTreeMap<ResourceType, Instant>,
    /// Error codes of rejections that stand in the metrics.
    rejections: BTreeMap<ResourceType, i32>,
}

/// Starts the task of a stream.
pub(super) fn spawn(shared: Arc<Shared>, mut requests: Requests, outbox: Outbox, peer: Arc<Peer>) {
    tokio::spawn(async move {
        let end = match introduce(&shared, &peer, &mut requests).await {
            Ok((first, proxy)) => {
                let (client, turns) =
                    shared.hub.join(Arc::new(proxy), Some(peer.address), requests.spelling());
                info!(
                    node = %client.id,
                    codec = client.codec,
                    peer = %peer.address,
                    identities = ?peer.identities,
                    "new connection"
                );
                let version =
                    client.proxy.metadata.istio_version.clone().unwrap_or_else(|| "unknown".to_owned());
                shared.metrics.connected(&version, 1);
                let mut connection = Connection::new(shared.clone(), client, turns, requests.codec());
                // What follows a panic is what follows any other end: nobody is left in the hub.
                let run = connection.run(first, &mut requests, &outbox, &peer);
                let end = AssertUnwindSafe(run).catch_unwind().await;
                connection.close();
                shared.metrics.connected(&version, -1);
                end.unwrap_or_else(|_| {
                    error!("the task of a stream has panicked; its stream ends");
                    shared.metrics.internal_errors.inc();
                    Status::internal("the stream's task has failed")
                })
            }
            Err(end) => end,
        };
        outbox.end(end);
    });
}

// === impl Connection ===

impl Connection {
    fn new(shared: Arc<Shared>, client: Arc<Client>, turns: mpsc::Receiver<Turn>, codec: Codec) -> Self {
        let stream = Stream::new(codec, shared.instance.as_str().into()).sharing(shared.generation.pool());
        let mut stream = if client.proxy.is_proxyless() { stream.proxyless() } else { stream };
        for (kind, refusals) in shared.quarantine.of(&client.proxy.id) {
            stream.refuse(kind, refusals);
        }
        let snapshot = shared.snapshot();
        Self {
            shared,
            client,
            turns,
            stream,
            snapshot,
            audience: Arc::default(),
            stale: BTreeMap::new(),
            turn: None,
            blocked: None,
            unanswered: BTreeMap::new(),
            rejections: BTreeMap::new(),
        }
    }

    /// Serves the stream; returns how it ends.
    async fn run(&mut self, first: Request, requests: &mut Requests, outbox: &Outbox, peer: &Peer) -> Status {
        self.on_request(&first);
        let limit = self.shared.limits.send;
        let shared = self.shared.clone();
        let mut ended = std::pin::pin!(peer.ended());
        loop {
            let due = self.stream.next_due();
            if due.is_none() {
                self.end_turn();
            }
            self.blocked = due.and(self.blocked.or_else(|| Some(Instant::now())));
            let turn_ends = self.turn.as_ref().map(|turn| turn.began + TURN);
            let late = self.unanswered.values().min().map(|sent| *sent + ANSWER);
            let left = self.blocked.map_or(limit, |since| limit.saturating_sub(since.elapsed()));
            // In no order: neither a client that asks without end nor a mesh that changes without end starves the other.
            tokio::select! {
                permit = outbox.reserve(left), if due.is_some() => {
                    self.blocked = None;
                    let sent = match (permit, due) {
                        (Ok(permit), Some(kind)) => self.respond(kind, permit).await,
                        (Ok(_), None) => Ok(()),
                        (Err(end), _) => Err(self.unread(end)),
                    };
                    if let Err(end) = sent {
                        return end;
                    }
                }
                request = requests.next(&shared) => match request {
                    Ok(Some(request)) => self.on_request(&request),
                    Ok(None) => return Status::ok(""),
                    Err(status) => {
                        debug!(node = %self.client.id, %status, "stream has broken");
                        return status;
                    }
                },
                Some(turn) = self.turns.recv() => self.on_turn(turn),
                () = at(turn_ends) => self.end_turn(),
                () = at(late) => self.waive(),
                // The connection got its GOAWAY before: the client opens another one, maybe to another instance.
                end = ended.as_mut() => return end,
            }
        }
    }

    fn unread(&self, end: Status) -> Status {
        if end.code() == Code::DeadlineExceeded {
            self.shared.metrics.transport.write_timeouts.inc();
            warn!(node = %self.client.id, %end, "the client does not read; its stream ends");
        }
        end
    }

    fn on_request(&mut self, request: &Request) {
        let verdict = match request {
            Request::Sotw(request) => self.stream.on_sotw_request(request),
            Request::Delta(request) => self.stream.on_delta_request(request),
        };
        let (node, shared) = (&self.client.proxy.id, self.shared.clone());
        let metrics = &shared.metrics;
        let kind = match verdict {
            Verdict::Subscribe { kind, added } => {
                debug!(node = %self.client.id, %kind, names = added.len(), "subscribe");
                self.follow(kind);
                // The snapshot may be newer than the one that the rest was generated from; only the news is.
                self.snapshot = self.shared.snapshot();
                self.mark(kind, &added);
                kind
            }
            Verdict::Unsubscribe { kind } => {
                self.follow(kind);
                self.accepted(kind);
                kind
            }
            Verdict::Ack { kind } => {
                self.accepted(kind);
                kind
            }
            Verdict::Nack { kind, message, refused } => {
                warn!(node = %self.client.id, %kind, %message, "proxy rejects configuration");
                let code = request.error_code();
                metrics.rejected(kind.short(), &node.to_string(), code);
                self.rejections.insert(kind, code);
                if !refused.is_empty() {
                    let scope = shared.generation.scope(&self.snapshot, &self.client.proxy);
                    shared.quarantine.put(&self.client, kind, refused, &scope);
                }
                kind
            }
            Verdict::Stale { kind } => {
                debug!(node = %self.client.id, %kind, "request with an outdated nonce");
                metrics.expired_nonces.get_or_create(&by_type(kind.short())).inc();
                kind
            }
            Verdict::Unknown { type_url } => {
                info!(node = %self.client.id, %type_url, "not a type of ours: no answer");
                return;
            }
        };
        if !self.stream.is_waiting(kind) {
            self.unanswered.remove(&kind);
        }
        self.client.note(kind, self.stream.status(kind));
    }

    fn accepted(&mut self, kind: ResourceType) {
        if let Some(code) = self.rejections.remove(&kind) {
            self.shared.metrics.accepted(kind.short(), &self.client.proxy.id.to_string(), code);
        }
    }

    /// Whom a change of endpoints concerns is known from what they ask for.
    fn follow(&mut self, kind: ResourceType) {
        if kind == ResourceType::Endpoint {
            let names = match self.stream.wanted(kind) {
                Wanted::Names(names) => names.clone(),
                Wanted::Nothing | Wanted::All => NameSet::default(),
            };
            self.audience = self.shared.hub.follow(self.client.number, &names);
        }
    }

    fn on_turn(&mut self, turn: Turn) {
        self.shared.metrics.queue_time.observe(turn.queued.elapsed().as_secs_f64());
        self.snapshot = self.shared.snapshot();
        let kinds = touched(&turn.request, self.client.proxy.node_type());
        for kind in &kinds {
            self.mark_changed(*kind, &turn.request);
        }
        self.stream.push(kinds);
        self.turn = Some(turn);
    }

    fn end_turn(&mut self) {
        let Some(turn) = self.turn.take() else { return };
        drop(turn.slot);
        self.shared.hub.done(self.client.number);
        if let Some(start) = turn.request.start {
            self.shared.metrics.convergence_time.observe(start.elapsed().as_secs_f64());
        }
    }

    /// What a push makes stale of a type. Endpoints know which: those of the services that changed.
    fn mark_changed(&mut self, kind: ResourceType, request: &PushRequest) {
        let touched = if kind == ResourceType::Endpoint { self.audience.touched(request) } else { None };
        match touched {
            Some(names) => self.mark(kind, &names),
            None => drop(self.stale.insert(kind, Stale::All)),
        }
    }

    fn mark(&mut self, kind: ResourceType, names: &NameSet) {
        if kind.is_wildcard() && !self.client.proxy.is_proxyless() {
            self.stale.insert(kind, Stale::All);
            return;
        }
        match self.stale.entry(kind).or_insert_with(|| Stale::Names(NameSet::default())) {
            Stale::All => {}
            Stale::Names(known) => *known = known.union(names),
        }
    }

    /// Generates and sends what is due of a type, if it is news.
    async fn respond(&mut self, kind: ResourceType, permit: Permit) -> Result<(), Status> {
        let started = Instant::now();
        let offered = self.offer(kind).await?;
        let version = self.shared.generation.version(&self.snapshot);
        let Some(response) = self.stream.respond(kind, &version, &offered, Why::IfChanged) else {
            return Ok(());
        };
        let metrics = &self.shared.metrics;
        metrics.push_time.get_or_create(&by_type(kind.short())).observe(started.elapsed().as_secs_f64());
        self.send(&response, permit)
    }

    /// All that the client could want of a type: what it was offered, with everything stale generated anew.
    async fn offer(&mut self, kind: ResourceType) -> Result<ResourceSet, Status> {
        let before = self.stream.offered(kind);
        let wanted = match self.stream.wanted(kind) {
            Wanted::Nothing => return Ok(before),
            Wanted::All => None,
            Wanted::Names(names) => Some(names.clone()),
        };
        let stale = self.stale.remove(&kind);
        let (snapshot, proxy) = (self.snapshot.clone(), self.client.proxy.clone());
        let generation = &self.shared.generation;
        match (stale, wanted) {
            (None, _) => Ok(before),
            (Some(Stale::Names(stale)), Some(wanted)) if stale.len() < wanted.len() => {
                let stale = stale.filtered(|name| wanted.contains(name));
                let generated = generation.generate(snapshot, proxy, kind, Some(stale.clone())).await?;
                self.client.report(kind, generated.report);
                let mut offered = before;
                for name in &stale {
                    match generated.resources.get(name) {
                        Some(resource) => offered.insert(resource.clone()),
                        None => drop(offered.remove(name)),
                    }
                }
                Ok(generation.pool().share(&offered))
            }
            (Some(_), wanted) => {
                let generated = generation.generate(snapshot, proxy, kind, wanted).await?;
                self.client.report(kind, generated.report);
                Ok(generated.resources)
            }
        }
    }

    fn send(&mut self, response: &Response, permit: Permit) -> Result<(), Status> {
        let kind = response.kind;
        let parts = response.encode();
        let size: usize = parts.iter().map(bytes::Bytes::len).sum();
        permit.send(parts)?;
        let metrics = &self.shared.metrics;
        metrics.pushes.get_or_create(&by_type(kind.short())).inc();
        #[expect(clippy::cast_precision_loss, reason = "a histogram of sizes; 2^53 bytes are out of reach")]
        metrics.config_size.get_or_create(&by_type(kind.short())).observe(size as f64);
        debug!(
            node = %self.client.id,
            %kind,
            resources = response.resources().len(),
            removed = response.removed().len(),
            size,
            nonce = response.nonce.as_str(),
            "sent"
        );
        self.unanswered.insert(kind, Instant::now());
        self.client.note(kind, self.stream.status(kind));
        self.client.sent(kind);
        Ok(())
    }

    /// Waits no longer for answers that are late.
    fn waive(&mut self) {
        let now = Instant::now();
        let late: Vec<ResourceType> = self
            .unanswered
            .iter()
            .filter(|(_, sent)| **sent + ANSWER <= now)
            .map(|(kind, _)| *kind)
            .collect();
        for kind in late {
            warn!(node = %self.client.id, %kind, after = ?ANSWER, "no answer; not waiting for it any longer");
            self.unanswered.remove(&kind);
            self.stream.waive(kind);
        }
    }

    fn close(&mut self) {
        self.end_turn();
        self.shared.hub.leave(self.client.number);
        self.shared.quarantine.keep(&self.client, &self.stream);
        for (kind, code) in &self.rejections {
            self.shared.metrics.accepted(kind.short(), &self.client.proxy.id.to_string(), *code);
        }
        info!(node = %self.client.id, "connection has ended");
    }
}

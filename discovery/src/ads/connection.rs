//! One Envoy stream: one task that reads requests, takes its turn in a push, and writes what is due.
//!
//! Choose (`select!`), decide (`pilot_core::xds::Stream`), act (generate, frame, send). The stream decides what is
//! due; this task only remembers which of it has to be generated anew, so that a change of one endpoint generates one
//! assignment and not a thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::FutureExt as _;
use pilot_core::model::{ClusterName, Hostname, Kind};
use pilot_core::push::impact::touched;
use pilot_core::push::{PushContext, PushRequest};
use pilot_core::xds::{Codec, ResourceMap, Response, Stream, Verdict, Wanted, Why};
use pilot_proto::ResourceType;
use tokio::sync::mpsc;
use tonic::{Code, Status};
use tracing::{debug, error, info, warn};

use super::hub::{Client, Turn};
use super::request::{Request, Requests, introduce};
use super::wire::Outbox;
use crate::metrics::by_type;
use crate::moment::at;
use crate::server::Shared;
use crate::transport::Peer;

/// How long the next response of a type waits for the answer to the last one. A proxy that takes longer is late, not
/// lost: it is told what is true then.
const ANSWER: Duration = Duration::from_secs(30);

/// Which resources of a type have to be generated before the type is offered to the stream again. The rest is what
/// the stream was last told.
enum Stale {
    All,
    Names(BTreeSet<Arc<str>>),
}

struct Connection {
    shared: Arc<Shared>,
    outbox: Arc<Outbox>,
    peer: Arc<Peer>,
    client: Arc<Client>,
    turns: mpsc::Receiver<Turn>,
    stream: Stream,
    snapshot: Arc<PushContext>,
    stale: BTreeMap<ResourceType, Stale>,
    /// When a response was sent that is not answered yet.
    unanswered: BTreeMap<ResourceType, Instant>,
    /// Error codes of rejections that stand in the metrics.
    rejections: BTreeMap<ResourceType, i32>,
}

/// Starts the task of a stream.
pub(super) fn spawn(shared: Arc<Shared>, mut requests: Requests, outbox: Outbox, peer: Arc<Peer>) {
    tokio::spawn(async move {
        let outbox = Arc::new(outbox);
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
                let mut connection =
                    Connection::new(shared.clone(), outbox.clone(), peer, client, turns, requests.codec());
                // What follows a panic is what follows any other end: nobody is left in the hub.
                let end = AssertUnwindSafe(connection.run(first, &mut requests)).catch_unwind().await;
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
    fn new(
        shared: Arc<Shared>,
        outbox: Arc<Outbox>,
        peer: Arc<Peer>,
        client: Arc<Client>,
        turns: mpsc::Receiver<Turn>,
        codec: Codec,
    ) -> Self {
        let stream = Stream::new(codec, shared.instance.as_str().into());
        let stream = if client.proxy.is_proxyless() { stream.proxyless() } else { stream };
        let snapshot = shared.snapshot();
        Self {
            shared,
            outbox,
            peer,
            client,
            turns,
            stream,
            snapshot,
            stale: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            rejections: BTreeMap::new(),
        }
    }

    /// Serves the stream; returns how it ends.
    async fn run(&mut self, first: Request, requests: &mut Requests) -> Status {
        self.on_request(&first);
        let mut ended = std::pin::pin!(self.peer.ended());
        loop {
            if let Err(end) = self.send_due().await {
                return end;
            }
            let late = self.unanswered.values().min().map(|sent| *sent + ANSWER);
            // In no order: neither a client that asks without end nor a mesh that changes without end starves the other.
            tokio::select! {
                request = requests.next(&self.shared) => match request {
                    Ok(Some(request)) => self.on_request(&request),
                    Ok(None) => return Status::ok(""),
                    Err(status) => {
                        debug!(node = %self.client.id, %status, "stream has broken");
                        return status;
                    }
                },
                Some(turn) = self.turns.recv() => {
                    if let Err(end) = self.on_turn(turn).await {
                        return end;
                    }
                }
                () = at(late) => self.waive(),
                // The connection got its GOAWAY before: the client opens another one, maybe to another instance.
                end = ended.as_mut() => return end,
            }
        }
    }

    fn on_request(&mut self, request: &Request) {
        let verdict = match request {
            Request::Sotw(request) => self.stream.on_sotw_request(request),
            Request::Delta(request) => self.stream.on_delta_request(request),
        };
        let (node, metrics) = (&self.client.proxy.id, &self.shared.metrics);
        let kind = match verdict {
            Verdict::Subscribe { kind, added } => {
                debug!(node = %self.client.id, %kind, names = added.len(), "subscribe");
                // The snapshot may be newer than the one that the rest was generated from; only the news is.
                self.snapshot = self.shared.snapshot();
                self.mark(kind, added);
                kind
            }
            Verdict::Unsubscribe { kind } | Verdict::Ack { kind } => {
                if let Some(code) = self.rejections.remove(&kind) {
                    metrics.accepted(kind.short(), &node.to_string(), code);
                }
                kind
            }
            Verdict::Nack { kind, message } => {
                warn!(node = %self.client.id, %kind, %message, "proxy rejects configuration");
                let code = request.error_code();
                metrics.rejected(kind.short(), &node.to_string(), code);
                self.rejections.insert(kind, code);
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

    async fn on_turn(&mut self, turn: Turn) -> Result<(), Status> {
        self.shared.metrics.queue_time.observe(turn.queued.elapsed().as_secs_f64());
        self.snapshot = self.shared.snapshot();
        let kinds = touched(&turn.request, self.client.proxy.node_type());
        for kind in &kinds {
            self.mark_changed(*kind, &turn.request);
        }
        self.stream.push(kinds);
        let sent = self.send_due().await;
        self.shared.hub.done(self.client.number);
        if let Some(start) = turn.request.start {
            self.shared.metrics.convergence_time.observe(start.elapsed().as_secs_f64());
        }
        sent
    }

    /// What a push makes stale of a type. Endpoints know which: those of the services that changed.
    fn mark_changed(&mut self, kind: ResourceType, request: &PushRequest) {
        match (kind, self.stream.wanted(kind)) {
            (ResourceType::Endpoint, Wanted::Names(names)) if request.is_endpoints_only() => {
                let changed: BTreeSet<&str> = request
                    .updated
                    .iter()
                    .filter(|key| key.kind == Kind::Endpoints)
                    .map(|key| &*key.name)
                    .collect();
                let stale =
                    names.iter().filter(|name| changed.contains(host_of(name).as_str())).cloned().collect();
                self.mark(kind, stale);
            }
            _ => {
                self.stale.insert(kind, Stale::All);
            }
        }
    }

    fn mark(&mut self, kind: ResourceType, names: Vec<Arc<str>>) {
        if kind.is_wildcard() && !self.client.proxy.is_proxyless() {
            self.stale.insert(kind, Stale::All);
            return;
        }
        match self.stale.entry(kind).or_insert_with(|| Stale::Names(BTreeSet::new())) {
            Stale::All => {}
            Stale::Names(known) => known.extend(names),
        }
    }

    /// Generates and sends everything that is due.
    async fn send_due(&mut self) -> Result<(), Status> {
        while let Some(kind) = self.stream.next_due() {
            let started = Instant::now();
            let offered = self.offer(kind).await?;
            let version = self.shared.generation.version(&self.snapshot);
            let response = self.stream.respond(kind, &version, &offered, Why::IfChanged);
            if let Some(response) = response {
                let generated = started.elapsed();
                self.shared
                    .metrics
                    .push_time
                    .get_or_create(&by_type(kind.short()))
                    .observe(generated.as_secs_f64());
                self.send(&response).await?;
            }
        }
        Ok(())
    }

    /// All that the client could want of a type: what it was told, with everything stale generated anew.
    async fn offer(&mut self, kind: ResourceType) -> Result<ResourceMap, Status> {
        let told = self.stream.told(kind).cloned().unwrap_or_default();
        let wanted = match self.stream.wanted(kind) {
            Wanted::Nothing => return Ok(told),
            Wanted::All => None,
            Wanted::Names(names) => Some(names.clone()),
        };
        let (mut offered, names) = match (self.stale.remove(&kind), wanted) {
            (Some(Stale::Names(stale)), Some(_)) if stale.is_empty() => return Ok(told),
            (Some(Stale::Names(stale)), Some(_)) => {
                let offered = stale.iter().fold(told, |told, name| told.without(name));
                (offered, Some(stale))
            }
            (None, Some(_)) => return Ok(told),
            (Some(Stale::All), wanted) => (ResourceMap::new(), wanted),
            (_, None) => (ResourceMap::new(), None),
        };
        let generation = &self.shared.generation;
        let generated =
            generation.generate(self.snapshot.clone(), self.client.proxy.clone(), kind, names).await?;
        self.client.report(kind, generated.report.rejected);
        for (name, resource) in generated.resources {
            offered.insert(name, resource);
        }
        Ok(offered)
    }

    async fn send(&mut self, response: &Response) -> Result<(), Status> {
        let kind = response.kind;
        let started = Instant::now();
        let metrics = &self.shared.metrics;
        let permit = self.outbox.reserve(self.shared.limits.send).await.inspect_err(|end| {
            if end.code() == Code::DeadlineExceeded {
                warn!(node = %self.client.id, %kind, "the client does not read; its stream ends");
                metrics.transport.write_timeouts.inc();
            }
        })?;
        let (head, block) = (response.head(), response.block());
        let size = head.len() + block.len();
        permit.send([head, block])?;
        metrics.send_time.observe(started.elapsed().as_secs_f64());
        metrics.pushes.get_or_create(&by_type(kind.short())).inc();
        #[expect(clippy::cast_precision_loss, reason = "a histogram of sizes; 2^53 bytes are out of reach")]
        metrics.config_size.get_or_create(&by_type(kind.short())).observe(size as f64);
        debug!(
            node = %self.client.id,
            %kind,
            resources = response.resources.len(),
            removed = response.removed.len(),
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

    fn close(&self) {
        self.shared.hub.leave(self.client.number);
        for (kind, code) in &self.rejections {
            self.shared.metrics.accepted(kind.short(), &self.client.proxy.id.to_string(), *code);
        }
        info!(node = %self.client.id, "connection has ended");
    }
}

/// The host of a cluster's endpoints; nothing that any service is called for a name that is not ours.
fn host_of(name: &str) -> Hostname {
    name.parse::<ClusterName>().map_or_else(|_| "".into(), |name| name.host.into())
}

//! One Envoy stream: one task that reads requests, takes its turn in a push, and writes what is due.
//!
//! Choose (`select!`), decide (`pilot_core::xds::Stream`), act (generate, frame, send). The stream decides what is
//! due; this task only remembers which of it has to be generated anew, so that a change of one endpoint generates one
//! assignment and not a thousand.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use pilot_core::model::{ClusterName, Hostname, Kind};
use pilot_core::push::impact::touched;
use pilot_core::push::{PushContext, PushRequest, Reason};
use pilot_core::xds::{Codec, ResourceMap, Response, Stream, Verdict, Wanted, Why};
use pilot_proto::ResourceType;
use tokio::sync::mpsc;
use tonic::Status;
use tracing::{debug, info, warn};

use super::client::Client;
use super::history::{self, Answer};
use super::hub::Turn;
use super::request::{Request, Requests, introduce};
use super::wire::{Outgoing, frame};
use crate::debug;
use crate::metrics::by_type;
use crate::moment::at;
use crate::server::Shared;

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
    outbox: mpsc::Sender<Outgoing>,
    client: Arc<Client>,
    turns: mpsc::Receiver<Turn>,
    stream: Stream,
    snapshot: Arc<PushContext>,
    stale: BTreeMap<ResourceType, Stale>,
    /// When a response was sent that is not answered yet.
    unanswered: BTreeMap<ResourceType, Instant>,
    /// Types of which everything is sent once more, because somebody asked for it.
    forced: BTreeSet<ResourceType>,
}

/// Starts the task of a stream.
pub(super) fn spawn(
    shared: Arc<Shared>,
    mut requests: Requests,
    outbox: mpsc::Sender<Outgoing>,
    peer: Option<SocketAddr>,
) {
    tokio::spawn(async move {
        let end = match introduce(&shared, &mut requests).await {
            Ok((first, proxy)) => {
                let (client, turns) = shared.hub.join(Arc::new(proxy), peer, requests.spelling());
                info!(node = %client.id, codec = client.codec, peer = ?client.peer, "new connection");
                let version =
                    client.proxy.metadata.istio_version.clone().unwrap_or_else(|| "unknown".to_owned());
                shared.metrics.connected(&version, 1);
                let mut connection =
                    Connection::new(shared.clone(), outbox.clone(), client, turns, requests.codec());
                let end = connection.run(first, &mut requests).await;
                connection.close();
                shared.metrics.connected(&version, -1);
                end
            }
            Err(end) => end,
        };
        // The client may be gone already: then there is nobody to tell.
        drop(outbox.send(Outgoing::End(end)).await);
    });
}

// === impl Connection ===

impl Connection {
    fn new(
        shared: Arc<Shared>,
        outbox: mpsc::Sender<Outgoing>,
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
            client,
            turns,
            stream,
            snapshot,
            stale: BTreeMap::new(),
            unanswered: BTreeMap::new(),
            forced: BTreeSet::new(),
        }
    }

    /// Serves the stream; returns how it ends.
    async fn run(&mut self, first: Request, requests: &mut Requests) -> Status {
        if let Err(end) = self.on_request(&first).await {
            return end;
        }
        let draining = self.shared.draining.clone();
        let dismissed = self.client.dismissed.clone();
        let old = self.shared.max_age.map(|age| Instant::now() + lifetime(age, self.client.number));
        loop {
            if let Err(end) = self.send_due().await {
                return end;
            }
            let late = self.unanswered.values().min().map(|sent| *sent + ANSWER);
            // In no order: neither a client that asks without end nor a mesh that changes without end starves the other.
            tokio::select! {
                request = requests.next() => match request {
                    Ok(Some(request)) => if let Err(end) = self.on_request(&request).await {
                        return end;
                    },
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
                // The connection got its GOAWAY before: the client opens another one, maybe to another replica.
                () = at(old) => return Status::ok(""),
                () = dismissed.cancelled() => return Status::ok(""),
                () = draining.cancelled() => return Status::unavailable("shutting down"),
            }
        }
    }

    async fn on_request(&mut self, request: &Request) -> Result<(), Status> {
        let verdict = match request {
            Request::Sotw(request) => self.stream.on_sotw_request(request),
            Request::Delta(request) => self.stream.on_delta_request(request),
        };
        let (metrics, now) = (&self.shared.metrics, Instant::now());
        metrics.received(request.size());
        let kind = match verdict {
            Verdict::Subscribe { kind, added } => {
                debug!(node = %self.client.id, %kind, names = added.len(), "subscribe");
                // The snapshot may be newer than the one that the rest was generated from; only the news is.
                self.snapshot = self.shared.snapshot();
                self.client.history.asked(now);
                self.mark(kind, added);
                kind
            }
            Verdict::Unsubscribe { kind } => kind,
            Verdict::Ack { kind } => {
                let after = self.client.history.answered(kind, request.nonce(), Answer::Ack, now);
                if let Some(after) = after {
                    metrics.propagated(kind, after);
                }
                kind
            }
            Verdict::Nack { kind, message } => {
                warn!(node = %self.client.id, %kind, %message, "proxy rejects configuration");
                metrics.rejects.get_or_create(&by_type(kind.short())).inc();
                self.client.refused(kind, request.error_code());
                self.client.history.answered(kind, request.nonce(), Answer::Nack, now);
                kind
            }
            Verdict::Stale { kind } => {
                debug!(node = %self.client.id, %kind, "request with an outdated nonce");
                metrics.expired_nonces.get_or_create(&by_type(kind.short())).inc();
                kind
            }
            Verdict::Unknown { type_url } => return self.on_unknown(&type_url, request).await,
        };
        if !self.stream.is_waiting(kind) {
            self.unanswered.remove(&kind);
        }
        self.client.note(kind, self.stream.status(kind));
        Ok(())
    }

    /// Not a type of the mesh: a question of `istioctl`'s, or nothing.
    async fn on_unknown(&mut self, type_url: &str, request: &Request) -> Result<(), Status> {
        let answer = debug::xds::answer(&self.shared, &self.client, type_url, request.names()).await;
        let Some(answer) = answer else {
            info!(node = %self.client.id, %type_url, "not a type of ours: no answer");
            return Ok(());
        };
        let version = self.shared.generation.version(&self.snapshot);
        let message = answer?.encode(request.codec(), type_url, &version);
        let sent = self.outbox.send(Outgoing::Message(frame(&[message])?)).await;
        sent.map_err(|_| Status::cancelled("the client is gone"))
    }

    async fn on_turn(&mut self, turn: Turn) -> Result<(), Status> {
        self.shared.metrics.queue_time.observe(turn.queued.elapsed().as_secs_f64());
        self.snapshot = self.shared.snapshot();
        let kinds = touched(&turn.request, self.client.proxy.node_type());
        for kind in &kinds {
            self.mark_changed(*kind, &turn.request);
        }
        self.client.history.begin(&turn.request, kinds.iter().copied(), Instant::now());
        if turn.request.reasons.contains_key(&Reason::Debug) {
            self.forced.extend(&kinds);
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
            let offered = self.offer(kind).await.inspect_err(|_| {
                self.shared.metrics.internal_errors.inc();
            })?;
            let version = self.shared.generation.version(&self.snapshot);
            let why = if self.forced.remove(&kind) { Why::Forced } else { Why::IfChanged };
            let response = self.stream.respond(kind, &version, &offered, why);
            if let Some(response) = response {
                let generated = started.elapsed();
                self.shared
                    .metrics
                    .push_time
                    .get_or_create(&by_type(kind.short()))
                    .observe(generated.as_secs_f64());
                self.send(&response, generated).await?;
            } else {
                self.client.history.unchanged(kind);
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

    async fn send(&mut self, response: &Response, generated: Duration) -> Result<(), Status> {
        let kind = response.kind;
        let bytes = frame(&response.encode()).inspect_err(|_| self.shared.metrics.send_error(kind))?;
        let (size, started) = (bytes.len(), Instant::now());
        if self.outbox.send(Outgoing::Message(bytes)).await.is_err() {
            return Err(Status::cancelled("the client is gone"));
        }
        let metrics = &self.shared.metrics;
        metrics.send_time.observe(started.elapsed().as_secs_f64());
        metrics.pushes.get_or_create(&by_type(kind.short())).inc();
        #[expect(clippy::cast_precision_loss, reason = "a histogram of sizes; 2^53 bytes are out of reach")]
        metrics.config_size.get_or_create(&by_type(kind.type_url())).observe(size as f64);
        debug!(
            node = %self.client.id,
            %kind,
            resources = response.resources.len(),
            removed = response.removed.len(),
            size,
            nonce = response.nonce.as_str(),
            "sent"
        );
        let now = Instant::now();
        self.client.history.sent(&history::Response::of(response, size, generated), now);
        self.unanswered.insert(kind, now);
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
        info!(node = %self.client.id, "connection has ended");
    }
}

/// The host of a cluster's endpoints; nothing that any service is called for a name that is not ours.
fn host_of(name: &str) -> Hostname {
    name.parse::<ClusterName>().map_or_else(|_| "".into(), |name| name.host.into())
}

/// How long a stream lives: a little longer than its connection may, and up to a tenth more, not the same for all, so
/// that proxies that came together do not come again together.
fn lifetime(max_age: Duration, number: u64) -> Duration {
    /// 2^64 over the golden ratio: multiples of it are spread evenly.
    const SPREAD: u64 = 0x9E37_79B9_7F4A_7C15;
    let tenth = max_age / 10;
    let part = u32::try_from(number.wrapping_mul(SPREAD) >> 48).unwrap_or_default();
    max_age + Duration::from_millis(10) + tenth * part / (1 << 16)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn streams_outlive_the_goaway_by_different_parts_of_a_tenth() {
        let age = Duration::from_mins(30);
        let lives: BTreeSet<Duration> = (1..=100).map(|number| lifetime(age, number)).collect();
        assert_eq!(lives.len(), 100);
        assert!(lives.iter().all(|life| *life > age && *life <= age + age / 10 + Duration::from_millis(10)));
        let (first, last) = (lives.first().copied().unwrap(), lives.last().copied().unwrap());
        assert!(last > first + age / 11, "{first:?} to {last:?}");
    }
}

//! Responses of one stream: generates stale resources, sends differences.

use std::time::{Duration, Instant};

use pilot_core::model::ResourceSet;
use pilot_proto::ResourceType;
use pilot_xds::grpc::SendPermit;
use pilot_xds::{Regenerate, Response, SendMode};
use tonic::Status;
use tracing::debug;

use super::Connection;
use crate::ads::history;
use crate::metrics::by_type;

impl Connection {
    /// Generates a type that is due, and sends the difference if there is one.
    pub(super) async fn respond(&mut self, kind: ResourceType, permit: SendPermit) -> Result<(), Status> {
        let started = Instant::now();
        let offered = self.offer(kind).await?;
        let version = self.context.generation.version(&self.snapshot);
        let why = if self.forced.remove(&kind) { SendMode::All } else { SendMode::Changed };
        let Some(response) = self.stream.respond(kind, &version, &offered, why) else {
            self.client.history.unchanged(kind);
            return Ok(());
        };
        let generated = started.elapsed();
        let push_time = self.context.metrics.push_time.get_or_create(&by_type(kind.short()));
        push_time.observe(generated.as_secs_f64());
        drop(push_time);
        self.send(&response, permit, generated)
    }

    /// Returns all resources of a type that the client can subscribe to, with stale ones generated again.
    async fn offer(&mut self, kind: ResourceType) -> Result<ResourceSet, Status> {
        let before = self.stream.desired(kind);
        let (names, partial) = match self.stream.regenerate(kind) {
            Regenerate::Nothing => return Ok(before),
            Regenerate::Names(names) => (Some(names.clone()), Some(names)),
            Regenerate::AllOf(names) => (Some(names), None),
            Regenerate::Everything => (None, None),
        };
        let (snapshot, proxy) = (self.snapshot.clone(), self.client.proxy.clone());
        let generation = &self.context.generation;
        let generated = generation.generate(snapshot, proxy, kind, names).await?;
        self.client.report(kind, generated.report);
        let Some(names) = partial else { return Ok(generated.resources) };
        let mut offered = before;
        offered.adopt(&names, &generated.resources);
        Ok(generation.stream_cache().interner().intern(&offered))
    }

    fn send(&mut self, response: &Response, permit: SendPermit, generated: Duration) -> Result<(), Status> {
        let (kind, metrics) = (response.kind, &self.context.metrics);
        let (parts, started) = (response.encode(), Instant::now());
        let size: usize = parts.iter().map(bytes::Bytes::len).sum();
        permit.send(parts).inspect_err(|_| metrics.send_error(kind))?;
        let now = Instant::now();
        metrics.send_time.observe((now - started).as_secs_f64());
        metrics.pushes.get_or_create(&by_type(kind.short())).inc();
        #[expect(clippy::cast_precision_loss, reason = "a histogram of sizes; 2^53 bytes are out of reach")]
        metrics.config_size.get_or_create(&by_type(kind.type_url())).observe(size as f64);
        debug!(
            node = %self.client.id,
            %kind,
            resources = response.resources().len(),
            removed = response.removed().len(),
            size,
            nonce = response.nonce.as_str(),
            "sent"
        );
        self.client.history.sent(&history::Response::of(response, size, generated), now);
        self.unanswered.insert(kind, now);
        self.client.note(kind, self.stream.status(kind));
        self.client.sent(kind);
        Ok(())
    }

    /// Sends the response to a debug request.
    pub(super) fn send_debug_response(&mut self, permit: SendPermit) -> Result<(), Status> {
        let Some((type_url, response, codec)) = self.debug_response.take() else { return Ok(()) };
        let version = self.context.generation.version(&self.snapshot);
        permit.send([bytes::Bytes::new(), response.encode(codec, &type_url, &version)])
    }
}

//! The agent's own HTTP server on the status port: readiness with its reason, metrics, and two requests
//! that only the pod itself may make.
//!
//! | path | who | answer |
//! | --- | --- | --- |
//! | `/healthz/ready` | anybody | 200, or 503 and why |
//! | `/stats/prometheus`, `/metrics` | anybody | the agent's metrics, then Envoy's |
//! | `POST /quitquitquit` | loopback | stop without a drain |
//! | `POST /drain` | loopback | leave the service, go on serving |
//!
//! Deliberately decides nothing about Envoy: the two requests become events for the supervisor.

mod metrics;
mod ready;

use std::{convert::Infallible, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody, combinators::UnsyncBoxBody};
use hyper::{body::Frame, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, mpsc, watch},
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use self::ready::{Readiness, Unready};
pub use self::{metrics::Counters, ready::Expected};
use crate::{
    envoy_admin::EnvoyAdmin,
    logs::Sink,
    supervisor::{Event, Phase},
};

/// A flood of connections waits in the backlog; it neither costs memory nor ends us.
const CONNECTIONS: usize = 128;

/// Whoever has connected has this long to say what for.
const HEADER_PATIENCE: Duration = Duration::from_secs(5);

/// No answer takes longer, not even the metrics of a very large Envoy to a slow reader.
const ANSWER_PATIENCE: Duration = Duration::from_mins(1);

/// Envoy writes a hundred megabytes of metrics in four seconds.
const SCRAPE_PATIENCE: Duration = Duration::from_secs(10);

/// Out of file descriptors: the next try is no better at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

type Body = UnsyncBoxBody<Bytes, hyper::Error>;

/// What the status server looks at and whom it tells.
#[derive(Debug)]
pub struct StatusServer {
    phases: watch::Receiver<Phase>,
    requests: mpsc::Sender<Event>,
    admin: EnvoyAdmin,
    readiness: Readiness,
    counters: Arc<Counters>,
    sink: Sink,
}

/// Takes the port. Done before Envoy is started: an agent nobody can ask is not to run one.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

// === impl StatusServer ===

impl StatusServer {
    /// A server that does not listen yet.
    pub fn new(
        phases: watch::Receiver<Phase>,
        requests: mpsc::Sender<Event>,
        (admin, expected): (EnvoyAdmin, Expected),
        counters: Arc<Counters>,
        sink: Sink,
    ) -> Self {
        Self { phases, requests, admin, readiness: Readiness::new(expected), counters, sink }
    }

    /// Serves for as long as the agent lives.
    pub async fn run(self, listener: TcpListener) -> Infallible {
        let server = Arc::new(self);
        let free = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            // Never closed, so never an error; and without a permit nobody is accepted.
            let permit = Arc::clone(&free).acquire_owned().await;
            match listener.accept().await {
                Ok((stream, peer)) => {
                    let serve = Arc::clone(&server).serve(stream, peer);
                    tokio::spawn(async move {
                        serve.await;
                        drop(permit);
                    });
                }
                Err(error) => {
                    debug!(%error, "accept on the status port");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let answer = service_fn(|request| {
            let server = Arc::clone(&self);
            async move { Ok::<_, Infallible>(server.answer(&request, peer).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_PATIENCE)
            // One question each: what a connection may cost is bounded by what one answer may.
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), answer);
        match timeout(ANSWER_PATIENCE, connection).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => debug!(%error, %peer, "status connection"),
            Err(_) => debug!(%peer, "status connection timed out"),
        }
    }

    async fn answer<B>(&self, request: &Request<B>, peer: SocketAddr) -> Response<Body> {
        match request.uri().path() {
            "/healthz/ready" => self.ready().await,
            "/stats/prometheus" | "/metrics" => self.metrics(request.uri().query()).await,
            "/quitquitquit" => self.ask(request.method(), peer, Event::Quit),
            "/drain" => self.ask(request.method(), peer, Event::Withdraw),
            path => text(StatusCode::NOT_FOUND, format!("no {path} here\n")),
        }
    }

    async fn ready(&self) -> Response<Body> {
        let phase = *self.phases.borrow();
        match self.readiness.of(phase, &self.admin).await {
            Ok(()) => {
                if self.counters.ready() {
                    info!("ready for the first time");
                }
                text(StatusCode::OK, "ready\n")
            }
            Err(unready) => {
                self.log(&unready);
                text(StatusCode::SERVICE_UNAVAILABLE, format!("{unready}\n"))
            }
        }
    }

    /// Once per reason, not once per probe.
    fn log(&self, unready: &Unready) {
        if self.readiness.is_news(unready) {
            info!(reason = %unready, "not ready");
        }
    }

    /// Our own metrics never depend on Envoy's; Envoy's are passed on as they come.
    async fn metrics(&self, query: Option<&str>) -> Response<Body> {
        let path =
            query.map_or_else(|| "/stats/prometheus".into(), |query| format!("/stats/prometheus?{query}"));
        self.counters.scraped();
        let envoys = self.admin.open(&path, SCRAPE_PATIENCE).await.inspect_err(|error| {
            debug!(%error, "scrape Envoy");
            self.counters.scrape_failed();
        });
        let own = self.counters.render(*self.phases.borrow(), self.sink.dropped());
        let own = stream::once(async { Ok(Frame::data(Bytes::from(own))) });
        let body = match envoys {
            Ok(envoys) => StreamBody::new(own.chain(BodyStream::new(envoys))).boxed_unsync(),
            Err(_) => StreamBody::new(own).boxed_unsync(),
        };
        let mut response = Response::new(body);
        response.headers_mut().insert(CONTENT_TYPE, metrics::CONTENT_TYPE);
        response
    }

    fn ask(&self, method: &Method, peer: SocketAddr, event: Event) -> Response<Body> {
        // Behind a dual-stack socket an IPv4 loopback comes as `::ffff:127.0.0.1`.
        if !peer.ip().to_canonical().is_loopback() {
            return text(StatusCode::FORBIDDEN, "only from the pod itself\n");
        }
        if method != Method::POST {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only POST\n");
        }
        info!(?event, %peer, "asked over the status port");
        match self.requests.try_send(event) {
            Ok(()) => text(StatusCode::OK, "OK\n"),
            Err(error) => {
                warn!(%error, ?event, "refused");
                text(StatusCode::SERVICE_UNAVAILABLE, "too many requests\n")
            }
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<Body> {
    let mut response = Response::new(Full::new(body.into()).map_err(|never| match never {}).boxed_unsync());
    *response.status_mut() = status;
    response
}

#[cfg(test)]
mod tests;

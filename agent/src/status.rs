//! The agent's own HTTP server on the status port: readiness with its reason, metrics, the sidecar's life, and
//! requests that only the pod itself may make.
//!
//! | path | access | response |
//! | --- | --- | --- |
//! | `/healthz/ready` | all | 200, or 503 with the reason |
//! | `/stats/prometheus`, `/metrics` | all | the agent's metrics, then Envoy's |
//! | `/lifecycle` | the pod | lifecycle state as JSON |
//! | `/lifecycle/events` | the pod | state and transitions as server-sent events |
//! | `POST /quitquitquit` | trusted users | stop without a drain |
//! | `POST /drain` | trusted users | leave the service, go on serving |
//! | `POST /restart` | trusted users | hot restart |
//! | `POST /logging?level=…&envoy=…` | trusted users | set log levels of the agent and Envoy |
//!
//! Trusted users are root, the agent's own user and those of `--trustedUids`, within the pod. Requests are passed to the driver,
//! which decides.

mod events;
mod levels;
mod metrics;
mod ready;

use std::{convert::Infallible, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::{StreamExt, stream};
use http::{HeaderValue, Method, Request, Response, StatusCode, header::CONTENT_TYPE};
use http_body_util::{BodyExt, BodyStream, Full, StreamBody};
use hyper::{
    body::{Frame, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
};
use tracing::{debug, info, warn};

use self::{
    events::Events,
    ready::{ReadinessTracker, Unready},
};
pub(crate) use self::{
    levels::SetLevels,
    metrics::{Counters, HotRestartOutcome},
    ready::Expected,
};
use crate::{
    envoy_admin::{AdminError, EnvoyAdmin},
    lifecycle::{self, Feed, Lifecycle},
    listen::{self, Progress, ResponseBody},
    logs::Sink,
    peer::{self, ConnectionAddresses, Denied, PeerPolicy},
    supervisor::Phase,
};

/// A flood of connections waits in the backlog; it neither costs memory nor ends us.
const CONNECTIONS: usize = 128;

/// Time limit for the header of a request.
const HEADER_PATIENCE: Duration = Duration::from_secs(5);

/// No answer takes longer, not even the metrics of a very large Envoy to a slow reader. Events do.
const ANSWER_PATIENCE: Duration = Duration::from_mins(1);

/// Envoy writes a hundred megabytes of metrics in four seconds.
const SCRAPE_PATIENCE: Duration = Duration::from_secs(10);

const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// Request to the driver.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ControlRequest {
    /// `POST /quitquitquit`: stop now, without a drain.
    Quit,
    /// `POST /drain`: leave the service but go on serving.
    Withdraw,
    /// `POST /restart`: a new Envoy, even if nothing has changed.
    Restart,
}

/// Support of hot restarts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HotRestartSupport {
    /// By a hot restart.
    Hot,
    /// `--hotRestartMode off`, or there is no place for what hot restart needs.
    Off,
}

/// Inputs of the status server.
pub(crate) struct StatusInputs {
    /// Phase of the sidecar.
    pub(crate) phases: watch::Receiver<Phase>,
    /// The admin of the newest Envoy, if there is one.
    pub(crate) admin: watch::Receiver<Option<EnvoyAdmin>>,
    /// Configuration that readiness requires.
    pub(crate) expected: watch::Receiver<Expected>,
    /// The sidecar's life, for `/lifecycle`.
    pub(crate) lifecycle: Feed,
    /// Support of `POST /restart`.
    pub(crate) restarts: HotRestartSupport,
    /// Requests to the driver.
    pub(crate) orders: mpsc::Sender<ControlRequest>,
    /// Sets the agent's own log levels; `None`: they stay as they are.
    pub(crate) levels: Option<SetLevels>,
    /// Authorization of requests.
    pub(crate) peer_policy: PeerPolicy,
    /// Counters of the agent.
    pub(crate) counters: Arc<Counters>,
    /// Log sink, whose dropped lines are a metric.
    pub(crate) sink: Sink,
}

/// The server.
pub(crate) struct StatusServer {
    wiring: StatusInputs,
    readiness: ReadinessTracker,
    readers: Events,
}

/// Reason to refuse a request; displayed to the client.
#[derive(Debug, thiserror::Error)]
enum StatusError {
    #[error("{0}")]
    Denied(Denied),
    #[error("only POST")]
    Method,
    #[error("hot restart is off: the Envoy that runs stays")]
    NoHotRestart,
    #[error("too many requests")]
    Busy,
    #[error("{0}")]
    Levels(String),
    #[error("this agent's log levels stay as they are")]
    Fixed,
    #[error("Envoy's levels stay as they are: {0}")]
    Envoy(AdminError),
}

/// Binds the port. Done before Envoy is started: an agent without a status port must not run one.
pub(crate) async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    TcpListener::bind(address).await
}

// === impl StatusServer ===

impl StatusServer {
    /// A server that does not listen yet.
    pub(crate) fn new(wiring: StatusInputs) -> Self {
        Self { readiness: ReadinessTracker::new(wiring.expected.clone()), readers: Events::default(), wiring }
    }

    /// Serves for as long as the agent lives.
    pub(crate) async fn run(self, listener: TcpListener) -> Infallible {
        let server = Arc::new(self);
        listen::serve(listener, CONNECTIONS, |stream| Arc::clone(&server).serve(stream)).await
    }

    async fn serve(self: Arc<Self>, stream: TcpStream) {
        let Ok(ends) = ConnectionAddresses::of(&stream) else { return };
        let progress = Arc::new(Progress::default());
        let answer = service_fn(|request| {
            let (server, progress) = (&self, &progress);
            async move { Ok::<_, Infallible>(server.answer(&request, ends, progress).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_PATIENCE)
            // One question each: what a connection may cost is bounded by what one answer may.
            .keep_alive(false)
            .serve_connection(TokioIo::new(stream), answer);
        tokio::select! {
            served = connection => {
                if let Err(error) = served {
                    debug!(%error, peer = %ends.peer, "status connection");
                }
            }
            // Only events beat.
            () = progress.stalled(ANSWER_PATIENCE) => debug!(peer = %ends.peer, "status connection timed out"),
        }
    }

    async fn answer<B>(
        &self,
        request: &Request<B>,
        ends: ConnectionAddresses,
        progress: &Arc<Progress>,
    ) -> Response<ResponseBody> {
        let answer = match request.uri().path() {
            "/healthz/ready" => Ok(self.ready().await),
            "/stats/prometheus" | "/metrics" => Ok(self.metrics(request.uri().query()).await),
            path @ ("/lifecycle" | "/lifecycle/events") => match (in_pod(request, ends), path) {
                (Err(denied), _) => Err(StatusError::Denied(denied)),
                (Ok(()), "/lifecycle") => Ok(self.lifecycle().await),
                (Ok(()), _) => self.events(progress).await,
            },
            "/quitquitquit" => self.ordered(request, ends, ControlRequest::Quit),
            "/drain" => self.ordered(request, ends, ControlRequest::Withdraw),
            "/restart" if self.wiring.restarts == HotRestartSupport::Off => Err(StatusError::NoHotRestart),
            "/restart" => self.ordered(request, ends, ControlRequest::Restart),
            "/logging" => match self.trusted(request, ends) {
                Ok(()) => self.set_levels(request.uri().query().unwrap_or_default()).await,
                Err(refusal) => Err(refusal),
            },
            path => Ok(text(StatusCode::NOT_FOUND, format!("no {path} here\n"))),
        };
        answer.unwrap_or_else(|refusal| text(refusal.status(), format!("{refusal}\n")))
    }

    async fn ready(&self) -> Response<ResponseBody> {
        match self.readiness().await {
            Ok(()) => {
                if self.wiring.counters.ready() {
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

    async fn readiness(&self) -> Result<(), Unready> {
        let (phase, admin) = (*self.wiring.phases.borrow(), self.admin());
        self.readiness.of(phase, admin.as_ref()).await
    }

    fn admin(&self) -> Option<EnvoyAdmin> {
        self.wiring.admin.borrow().clone()
    }

    /// Once per reason, not once per probe.
    fn log(&self, unready: &Unready) {
        if self.readiness.is_news(unready) {
            info!(reason = %unready, "not ready");
        }
    }

    /// Our own metrics never depend on Envoy's; Envoy's are passed on as they come.
    async fn metrics(&self, query: Option<&str>) -> Response<ResponseBody> {
        let counters = &self.wiring.counters;
        counters.scraped();
        let envoys = self.scrape(query).await.inspect_err(|error| {
            debug!(%error, "scrape Envoy");
            counters.scrape_failed();
        });
        let phase = *self.wiring.phases.borrow();
        let own = counters.render(phase, &self.wiring.lifecycle.now(), self.wiring.sink.dropped());
        let own = stream::once(async { Ok(Frame::data(Bytes::from(own))) });
        let body = match envoys {
            Ok(envoys) => StreamBody::new(own.chain(BodyStream::new(envoys))).boxed_unsync(),
            Err(_) => StreamBody::new(own).boxed_unsync(),
        };
        typed(StatusCode::OK, metrics::CONTENT_TYPE, body)
    }

    async fn scrape(&self, query: Option<&str>) -> Result<Incoming, AdminError> {
        let path =
            query.map_or_else(|| "/stats/prometheus".into(), |query| format!("/stats/prometheus?{query}"));
        let admin = self.admin().ok_or(AdminError::Absent)?;
        admin.open(&path, SCRAPE_PATIENCE).await
    }

    async fn lifecycle(&self) -> Response<ResponseBody> {
        // A tree of words and numbers has a rendering.
        let json = serde_json::to_string_pretty(&self.life().await).unwrap_or_default() + "\n";
        typed(StatusCode::OK, JSON, whole(json))
    }

    async fn events(&self, progress: &Arc<Progress>) -> Result<Response<ResponseBody>, StatusError> {
        let transitions = self.wiring.lifecycle.listen();
        self.readers.begin(transitions, &self.life().await, progress)
    }

    /// As the driver has it, with readiness as a probe would have it.
    async fn life(&self) -> Lifecycle {
        let reason = self.readiness().await.err().map(|unready| unready.to_string());
        let mut now = Lifecycle::clone(&self.wiring.lifecycle.now());
        now.readiness = lifecycle::ReadinessStatus { ready: reason.is_none(), reason };
        now
    }

    /// Checks method, pod, browser and user, the cheapest check first.
    fn trusted<B>(&self, request: &Request<B>, ends: ConnectionAddresses) -> Result<(), StatusError> {
        in_pod(request, ends)?;
        if request.method() != Method::POST {
            return Err(StatusError::Method);
        }
        Ok(self.wiring.peer_policy.authorize(ends)?)
    }

    fn ordered<B>(
        &self,
        request: &Request<B>,
        ends: ConnectionAddresses,
        order: ControlRequest,
    ) -> Result<Response<ResponseBody>, StatusError> {
        let peer = ends.peer;
        self.trusted(request, ends).inspect_err(|refusal| info!(%refusal, ?order, %peer, "refused"))?;
        info!(?order, %peer, "asked over the status port");
        match self.wiring.orders.try_send(order) {
            Ok(()) => Ok(text(StatusCode::OK, "OK\n")),
            Err(error) => {
                warn!(%error, ?order, "refused");
                Err(StatusError::Busy)
            }
        }
    }
}

impl fmt::Debug for StatusServer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusServer").field("readiness", &self.readiness).finish_non_exhaustive()
    }
}

fn in_pod<B>(request: &Request<B>, ends: ConnectionAddresses) -> Result<(), Denied> {
    ends.in_pod()?;
    peer::no_foreign_page(request)
}

// === impl StatusError ===

impl From<Denied> for StatusError {
    fn from(denied: Denied) -> Self {
        Self::Denied(denied)
    }
}

impl StatusError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Busy | Self::Envoy(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::Levels(_) => StatusCode::BAD_REQUEST,
            Self::Fixed => StatusCode::NOT_IMPLEMENTED,
            Self::NoHotRestart => StatusCode::CONFLICT,
        }
    }
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Response<ResponseBody> {
    typed(status, TEXT, whole(body))
}

fn whole(body: impl Into<Bytes>) -> ResponseBody {
    Full::new(body.into()).map_err(|never| match never {}).boxed_unsync()
}

fn typed(status: StatusCode, kind: HeaderValue, body: ResponseBody) -> Response<ResponseBody> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests;

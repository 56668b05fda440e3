//! Proxy of Envoy's admin endpoint: the safe part of it, on Istio's port.
//!
//! ```text
//!   istioctl, dashboards ──▶ 127.0.0.1:15000 ──▶ peer ──▶ rules ──▶ Envoy's admin, a Unix socket of mode 0600
//!                                                                   (that of the newest Envoy)
//! ```
//!
//! Responses are passed on as a stream of any length. The driver sets the address of the admin endpoint, or that there is none.

mod rules;

use std::{convert::Infallible, fmt::Display, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::StreamExt;
use http::{
    HeaderValue, Request, Response, StatusCode,
    header::{ACCEPT, CONNECTION, CONTENT_TYPE, HOST, TRANSFER_ENCODING},
};
use http_body_util::{BodyExt, BodyStream, Empty, Full, StreamBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Semaphore, watch},
};
use tracing::{debug, info};

use crate::{
    envoy_admin::{AdminError, EnvoyAdmin},
    listen::{self, Progress, ResponseBody},
    peer::{self, ConnectionAddresses, Denied, PeerPolicy},
};

/// At once. Browsers open six.
const CONNECTIONS: usize = 32;

/// Maximum number of refused connections that get an explanation; others are closed at once, so that they cannot exhaust the
/// limit.
const STRANGERS: usize = 4;

/// Time limit for the header of a request, the first or a later one.
const HEADER_PATIENCE: Duration = Duration::from_secs(5);

/// Time limit for Envoy's response: its main thread may have to finish another request first.
const ENVOYS_PATIENCE: Duration = Duration::from_secs(30);

/// Maximum time without progress in the middle of a response, on either side.
const STANDSTILL: Duration = Duration::from_mins(1);

/// The proxy before Envoy's admin.
#[derive(Clone, Debug)]
pub(crate) struct AdminProxy {
    target: watch::Receiver<Option<EnvoyAdmin>>,
    peer_policy: PeerPolicy,
    strangers: Arc<Semaphore>,
}

// === impl AdminProxy ===

impl AdminProxy {
    /// A proxy before the newest of these; it does not listen yet.
    pub(crate) fn new(target: watch::Receiver<Option<EnvoyAdmin>>, peer_policy: PeerPolicy) -> Self {
        Self { target, peer_policy, strangers: Arc::new(Semaphore::new(STRANGERS)) }
    }

    /// Serves for as long as the agent lives, on a port of loopback.
    pub(crate) async fn run(self, listener: TcpListener) -> Infallible {
        listen::serve(listener, CONNECTIONS, |stream| self.clone().serve(stream)).await
    }

    async fn serve(self, stream: TcpStream) {
        let Ok(ends) = ConnectionAddresses::of(&stream) else { return };
        // A connection keeps its owner.
        let admitted = self.peer_policy.authorize(ends);
        let _permit = match &admitted {
            Ok(()) => None,
            Err(denied) => match self.strangers.try_acquire() {
                Ok(permit) => {
                    info!(%denied, peer = %ends.peer, "refused Envoy's admin");
                    Some(permit)
                }
                Err(_) => return,
            },
        };
        let progress = Arc::new(Progress::default());
        let answer = service_fn(|request| {
            progress.advance();
            let (proxy, admitted, progress) = (&self, admitted.clone(), Arc::clone(&progress));
            async move { Ok::<_, Infallible>(proxy.answer(&request, admitted, progress).await) }
        });
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(HEADER_PATIENCE)
            .keep_alive(admitted.is_ok())
            .serve_connection(TokioIo::new(stream), answer);
        tokio::select! {
            served = connection => {
                if let Err(error) = served {
                    debug!(%error, peer = %ends.peer, "admin connection");
                }
            }
            () = progress.stalled(STANDSTILL) => debug!(peer = %ends.peer, "admin connection stands still"),
        }
    }

    async fn answer<B>(
        &self,
        request: &Request<B>,
        admitted: Result<(), Denied>,
        progress: Arc<Progress>,
    ) -> Response<ResponseBody> {
        if let Err(denied) = admitted.and_then(|()| peer::no_foreign_page(request)) {
            return refuse(StatusCode::FORBIDDEN, denied);
        }
        if let Err(refusal) = rules::judge(request.method(), request.uri().path()) {
            return refuse(refusal.status(), refusal);
        }
        let Some(admin) = self.target.borrow().clone() else {
            return refuse(StatusCode::SERVICE_UNAVAILABLE, "no Envoy is running");
        };
        let answered = match ours(request) {
            Ok(request) => admin.forward(request, ENVOYS_PATIENCE).await,
            Err(error) => Err(error.into()),
        };
        match answered {
            Ok(response) => pass_on(response, progress),
            Err(error @ AdminError::Silent(_)) => refuse(StatusCode::GATEWAY_TIMEOUT, error),
            Err(error) => refuse(StatusCode::SERVICE_UNAVAILABLE, causes(&error)),
        }
    }
}

/// Of what came, only what Envoy's admin reads: method, path, query and the format that is wanted.
fn ours<B>(request: &Request<B>) -> Result<Request<Empty<Bytes>>, http::Error> {
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let mut ours = Request::builder().method(request.method()).uri(path).header(HOST, "localhost");
    if let Some(accept) = request.headers().get(ACCEPT) {
        ours = ours.header(ACCEPT, accept);
    }
    ours.body(Empty::new())
}

fn pass_on(response: Response<Incoming>, progress: Arc<Progress>) -> Response<ResponseBody> {
    let (mut head, body) = response.into_parts();
    // Those of the connection it came over.
    head.headers.remove(CONNECTION);
    head.headers.remove(TRANSFER_ENCODING);
    let frames = BodyStream::new(body).inspect(move |_| progress.advance());
    Response::from_parts(head, StreamBody::new(frames).boxed_unsync())
}

fn refuse(status: StatusCode, why: impl Display) -> Response<ResponseBody> {
    let body = Full::from(format!("pilot-agent: {why}\n")).map_err(|never| match never {});
    let mut response = Response::new(body.boxed_unsync());
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
    response
}

fn causes(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(Some(error), |error| error.source());
    causes.map(ToString::to_string).collect::<Vec<_>>().join(": ")
}

#[cfg(test)]
mod tests;

//! One connection from accept to close: HTTP/2 with its limits, GOAWAY, grace, close.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use hyper::server::conn::http2;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::sleep;
use tonic::service::Routes;
use tower::Service as _;
use tracing::debug;

use super::connections::Place;
use super::counted::Counted;
use super::pace;
use super::peer::{Farewell, Peer, Stage};
use crate::config::Keepalive;

/// Time limit for the first request. Slower clients are scanners, or hold descriptors on purpose.
const FIRST_REQUEST: Duration = Duration::from_secs(10);

/// Time between GOAWAY and the end of streams: a client that has read GOAWAY opens its next stream elsewhere.
const MOMENT: Duration = Duration::from_millis(250);

/// Requests are small: the window holds the largest ACKs of all types, and bounds a client's buffer.
const REQUEST_WINDOW: u32 = 1 << 20;

/// Bytes of a response that HTTP/2 buffers before the socket takes them.
const SEND_BUFFER: usize = 256 << 10;

/// Maximum size of all headers of a request. Istio's tokens take 2 KiB.
const HEADERS: u32 = 16 << 10;

/// Maximum number of streams that a client opens and resets before they are accepted (CVE-2023-44487).
const RESETS_BEFORE_ACCEPT: usize = 20;

/// Maximum number of streams that are reset for errors of the client (CVE-2025-8671).
const RESETS_FOR_FAULTS: usize = 100;

/// Settings of all connections.
pub(super) struct Terms {
    pub(super) keepalive: Keepalive,
    pub(super) routes: Routes,
    http2: http2::Builder<TokioExecutor>,
}

/// End of a connection, as named in metrics and logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// The client closed it, or its network failed.
    ByClient,
    /// The client violated HTTP/2, or did not answer a ping.
    ByFault,
    /// No request within the time limit.
    Silent,
    /// Closed for this reason.
    ByUs(Farewell),
    /// Closed for this reason at the end of the grace period.
    Cut(Farewell),
}

// === impl Ended ===

impl Ended {
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::ByClient => "client",
            Self::ByFault => "fault",
            Self::Silent => "first_request_timeout",
            Self::ByUs(why) | Self::Cut(why) => why.as_str(),
        }
    }
}

// === impl Terms ===

impl Terms {
    pub(super) fn new(keepalive: Keepalive, streams: u32, routes: Routes) -> Self {
        let mut http2 = http2::Builder::new(TokioExecutor::new());
        http2
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(keepalive.interval))
            .keep_alive_timeout(keepalive.timeout)
            .initial_stream_window_size(REQUEST_WINDOW)
            .initial_connection_window_size(REQUEST_WINDOW)
            .max_concurrent_streams(streams)
            .max_header_list_size(HEADERS)
            .max_pending_accept_reset_streams(RESETS_BEFORE_ACCEPT)
            .max_local_error_reset_streams(RESETS_FOR_FAULTS)
            .max_send_buf_size(SEND_BUFFER);
        Self { keepalive, routes, http2 }
    }

    /// Serves a connection until its end; returns how it ended. Dropping the future closes it.
    pub(super) async fn serve<S>(&self, transport: S, place: &Place) -> Ended
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let peer = &place.peer;
        let io = TokioIo::new(Counted { inner: transport, peer: peer.clone() });
        let service = service(peer.clone(), self.routes.clone());
        let mut connection = std::pin::pin!(self.http2.serve_connection(io, service));
        let age =
            self.keepalive.max_age.map(|age| tokio::time::Instant::now() + pace::jittered(age, pace::dice()));
        let old = async {
            match age {
                Some(age) => tokio::time::sleep_until(age).await,
                None => std::future::pending().await,
            }
        };
        let farewell = tokio::select! {
            ended = connection.as_mut() => return left(&ended),
            () = silent(peer) => return Ended::Silent,
            () = old => {
                peer.advance(Stage::Leaving(Farewell::Age));
                Farewell::Age
            }
            stage = peer.reached(Stage::Leaving(Farewell::Age)) => match stage {
                Stage::Leaving(why) | Stage::Ending(why) => why,
                Stage::Serving | Stage::Cut => Farewell::Shutdown,
            },
        };
        connection.as_mut().graceful_shutdown();
        let grace = self.keepalive.grace;
        let end = async {
            sleep(MOMENT.min(grace / 4)).await;
            peer.advance(Stage::Ending(farewell));
            tokio::select! {
                () = sleep(grace) => {}
                _ = peer.reached(Stage::Cut) => {}
            }
        };
        tokio::select! {
            ended = connection => match ended {
                Ok(()) => Ended::ByUs(farewell),
                Err(_) => Ended::ByClient,
            },
            () = end => Ended::Cut(farewell),
        }
    }
}

/// Completes if no request has come within the time limit.
async fn silent(peer: &Peer) {
    sleep(FIRST_REQUEST).await;
    if peer.requests.load(Ordering::Relaxed) > 0 {
        std::future::pending::<()>().await;
    }
}

fn left(ended: &hyper::Result<()>) -> Ended {
    match ended {
        Ok(()) => Ended::ByClient,
        Err(error) => {
            debug!(%error, "connection broken");
            if error.is_timeout() || is_of_http2(error) { Ended::ByFault } else { Ended::ByClient }
        }
    }
}

/// Returns `true` for a violation of HTTP/2, `false` for a network error.
fn is_of_http2(error: &hyper::Error) -> bool {
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        if error.is::<std::io::Error>() {
            return false;
        }
        cause = error.source();
    }
    true
}

type Answer = Result<http::Response<tonic::body::Body>, std::convert::Infallible>;

/// Returns the routes for requests of one peer, with the peer as extension.
fn service(
    peer: Arc<Peer>,
    routes: Routes,
) -> impl hyper::service::Service<
    http::Request<hyper::body::Incoming>,
    Response = http::Response<tonic::body::Body>,
    Error = std::convert::Infallible,
    Future = impl Future<Output = Answer> + Send,
> {
    hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
        peer.requests.fetch_add(1, Ordering::Relaxed);
        request.extensions_mut().insert(peer.clone());
        // A router is always ready.
        routes.clone().call(request)
    })
}

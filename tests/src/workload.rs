//! A server that records the requests it receives and answers with a configured status and delay.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// The response header with the name of the workload.
pub const SERVER: &str = "x-server";

/// A recorded request.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// Path and query.
    pub path: String,
    /// `host` header or authority.
    pub host: String,
    /// Request headers.
    pub headers: http::HeaderMap,
}

/// Status and delay of the answers.
#[derive(Clone, Copy, Debug)]
pub struct ResponsePlan {
    /// Status code.
    pub status: u16,
    /// Delay before the answer.
    pub delay: Duration,
}

/// A workload. Dropping it closes its connections.
pub struct Workload {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    name: String,
    requests: Mutex<Vec<RecordedRequest>>,
    response: Mutex<ResponsePlan>,
}

impl Default for ResponsePlan {
    fn default() -> Self {
        Self { status: 200, delay: Duration::ZERO }
    }
}

// === impl Workload ===

impl Workload {
    /// Starts a workload at this address.
    pub async fn start(name: &str, at: SocketAddr) -> Result<Self> {
        let listener = TcpListener::bind(at).await.with_context(|| format!("{name} at {at}"))?;
        let shared = Arc::new(Shared {
            name: name.to_owned(),
            requests: Mutex::default(),
            response: Mutex::default(),
        });
        let server = tokio::spawn(serve(listener, shared.clone()));
        Ok(Self { shared, server })
    }

    /// Sets status and delay of the answers from now on.
    pub fn respond_with(&self, status: u16, delay: Duration) {
        *self.shared.response.lock().unwrap_or_else(PoisonError::into_inner) = ResponsePlan { status, delay };
    }

    /// Returns the requests received so far.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Returns the last request received.
    pub fn last_request(&self) -> Result<RecordedRequest> {
        self.requests().pop().with_context(|| format!("{} received no request", self.shared.name))
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        self.server.abort();
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let shared = shared.clone();
        connections.spawn(async move {
            let service = service_fn(|request| answer(request, shared.clone()));
            // Errors of a connection are visible to the proxy.
            drop(
                auto::Builder::new(TokioExecutor::new())
                    .serve_connection(TokioIo::new(stream), service)
                    .await,
            );
        });
    }
}

async fn answer(
    request: Request<Incoming>,
    shared: Arc<Shared>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let text = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let host = text("host").or_else(|| request.uri().authority().map(http::uri::Authority::as_str));
    let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
    let record = RecordedRequest {
        path: path.to_owned(),
        host: host.unwrap_or_default().to_owned(),
        headers: request.headers().clone(),
    };
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(record);
    let plan = *shared.response.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::time::sleep(plan.delay).await;
    let mut response = Response::new(Full::from(shared.name.clone()));
    *response.status_mut() = StatusCode::from_u16(plan.status).unwrap_or_default();
    if let Ok(name) = shared.name.parse() {
        response.headers_mut().insert(SERVER, name);
    }
    Ok(response)
}

//! A workload that remembers what it was asked, and answers as it is told to.

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

/// The response header that names the workload.
pub const SERVER: &str = "x-server";

/// What a workload was asked.
#[derive(Clone, Debug)]
pub struct RecordedRequest {
    /// Path and query.
    pub path: String,
    /// The host that was asked for.
    pub host: String,
    /// Headers as they came.
    pub headers: http::HeaderMap,
}

/// How it answers.
#[derive(Clone, Copy, Debug)]
pub struct ResponsePlan {
    /// With this status.
    pub status: u16,
    /// After so long.
    pub delay: Duration,
}

/// A workload. Dropping it cuts its connections.
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
    /// Begins to answer at an address.
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

    /// From now on it answers like this.
    pub fn respond_with(&self, status: u16, delay: Duration) {
        *self.shared.response.lock().unwrap_or_else(PoisonError::into_inner) = ResponsePlan { status, delay };
    }

    /// What it was asked so far.
    pub fn requests(&self) -> Vec<RecordedRequest> {
        self.shared.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What it was asked last.
    pub fn last_request(&self) -> Result<RecordedRequest> {
        self.requests().pop().with_context(|| format!("{} was asked nothing", self.shared.name))
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
            // How a connection ends is the proxy's business.
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
    let asked = RecordedRequest {
        path: path.to_owned(),
        host: host.unwrap_or_default().to_owned(),
        headers: request.headers().clone(),
    };
    shared.requests.lock().unwrap_or_else(PoisonError::into_inner).push(asked);
    let plan = *shared.response.lock().unwrap_or_else(PoisonError::into_inner);
    tokio::time::sleep(plan.delay).await;
    let mut response = Response::new(Full::from(shared.name.clone()));
    *response.status_mut() = StatusCode::from_u16(plan.status).unwrap_or_default();
    if let Ok(name) = shared.name.parse() {
        response.headers_mut().insert(SERVER, name);
    }
    Ok(response)
}

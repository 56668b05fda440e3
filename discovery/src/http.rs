//! The HTTP servers: `--httpAddr` (`/ready`, `/debug`) and `--monitoringAddr` (`/metrics`, `/version`, `/debug`).

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::IntoResponse;
use axum::routing::get;
use tokio::net::{TcpListener, TcpSocket};

use crate::config::Listen;
use crate::debug;
use crate::inspect::RunningState;
use crate::transport::Load;
use crate::version::VERSION;

/// Binds the first address that the machine has. `:8080` is all addresses of both families, if the machine has both.
pub(crate) fn bind(listen: &Listen) -> anyhow::Result<TcpListener> {
    let mut last = None;
    for address in &listen.addresses {
        match open(*address) {
            Ok(listener) => return Ok(listener),
            Err(error) => last = Some((address, error)),
        }
    }
    let (address, error) = last.context("no address to listen on")?;
    Err(error).with_context(|| format!("listen on {} {address}", listen.flag))
}

fn open(address: SocketAddr) -> std::io::Result<TcpListener> {
    /// Length of the accept queue; the kernel's limit is `net.core.somaxconn`. A connection that finds it full is retried after
    /// 1, 3, 7, 15, 31 s, and thousands may come at once when another instance stops.
    const BACKLOG: u32 = 65_535;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // A restarted instance gets the port at once, as with Tokio's own listeners.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Returns the routes of `--httpAddr`.
pub(crate) fn http(state: Arc<RunningState>) -> Router {
    Router::new().route("/ready", get(ready)).merge(debug::routes(&state)).with_state(state)
}

/// Returns the routes of `--monitoringAddr`.
pub(crate) fn monitoring(state: Arc<RunningState>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/version", get(|| async { VERSION }))
        .route("/ready", get(ready))
        .route("/debug/load", get(load))
        .route("/debug/grpc_connections", get(grpc_connections))
        .merge(debug::routes(&state))
        .with_state(state)
}

/// Serves until the process stops.
pub(crate) async fn serve(
    listener: TcpListener,
    router: Router,
    state: Arc<RunningState>,
) -> anyhow::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let stop = state.ads.stop.clone();
    axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned()).await.context("serve HTTP")
}

async fn ready(State(state): State<Arc<RunningState>>) -> impl IntoResponse {
    match state.ads.health.not_ready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn load(State(state): State<Arc<RunningState>>) -> axum::Json<Load> {
    axum::Json(state.load())
}

async fn grpc_connections(State(state): State<Arc<RunningState>>) -> axum::Json<Vec<serde_json::Value>> {
    axum::Json(state.ads.connections.list().iter().map(|peer| peer.page()).collect())
}

async fn metrics(State(state): State<Arc<RunningState>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], state.ads.metrics.page(&state))
}

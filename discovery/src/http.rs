//! The two HTTP servers: `--httpAddr` (`/ready`, `/debug`) and `--monitoringAddr` (`/metrics`, `/version`, `/debug`).

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
use crate::server::Shared;
use crate::transport::Load;
use crate::version::VERSION;

/// Opens the first address that the machine has. `:8080` is all addresses of both families where there are both.
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
    /// Connections that may wait to be accepted; the kernel's `net.core.somaxconn` is the limit. One that finds no room
    /// is tried again after 1, 3, 7, 15, 31 s, and thousands may come at once when another instance goes.
    const BACKLOG: u32 = 65_535;
    let socket = if address.is_ipv4() { TcpSocket::new_v4() } else { TcpSocket::new_v6() }?;
    // An instance that is started again has the port at once, as with Tokio's own listeners.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// What `--httpAddr` serves.
pub(crate) fn http(shared: Arc<Shared>) -> Router {
    Router::new().route("/ready", get(ready)).merge(debug::routes(&shared)).with_state(shared)
}

/// What `--monitoringAddr` serves.
pub(crate) fn monitoring(shared: Arc<Shared>) -> Router {
    Router::new()
        .route("/metrics", get(metrics))
        .route("/version", get(|| async { VERSION }))
        .route("/ready", get(ready))
        .route("/debug/load", get(load))
        .route("/debug/grpc_connections", get(grpc_connections))
        .merge(debug::routes(&shared))
        .with_state(shared)
}

/// Serves until `shared` says stop.
pub(crate) async fn serve(listener: TcpListener, router: Router, shared: Arc<Shared>) -> anyhow::Result<()> {
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    let stop = shared.stop.clone();
    axum::serve(listener, service).with_graceful_shutdown(stop.cancelled_owned()).await.context("serve HTTP")
}

async fn ready(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    match shared.not_ready() {
        None => (StatusCode::OK, "ready\n".to_owned()),
        Some(why) => (StatusCode::SERVICE_UNAVAILABLE, format!("{why}\n")),
    }
}

async fn load(State(shared): State<Arc<Shared>>) -> axum::Json<Load> {
    axum::Json(shared.load())
}

async fn grpc_connections(State(shared): State<Arc<Shared>>) -> axum::Json<Vec<serde_json::Value>> {
    axum::Json(shared.connections.list().iter().map(|peer| peer.page()).collect())
}

async fn metrics(State(shared): State<Arc<Shared>>) -> impl IntoResponse {
    ([(header::CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")], shared.metrics.page(&shared))
}

//! Load of an instance: its report, and the query of others.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper_util::rt::TokioIo;
use serde::{Deserialize, Serialize};
use tokio::net::TcpStream;

/// Time limit for the answer of another instance.
pub(super) const PATIENCE: Duration = Duration::from_secs(1);

/// Maximum size of an answer; it takes about a hundred bytes.
const ANSWER: usize = 4 << 10;

/// Load of an instance.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Load {
    /// Identifier of the instance, at any of its addresses.
    pub(crate) id: String,
    /// Number of open xDS streams.
    pub(crate) streams: usize,
    /// `true` if it takes no new streams: it is starting or shutting down.
    pub(crate) draining: bool,
}

/// Queries the monitoring port of an instance.
pub(super) async fn ask(address: SocketAddr) -> anyhow::Result<Load> {
    let exchange = async {
        let stream = TcpStream::connect(address).await.context("connect")?;
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
        let request = http::Request::get("/debug/load")
            .header(http::header::HOST, address.to_string())
            .body(Empty::<Bytes>::new())?;
        let exchange = async {
            let response = sender.send_request(request).await.context("GET /debug/load")?;
            ensure!(response.status() == http::StatusCode::OK, "GET /debug/load: {}", response.status());
            let body = Limited::new(response.into_body(), ANSWER).collect().await;
            let body = body.map_err(|error| anyhow::anyhow!("read the answer: {error}"))?;
            serde_json::from_slice(&body.to_bytes()).context("read the answer")
        };
        tokio::pin!(connection);
        tokio::select! {
            answer = exchange => answer,
            // The connection ends first only by an error.
            ended = &mut connection => Err(ended.err().map_or_else(|| anyhow::anyhow!("it closed"), Into::into)),
        }
    };
    tokio::time::timeout(PATIENCE, exchange).await.context("no answer in time")?
}

//! Envoy's admin interface, as far as the agent needs it: one question, one connection, one time-out.
//!
//! Deliberately keeps nothing between two calls: the Envoy that answered the last one may be dead.

mod stats;

use std::{net::SocketAddr, path::Path, time::Duration};

use bytes::Bytes;
use http::{Method, Request, StatusCode, header::HOST};
use http_body_util::{BodyExt, Collected, Empty, LengthLimitError, Limited};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use tokio::{net::TcpStream, time::timeout};

pub use self::stats::ConfigUpdates;
use crate::supervisor::{Activity, DrainScope, Epoch};

/// Envoy answers in milliseconds; more than this is the main thread of a very large Envoy at work.
const PATIENCE: Duration = Duration::from_secs(1);

/// Statistics are searched one by one: half a million of them take half a second.
const STATS_PATIENCE: Duration = Duration::from_secs(3);

/// `/server_info` is 124 KB; nothing else we collect is larger.
const MAX_BODY: usize = 4 << 20;

/// Where Envoy's admin listens.
#[derive(Clone, Copy, Debug)]
pub struct EnvoyAdmin {
    address: SocketAddr,
}

/// Why an answer is missing.
#[derive(Debug, thiserror::Error)]
pub enum AdminError {
    /// Nobody listens, or the connection broke.
    #[error("connect to Envoy's admin")]
    Connect(#[source] std::io::Error),
    /// Somebody listens and does not answer.
    #[error("Envoy's admin does not answer within {0:?}")]
    Silent(Duration),
    /// Not HTTP, or cut short.
    #[error("ask Envoy's admin")]
    Http(#[from] hyper::Error),
    /// A path of ours is not one.
    #[error("build a request to Envoy's admin")]
    Request(#[from] http::Error),
    /// It says no.
    #[error("Envoy's admin answers {0}")]
    Status(StatusCode),
    /// Too long.
    #[error("Envoy's admin answers more than {MAX_BODY} bytes")]
    TooLong,
    /// Something else than expected.
    #[error("read what Envoy's admin answers")]
    Unreadable(#[from] serde_json::Error),
}

/// What Envoy says of itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Liveness {
    /// All configuration is there and the workers run.
    Live,
    /// It waits for configuration, or was told to fail its health checks.
    NotLive,
}

/// Whose admin answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// That of the Envoy we asked for, and it is LIVE.
    Live,
    /// That of the Envoy we asked for, which is not LIVE.
    NotLive,
    /// Another epoch's, or an Envoy that is not ours.
    Stranger,
}

#[derive(serde::Deserialize)]
struct ServerInfo {
    state: String,
    #[serde(default)]
    command_line_options: CommandLine,
}

#[derive(Default, serde::Deserialize)]
struct CommandLine {
    #[serde(default)]
    config_path: String,
    #[serde(default)]
    restart_epoch: u32,
}

// === impl EnvoyAdmin ===

impl EnvoyAdmin {
    /// The admin at this address; nothing is asked yet.
    pub fn at(address: SocketAddr) -> Self {
        Self { address }
    }

    /// `GET /ready`: cheap at any size of configuration, but it tells no epoch.
    pub async fn ready(&self) -> Result<Liveness, AdminError> {
        match self.ask(Method::GET, "/ready", PATIENCE).await {
            Ok(_) => Ok(Liveness::Live),
            Err(AdminError::Status(StatusCode::SERVICE_UNAVAILABLE)) => Ok(Liveness::NotLive),
            Err(error) => Err(error),
        }
    }

    /// `GET /server_info`: whether it is the Envoy that runs this bootstrap in this epoch that is LIVE.
    /// Only this tells it from the one before, and from a stranger's on the same port.
    pub async fn identify(&self, epoch: Epoch, bootstrap: &Path) -> Result<Identity, AdminError> {
        let body = self.ask(Method::GET, "/server_info", PATIENCE).await?;
        let info: ServerInfo = serde_json::from_slice(&body)?;
        let options = info.command_line_options;
        Ok(if options.restart_epoch != epoch.get() || Path::new(&options.config_path) != bootstrap {
            Identity::Stranger
        } else if info.state == "LIVE" {
            Identity::Live
        } else {
            Identity::NotLive
        })
    }

    /// `POST /drain_listeners`: clients are told to leave, and whoever comes nevertheless is served once
    /// more. Never without `skip_exit`, with which alone Envoy refuses no connection for as long as it lives.
    pub async fn drain(&self, scope: DrainScope) -> Result<(), AdminError> {
        let path = match scope {
            DrainScope::Inbound => "/drain_listeners?inboundonly&graceful&skip_exit",
            DrainScope::All => "/drain_listeners?graceful&skip_exit",
        };
        self.ask(Method::POST, path, PATIENCE).await.map(drop)
    }

    /// What Envoy is busy with; `None` when its statistics are not kept.
    pub async fn activity(&self) -> Result<Option<Activity>, AdminError> {
        let body = self.ask(Method::GET, stats::ACTIVITY, STATS_PATIENCE).await?;
        Ok(stats::activity(&String::from_utf8_lossy(&body)))
    }

    /// Which configuration Envoy has received so far.
    pub async fn config_updates(&self) -> Result<ConfigUpdates, AdminError> {
        let body = self.ask(Method::GET, stats::CONFIG_UPDATES, STATS_PATIENCE).await?;
        Ok(stats::config_updates(&String::from_utf8_lossy(&body)))
    }

    /// Opens `path`, whose answer may be of any length and is left to the caller.
    pub async fn open(&self, path: &str, patience: Duration) -> Result<Incoming, AdminError> {
        let response = timeout(patience, self.send(Method::GET, path));
        response.await.map_err(|_| AdminError::Silent(patience))?
    }

    async fn ask(&self, method: Method, path: &str, patience: Duration) -> Result<Bytes, AdminError> {
        let answer = async {
            let body = self.send(method, path).await?;
            let collected = Limited::new(body, MAX_BODY).collect().await;
            collected.map(Collected::to_bytes).map_err(|error| match error.downcast::<hyper::Error>() {
                Ok(error) => AdminError::Http(*error),
                Err(error) => {
                    debug_assert!(error.is::<LengthLimitError>());
                    AdminError::TooLong
                }
            })
        };
        timeout(patience, answer).await.map_err(|_| AdminError::Silent(patience))?
    }

    async fn send(&self, method: Method, path: &str) -> Result<Incoming, AdminError> {
        let stream = TcpStream::connect(self.address).await.map_err(AdminError::Connect)?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        // Ends with the answer, or as soon as nobody waits for it any more; its error is the answer's.
        tokio::spawn(async { drop(connection.await) });
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header(HOST, "localhost")
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        match response.status() {
            StatusCode::OK => Ok(response.into_body()),
            status => Err(AdminError::Status(status)),
        }
    }
}

#[cfg(test)]
mod tests;

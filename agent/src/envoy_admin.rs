//! Envoy's admin interface, as far as the agent needs it: one question, one connection, one time-out.
//!
//! Deliberately keeps nothing between two calls: the Envoy that answered the last one may be dead.

mod activity;
mod levels;
mod listeners;
mod stats;
mod wire;

use std::{net::SocketAddr, path::Path, path::PathBuf, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Empty;
use hyper::body::Incoming;

#[cfg(test)]
pub(crate) use self::listeners::read as read_listeners;
pub(crate) use self::{
    activity::ActivityStats,
    listeners::{Listener, ListenerAddress, Protocol},
    stats::ConfigUpdates,
};
use crate::supervisor::DrainScope;

/// Envoy answers in milliseconds; more than this is the main thread of a very large Envoy at work.
const PATIENCE: Duration = Duration::from_secs(1);

/// Statistics are searched one by one: half a million of them take half a second.
const STATS_PATIENCE: Duration = Duration::from_secs(3);

/// `/server_info` is 124 KB; nothing else we collect is larger.
const MAX_BODY: usize = 4 << 20;

/// Address of Envoy's admin endpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AdminAddress {
    /// A port; on loopback unless configured otherwise.
    Tcp(SocketAddr),
    /// On a socket in the file system, at most 107 bytes long.
    Unix(PathBuf),
}

/// The admin of one Envoy. A clone is a pointer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EnvoyAdmin {
    address: Arc<AdminAddress>,
}

/// Reason of a missing response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AdminError {
    /// There is no Envoy to ask.
    #[error("no Envoy is running")]
    Absent,
    /// Refused or broken connection.
    #[error("connect to Envoy's admin")]
    Connect(#[source] std::io::Error),
    /// No response in time.
    #[error("Envoy's admin does not answer within {0:?}")]
    Silent(Duration),
    /// Not HTTP, or cut short.
    #[error("ask Envoy's admin")]
    Http(#[from] hyper::Error),
    /// A path of ours is not one.
    #[error("build a request to Envoy's admin")]
    Request(#[from] http::Error),
    /// Status of an error.
    #[error("Envoy's admin answers {0}")]
    Status(StatusCode),
    /// Too long.
    #[error("Envoy's admin answers more than {MAX_BODY} bytes")]
    TooLong,
    /// Something else than expected.
    #[error("read what Envoy's admin answers")]
    Unreadable(#[from] serde_json::Error),
    /// Levels that Envoy would not take.
    #[error(transparent)]
    Level(#[from] crate::config::level::InvalidLevel),
}

/// State that Envoy reports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Liveness {
    /// All configuration is there and the workers run.
    Live,
    /// It waits for configuration, or fails its health checks on request.
    NotLive,
}

/// Envoy that has responded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Identity {
    /// The requested Envoy, and it is LIVE.
    Live,
    /// The requested Envoy, which is not LIVE.
    NotLive,
    /// Another epoch's, or an Envoy that is not ours.
    Other,
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

// === impl AdminAddress ===

impl std::fmt::Display for AdminAddress {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
        }
    }
}

impl From<SocketAddr> for AdminAddress {
    fn from(address: SocketAddr) -> Self {
        Self::Tcp(address)
    }
}

// === impl EnvoyAdmin ===

impl EnvoyAdmin {
    /// Creates a client of the admin endpoint at this address, without a request.
    pub(crate) fn at(address: impl Into<AdminAddress>) -> Self {
        Self { address: Arc::new(address.into()) }
    }

    /// `GET /ready`: cheap at any size of configuration, but without the epoch.
    pub(crate) async fn ready(&self) -> Result<Liveness, AdminError> {
        match self.ask(Method::GET, "/ready", PATIENCE).await {
            Ok(_) => Ok(Liveness::Live),
            Err(AdminError::Status(StatusCode::SERVICE_UNAVAILABLE)) => Ok(Liveness::NotLive),
            Err(error) => Err(error),
        }
    }

    /// `GET /server_info`: returns if the Envoy with this bootstrap and epoch is LIVE. Only this distinguishes it from its
    /// predecessor, and from an unrelated Envoy on the same port.
    pub(crate) async fn identify(&self, epoch: u32, bootstrap: &Path) -> Result<Identity, AdminError> {
        let body = self.ask(Method::GET, "/server_info", PATIENCE).await?;
        let info: ServerInfo = serde_json::from_slice(&body)?;
        let options = info.command_line_options;
        Ok(if options.restart_epoch != epoch || Path::new(&options.config_path) != bootstrap {
            Identity::Other
        } else if info.state == "LIVE" {
            Identity::Live
        } else {
            Identity::NotLive
        })
    }

    /// `GET /hot_restart_version`: what a successor must answer to `--hot-restart-version`, as `11.104`.
    pub(crate) async fn hot_restart_version(&self) -> Result<String, AdminError> {
        let body = self.ask(Method::GET, "/hot_restart_version", PATIENCE).await?;
        Ok(String::from_utf8_lossy(&body).trim().to_owned())
    }

    /// `GET /listeners`: what Envoy listens on, each with the addresses it has really bound.
    pub(crate) async fn listeners(&self) -> Result<Vec<Listener>, AdminError> {
        let body = self.ask(Method::GET, "/listeners?format=json", PATIENCE).await?;
        Ok(listeners::read(&body)?)
    }

    /// `POST /drain_listeners`: clients are asked to close connections, and new ones are still served. Always with `skip_exit`,
    /// without which Envoy would refuse connections.
    pub(crate) async fn drain(&self, scope: DrainScope) -> Result<(), AdminError> {
        let path = match scope {
            DrainScope::Inbound => "/drain_listeners?inboundonly&graceful&skip_exit",
            DrainScope::All => "/drain_listeners?graceful&skip_exit",
        };
        self.ask(Method::POST, path, PATIENCE).await.map(drop)
    }

    /// `POST /drain_listeners` without grace: Envoy closes its listeners at once and for good. New connections are refused,
    /// unless another Envoy has the same sockets.
    pub(crate) async fn close_listeners(&self) -> Result<(), AdminError> {
        self.ask(Method::POST, "/drain_listeners", PATIENCE).await.map(drop)
    }

    /// `POST /logging`: levels in the format of `--proxyLogLevel`, as `info,http:debug`. Unnamed loggers keep their level;
    /// invalid levels are refused without a request.
    pub(crate) async fn log_level(&self, levels: &str) -> Result<(), AdminError> {
        for path in levels::requests(levels)? {
            self.ask(Method::POST, &path, PATIENCE).await?;
        }
        Ok(())
    }

    /// The same, with activity by listener.
    pub(crate) async fn activity(&self) -> Result<ActivityStats, AdminError> {
        let body = self.ask(Method::GET, activity::PATH, STATS_PATIENCE).await?;
        Ok(activity::count(&String::from_utf8_lossy(&body)))
    }

    /// Returns the configuration that Envoy has received so far.
    pub(crate) async fn config_updates(&self) -> Result<ConfigUpdates, AdminError> {
        let body = self.ask(Method::GET, stats::CONFIG_UPDATES, STATS_PATIENCE).await?;
        Ok(stats::config_updates(&String::from_utf8_lossy(&body)))
    }

    /// Requests `path`; the caller reads the response, which may have any length.
    pub(crate) async fn open(&self, path: &str, patience: Duration) -> Result<Incoming, AdminError> {
        let response = self.forward(wire::request(Method::GET, path)?, patience).await?;
        wire::body_of(response)
    }

    /// Sends a request as it is. The answer, whatever its status, must begin within `patience`; its body may
    /// be of any length and is left to the caller.
    pub(crate) async fn forward(
        &self,
        request: Request<Empty<Bytes>>,
        patience: Duration,
    ) -> Result<Response<Incoming>, AdminError> {
        let response = tokio::time::timeout(patience, wire::send(&self.address, request));
        response.await.map_err(|_| AdminError::Silent(patience))?
    }

    async fn ask(&self, method: Method, path: &str, patience: Duration) -> Result<Bytes, AdminError> {
        let request = wire::request(method, path)?;
        let answer = async { wire::collect(wire::body_of(wire::send(&self.address, request).await?)?).await };
        tokio::time::timeout(patience, answer).await.map_err(|_| AdminError::Silent(patience))?
    }
}

#[cfg(test)]
mod tests;

//! Load that counts every failure.
//!
//! ```text
//! KeepAlive   HTTP/1.1, one connection as long as the server lets it; honours `connection: close`
//! New         HTTP/1.1, a connection for each request
//! Http2       prior knowledge (ALPN over TLS), one connection, a stream at a time; honours GOAWAY
//! Stream      HTTP/1.1, an answer that dribbles for 1.5 s
//! Tcp         one line and its echo, a connection for each
//! Tunnel      line after line on one connection for as long as it lasts
//! Idle        one request, then silence on a kept connection
//! ```
//!
//! Each of them goes over TLS as well ([`Load::over_tls`]), and to IPv4 or IPv6.
//!
//! A request has *failed* when its connection was refused, reset or timed out, when it ended before or in the answer, or when the
//! answer was not 200. Nothing is tried again, with one exception that is no second try: a request that found its kept
//! connection closed before a byte of it was sent goes out on a new one.
//!
//! The end of a connection that is nobody's request is no failure and is counted apart, as an [`ConnectionEnd`]: a tunnel's, because a proxy
//! cannot know when it may end one, and an idle connection's. To open the next one is a request again, and can fail.
//!
//! Who answered, which revision of the proxy's configuration it went through, and when, is kept for every request.

mod client;
mod connection;
mod long_lived;
mod report;
#[cfg(test)]
mod tests;
mod tls;
mod traffic;

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::{Context, Result};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio_rustls::TlsConnector;

pub use self::report::{Answer, ClientState, ConnectionEnd, Failure, FailureKind, REVISION, Report};
pub use self::tls::{Identity, tls_handshake};
pub use self::traffic::Traffic;

/// How long one request may take before it has failed.
const TIMEOUT: Duration = Duration::from_secs(5);

/// What [`Class::Stream`] asks for: an endpoint of ours dribbles for this many milliseconds.
const SLOW_PATH: &str = "/stream/1500";

/// How clients use their connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// HTTP/1.1 on a kept connection.
    KeepAlive,
    /// HTTP/1.1, a connection for each request.
    New,
    /// HTTP/2 with prior knowledge; each client is a stream of its own connection.
    Http2,
    /// HTTP/1.1 on a kept connection; every answer takes 1.5 s.
    Stream,
    /// A line and its echo, a connection for each.
    Tcp,
    /// Line after line on one connection; how it ended is counted apart.
    Tunnel,
    /// One HTTP/1.1 request, then nothing; how the connection ended is counted apart.
    Idle,
}

/// What is asked, by how many, and how often.
#[derive(Clone)]
pub struct Load {
    /// How connections are used.
    pub class: Class,
    /// Where requests go.
    pub to: SocketAddr,
    /// The `host` of HTTP requests, and the name that a certificate must hold.
    pub host: String,
    /// The path of HTTP requests.
    pub path: String,
    /// How many ask at the same time.
    pub clients: usize,
    /// How long each thinks between an answer and its next request.
    pub think: Duration,
    /// How to shake hands; `None`: without TLS. See [`Load::over_tls`].
    pub tls: Option<TlsConnector>,
}

#[derive(Clone, Copy)]
struct Target {
    to: SocketAddr,
    kept: KeptConnections,
    stop: bool,
}

/// What becomes of kept connections when the load moves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeptConnections {
    Close,
    Reuse,
}

/// Load that goes on until it is stopped.
pub struct Running {
    target: watch::Sender<Target>,
    report: Arc<Mutex<Report>>,
    clients: JoinSet<()>,
}

// === impl Class ===

impl Class {
    /// What its clients offer inside TLS.
    const fn protocols(self) -> &'static [&'static str] {
        match self {
            Self::Http2 => &["h2"],
            Self::KeepAlive | Self::New | Self::Stream | Self::Idle => &["http/1.1"],
            Self::Tcp | Self::Tunnel => &[],
        }
    }
}

// === impl Load ===

impl Load {
    /// Two clients that think for 5 ms: enough to see a gap of some milliseconds, and little beside an Envoy on the same cores.
    pub fn new(class: Class, to: SocketAddr, host: &str) -> Self {
        Self {
            class,
            to,
            host: host.to_owned(),
            path: if class == Class::Stream { SLOW_PATH } else { "/" }.to_owned(),
            clients: 2,
            think: Duration::from_millis(5),
            tls: None,
        }
    }

    /// The same over TLS, to a server that must prove to be this one.
    pub fn over_tls(mut self, server: &Identity) -> Result<Self> {
        self.tls = Some(server.connector(self.class.protocols())?);
        Ok(self)
    }

    /// Starts asking.
    pub fn start(self) -> Running {
        let (target, target_changes) =
            watch::channel(Target { to: self.to, kept: KeptConnections::Close, stop: false });
        let report = Arc::new(Mutex::new(Report::default()));
        let mut clients = JoinSet::new();
        for _ in 0..self.clients {
            let (load, target_changes, report) = (self.clone(), target_changes.clone(), Arc::clone(&report));
            match self.class {
                Class::Tunnel => clients.spawn(long_lived::tunnel(load, target_changes, report)),
                Class::Idle => clients.spawn(long_lived::idle(load, target_changes, report)),
                _ => clients.spawn(client::request_repeatedly(load, target_changes, report)),
            };
        }
        Running { target, report, clients }
    }
}

// === impl Running ===

impl Running {
    /// What came of it so far.
    pub fn report(&self) -> Report {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends requests elsewhere from now on, as a client does that has heard of a leaving endpoint: kept connections are left,
    /// and requests under way finish where they are. Tunnels stay for as long as they last.
    pub fn move_to(&self, to: SocketAddr) {
        self.target.send_modify(|target| (target.to, target.kept) = (to, KeptConnections::Close));
    }

    /// Opens connections elsewhere from now on, as behind a load balancer that has heard of a leaving endpoint: those that are
    /// kept are used for as long as the server lets them.
    pub fn connect_to(&self, to: SocketAddr) {
        self.target.send_modify(|target| (target.to, target.kept) = (to, KeptConnections::Reuse));
    }

    /// Lets every request under way finish, and starts none.
    pub async fn stop(mut self) -> Result<Report> {
        self.target.send_modify(|target| target.stop = true);
        while let Some(ended) = self.clients.join_next().await {
            ended.context("a client of the load")?;
        }
        Ok(self.report())
    }
}

//! Load that counts every failure.
//!
//! ```text
//! KeepAlive   HTTP/1.1, one connection as long as the server keeps it open; honours `connection: close`
//! New         HTTP/1.1, a connection for each request
//! Http2       prior knowledge (ALPN over TLS), one connection, one stream at a time; honours GOAWAY
//! Stream      HTTP/1.1, a body that takes 1.5 s
//! Tcp         one line and its echo, a connection for each
//! Tunnel      line after line on one connection for as long as it lasts
//! Idle        one request, then silence on a keep-alive connection
//! ```
//!
//! Each class also works over TLS ([`Load::over_tls`]), and over IPv4 or IPv6.
//!
//! A request has *failed* when its connection was refused, reset or timed out, when the connection ended before or in the
//! answer, or when the answer was not 200. Nothing is retried, with one exception: a request that finds its keep-alive
//! connection closed before a byte of it was sent goes out on a new connection.
//!
//! The end of a connection without a request in flight is not a failure. It is counted apart, as a [`ConnectionEnd`]: for
//! tunnels, because a proxy cannot know when it may end one, and for idle connections. Opening the next connection is a
//! request again, and can fail.
//!
//! The report keeps the endpoint, the time and the revision of the proxy's configuration for every answer.

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

/// Time limit for one request.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Path of [`Class::Stream`]: an [`Upstream`](crate::upstream::Upstream) sends the body over this many milliseconds.
const SLOW_PATH: &str = "/stream/1500";

/// Connection use of the clients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// HTTP/1.1 on a keep-alive connection.
    KeepAlive,
    /// HTTP/1.1, a connection for each request.
    New,
    /// HTTP/2 with prior knowledge; each client is a stream of its own connection.
    Http2,
    /// HTTP/1.1 on a keep-alive connection; every answer takes 1.5 s.
    Stream,
    /// A line and its echo, a connection for each.
    Tcp,
    /// Line after line on one connection; its end is counted apart.
    Tunnel,
    /// One HTTP/1.1 request, then nothing; the end of the connection is counted apart.
    Idle,
}

/// Requests to send: target, number of clients, rate.
#[derive(Clone)]
pub struct Load {
    /// Connection use of the clients.
    pub class: Class,
    /// Address that requests are sent to.
    pub to: SocketAddr,
    /// The `host` header of HTTP requests, and the name that a certificate must hold.
    pub host: String,
    /// The path of HTTP requests.
    pub path: String,
    /// Number of concurrent clients.
    pub clients: usize,
    /// Pause of a client between an answer and its next request.
    pub think: Duration,
    /// TLS settings, or `None` for plaintext. See [`Load::over_tls`].
    pub tls: Option<TlsConnector>,
}

#[derive(Clone, Copy)]
struct Target {
    to: SocketAddr,
    kept: KeptConnections,
    stop: bool,
}

/// Treatment of keep-alive connections when the load moves.
#[derive(Clone, Copy, PartialEq, Eq)]
enum KeptConnections {
    Close,
    Reuse,
}

/// Load that runs until it is stopped.
pub struct Running {
    target: watch::Sender<Target>,
    report: Arc<Mutex<Report>>,
    clients: JoinSet<()>,
}

// === impl Class ===

impl Class {
    /// Returns the ALPN protocols that clients of this class offer.
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
    /// Creates load of two clients that pause for 5 ms: enough to notice a gap of some milliseconds, and little beside an Envoy on the same cores.
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

    /// Sends the requests over TLS, to a server that must prove this identity.
    pub fn over_tls(mut self, server: &Identity) -> Result<Self> {
        self.tls = Some(server.connector(self.class.protocols())?);
        Ok(self)
    }

    /// Starts the clients.
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
    /// Returns the report so far.
    pub fn report(&self) -> Report {
        self.report.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Sends requests to another address from now on, like a client that learned of a leaving endpoint: keep-alive connections
    /// are closed, and requests in flight finish on the old one. Tunnels stay for as long as they last.
    pub fn move_to(&self, to: SocketAddr) {
        self.target.send_modify(|target| (target.to, target.kept) = (to, KeptConnections::Close));
    }

    /// Opens connections to another address from now on, like a load balancer that learned of a leaving endpoint: open
    /// connections are used for as long as the server keeps them.
    pub fn connect_to(&self, to: SocketAddr) {
        self.target.send_modify(|target| (target.to, target.kept) = (to, KeptConnections::Reuse));
    }

    /// Starts no more requests, waits for those in flight and returns the report.
    pub async fn stop(mut self) -> Result<Report> {
        self.target.send_modify(|target| target.stop = true);
        while let Some(ended) = self.clients.join_next().await {
            ended.context("a client of the load")?;
        }
        Ok(self.report())
    }
}

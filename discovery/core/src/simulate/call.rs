//! An imagined call: who calls what, and which bytes the client sends. What becomes of it is not known here.

use std::net::{IpAddr, SocketAddr};

/// One connection, and the one request on it if it is HTTP.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Which way the connection passes the proxy.
    pub direction: CallDirection,
    /// Where the client connects to: the original destination, before anything redirects it.
    pub to: Destination,
    /// Where the client connects from. `None`: from nowhere that a match could name.
    pub from: Option<SocketAddr>,
    /// The handshake around what is said; `None`: plaintext.
    pub tls: Option<Tls>,
    /// What the client says first, inside TLS if there is any.
    pub payload: Payload,
}

/// Which way a connection passes the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallDirection {
    /// From the workload beside the proxy to the world.
    Outbound,
    /// From the world to the workload beside the proxy.
    Inbound,
    /// To a proxy that has no workload: connections reach what it binds, and nothing redirects them.
    Gateway,
}

/// Where a client connects to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An address and port.
    Socket(SocketAddr),
    /// The path of a Unix socket.
    Pipe(String),
}

/// What is visible of a TLS handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// The name that the client asks for; empty: none.
    pub sni: String,
    /// Protocols that the client offers, the best one first.
    pub alpn: Vec<String>,
    /// Whether the client shows a certificate.
    pub certificate: Certificate,
}

/// Whether a client shows a certificate. Whoever shows one is trusted here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    /// It has none.
    #[default]
    None,
    /// One that the server trusts.
    Shown,
}

/// What a client says first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// An HTTP request.
    Http(Request),
    /// Something else.
    Bytes,
}

/// An HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// `GET`
    pub method: String,
    /// `:authority`, the host with its port if the client names one.
    pub authority: String,
    /// Path with query.
    pub path: String,
    /// Other headers, names in lower case, in the order they are sent.
    pub headers: Vec<(String, String)>,
    /// How the request is written.
    pub version: Version,
}

/// A version of HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
    /// HTTP/2; without TLS by prior knowledge.
    Http2,
}

/// Why a text is no destination.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an address such as 10.0.0.1:3306 or unix:///path")]
pub struct AddressError(pub String);

// === impl Call ===

impl Call {
    /// Plaintext bytes to somewhere.
    pub const fn new(direction: CallDirection, to: Destination) -> Self {
        Self { direction, to, from: None, tls: None, payload: Payload::Bytes }
    }

    /// An HTTP request instead.
    #[must_use]
    pub fn with_request(self, request: Request) -> Self {
        Self { payload: Payload::Http(request), ..self }
    }

    /// Inside TLS that asks for a name.
    #[must_use]
    pub fn tls(self, sni: &str) -> Self {
        Self { tls: Some(Tls { sni: sni.to_owned(), ..Tls::default() }), ..self }
    }

    /// Inside TLS.
    #[must_use]
    pub fn inside(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// From this address, and a port that means nothing.
    #[must_use]
    pub fn from_ip(self, ip: IpAddr) -> Self {
        Self { from: Some(SocketAddr::new(ip, 49_152)), ..self }
    }
}

// === impl Request ===

impl Request {
    /// A `GET` of HTTP/1.1 without further headers.
    pub fn get(authority: &str, path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            authority: authority.to_owned(),
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            headers: Vec::new(),
            version: Version::default(),
        }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// The same with another method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        Self { method: method.to_owned(), ..self }
    }

    /// The same in another version.
    #[must_use]
    pub fn version(self, version: Version) -> Self {
        Self { version, ..self }
    }

    /// The value of a header, `:method`, `:path` and `:authority` (`host`) among them; several are joined by commas,
    /// as Envoy's matchers see them.
    pub fn header(&self, name: &str) -> Option<String> {
        let name = name.to_ascii_lowercase();
        match name.as_str() {
            ":method" => return Some(self.method.clone()),
            ":path" => return Some(self.path.clone()),
            ":authority" | "host" => return Some(self.authority.clone()),
            _ => {}
        }
        let values: Vec<&str> =
            self.headers.iter().filter(|(key, _)| *key == name).map(|(_, value)| value.as_str()).collect();
        (!values.is_empty()).then(|| values.join(","))
    }

    /// The path without query and fragment.
    pub fn bare_path(&self) -> &str {
        self.path.find(['?', '#']).and_then(|end| self.path.get(..end)).unwrap_or(&self.path)
    }
}

// === impl Version ===

impl Version {
    /// What an inspector of plaintext finds it to be.
    pub(super) const fn inspected(self) -> &'static str {
        match self {
            Self::Http10 => "http/1.0",
            Self::Http11 => "http/1.1",
            Self::Http2 => "h2c",
        }
    }
}

// === impl Destination ===

impl Destination {
    /// The address, if it is one.
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Socket(socket) => Some(socket.ip()),
            Self::Pipe(_) => None,
        }
    }

    /// The port, if it has one.
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Socket(socket) => Some(socket.port()),
            Self::Pipe(_) => None,
        }
    }
}

impl std::str::FromStr for Destination {
    type Err = AddressError;

    /// `10.0.0.1:80`, `[fd00::1]:80`, `fd00::1:80`, `unix:///path`.
    fn from_str(text: &str) -> Result<Self, AddressError> {
        let fail = || AddressError(text.to_owned());
        if let Some(path) = text.strip_prefix("unix://") {
            return Ok(Self::Pipe(path.to_owned()));
        }
        let (ip, port) = text.rsplit_once(':').ok_or_else(fail)?;
        let ip = ip.trim_start_matches('[').trim_end_matches(']').parse().map_err(|_| fail())?;
        Ok(Self::Socket(SocketAddr::new(ip, port.parse().map_err(|_| fail())?)))
    }
}

impl std::fmt::Display for Destination {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Socket(socket) => socket.fmt(f),
            Self::Pipe(path) => write!(f, "unix://{path}"),
        }
    }
}

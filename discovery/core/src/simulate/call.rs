//! A simulated call: source, destination, and the bytes that the client sends.

use std::net::{IpAddr, SocketAddr};

/// A connection with at most one HTTP request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// Direction of the connection relative to the proxy.
    pub direction: CallDirection,
    /// Original destination, before any redirection.
    pub to: Destination,
    /// Source address. `None`: an address that no match contains.
    pub from: Option<SocketAddr>,
    /// TLS; `None`: plaintext.
    pub tls: Option<Tls>,
    /// First bytes of the client, inside TLS if there is any.
    pub payload: Payload,
}

/// Direction of a connection relative to the proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallDirection {
    /// From the workload of a sidecar.
    Outbound,
    /// To the workload of a sidecar.
    Inbound,
    /// To a gateway: connections reach bound listeners without redirection.
    Gateway,
}

/// Destination of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// An address and port.
    Socket(SocketAddr),
    /// The path of a Unix socket.
    Pipe(String),
}

/// Visible properties of a TLS handshake.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Tls {
    /// SNI; empty: none.
    pub sni: String,
    /// ALPN protocols in the client's order.
    pub alpn: Vec<String>,
    /// Client certificate.
    pub certificate: Certificate,
}

/// Client certificate of a call; it is always trusted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Certificate {
    /// No certificate.
    #[default]
    None,
    /// A trusted certificate.
    Shown,
}

/// First bytes of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// An HTTP request.
    Http(Request),
    /// Other bytes.
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
    /// Other headers, names in lower case, in order.
    pub headers: Vec<(String, String)>,
    /// HTTP version.
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

/// Parse error of a destination.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not an address such as 10.0.0.1:3306 or unix:///path")]
pub struct AddressError(pub String);

// === impl Call ===

impl Call {
    /// Returns a call with plaintext bytes.
    pub const fn new(direction: CallDirection, to: Destination) -> Self {
        Self { direction, to, from: None, tls: None, payload: Payload::Bytes }
    }

    /// Replaces the payload by an HTTP request.
    #[must_use]
    pub fn with_request(self, request: Request) -> Self {
        Self { payload: Payload::Http(request), ..self }
    }

    /// Adds TLS with this SNI.
    #[must_use]
    pub fn tls(self, sni: &str) -> Self {
        Self { tls: Some(Tls { sni: sni.to_owned(), ..Tls::default() }), ..self }
    }

    /// Adds TLS.
    #[must_use]
    pub fn inside(self, tls: Tls) -> Self {
        Self { tls: Some(tls), ..self }
    }

    /// Sets the source address, with an arbitrary port.
    #[must_use]
    pub fn from_ip(self, ip: IpAddr) -> Self {
        Self { from: Some(SocketAddr::new(ip, 49_152)), ..self }
    }
}

// === impl Request ===

impl Request {
    /// Returns a `GET` request of HTTP/1.1 without other headers.
    pub fn get(authority: &str, path: &str) -> Self {
        Self {
            method: "GET".to_owned(),
            authority: authority.to_owned(),
            path: if path.starts_with('/') { path.to_owned() } else { format!("/{path}") },
            headers: Vec::new(),
            version: Version::default(),
        }
    }

    /// Adds a header.
    #[must_use]
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        self
    }

    /// Sets the method.
    #[must_use]
    pub fn method(self, method: &str) -> Self {
        Self { method: method.to_owned(), ..self }
    }

    /// Sets the HTTP version.
    #[must_use]
    pub fn version(self, version: Version) -> Self {
        Self { version, ..self }
    }

    /// Returns the value of a header, including `:method`, `:path` and `:authority` (`host`); repeated ones are joined by commas,
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

    /// Returns the path without query and fragment.
    pub fn bare_path(&self) -> &str {
        self.path.find(['?', '#']).and_then(|end| self.path.get(..end)).unwrap_or(&self.path)
    }
}

// === impl Version ===

impl Version {
    /// Returns the protocol that Envoy's HTTP inspector detects.
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
    /// Returns the IP address.
    pub const fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Socket(socket) => Some(socket.ip()),
            Self::Pipe(_) => None,
        }
    }

    /// Returns the port.
    pub const fn port(&self) -> Option<u16> {
        match self {
            Self::Socket(socket) => Some(socket.port()),
            Self::Pipe(_) => None,
        }
    }
}

impl std::str::FromStr for Destination {
    type Err = AddressError;

    /// Parses `10.0.0.1:80`, `[fd00::1]:80`, `fd00::1:80`, `unix:///path`.
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

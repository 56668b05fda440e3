//! Protocol of a port, and its selection from the declaration.

use std::fmt;

/// Layer-7 (or layer-4) protocol of a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Protocol {
    /// HTTP/1.1 that may be upgraded.
    Http,
    /// HTTP/2 without TLS.
    Http2,
    /// gRPC.
    Grpc,
    /// gRPC-Web over HTTP/1.1 or HTTP/2.
    GrpcWeb,
    /// HTTP over TLS that the proxy does not terminate.
    Https,
    /// Any protocol over TLS.
    Tls,
    /// Opaque bytes.
    Tcp,
    /// Not proxied.
    Udp,
    /// `MongoDB`.
    Mongo,
    /// Redis.
    Redis,
    /// `MySQL`.
    MySql,
    /// HTTP CONNECT tunnel with mTLS.
    Hbone,
    /// Not declared: the proxy detects it.
    Auto,
}

/// Ports of protocols in which the server sends first or that are never HTTP: detection would stall them.
const WELL_KNOWN_TCP: [u16; 4] = [25, 53, 3306, 27017];

impl Protocol {
    /// Selects the protocol of a declared port. The first match decides: transport UDP, `appProtocol`, the prefix of the name
    /// before its first `-`, well-known server-first ports; otherwise [`Protocol::Auto`].
    /// <https://istio.io/latest/docs/ops/configuration/traffic-management/protocol-selection/>
    pub fn select(transport: &str, app_protocol: Option<&str>, name: &str, port: u16) -> Self {
        if transport.eq_ignore_ascii_case("udp") {
            return Self::Udp;
        }
        let declared = match app_protocol {
            Some(value) => Self::from_app_protocol(value),
            None => Self::from_port_name(name),
        };
        match declared {
            Self::Auto if WELL_KNOWN_TCP.contains(&port) => Self::Tcp,
            protocol => protocol,
        }
    }

    /// Parses `appProtocol`, including Kubernetes' own values; other values are parsed like a port name.
    fn from_app_protocol(value: &str) -> Self {
        match value {
            "kubernetes.io/h2c" => Self::Http2,
            "kubernetes.io/ws" => Self::Http,
            "kubernetes.io/wss" => Self::Https,
            other => Self::from_port_name(other),
        }
    }

    fn from_port_name(name: &str) -> Self {
        let name = name.to_ascii_lowercase();
        if name == "grpc-web" || name.starts_with("grpc-web-") {
            return Self::GrpcWeb;
        }
        Self::parse(name.split('-').next().unwrap_or_default())
    }

    /// Parses a name, case-insensitively; [`Protocol::Auto`] if unknown.
    pub fn parse(name: &str) -> Self {
        match name.to_ascii_lowercase().as_str() {
            "http" => Self::Http,
            "http2" => Self::Http2,
            "grpc" => Self::Grpc,
            "grpc-web" => Self::GrpcWeb,
            "https" => Self::Https,
            "tls" => Self::Tls,
            "tcp" => Self::Tcp,
            "udp" => Self::Udp,
            "mongo" => Self::Mongo,
            "redis" => Self::Redis,
            "mysql" => Self::MySql,
            "hbone" => Self::Hbone,
            _ => Self::Auto,
        }
    }

    /// Returns `true` if requests can be routed by their content.
    pub const fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Returns `true` if upstream connections use HTTP/2.
    pub const fn is_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Grpc | Self::GrpcWeb)
    }

    /// Returns the name on Istio's debug pages.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Http => "HTTP",
            Self::Http2 => "HTTP2",
            Self::Grpc => "GRPC",
            Self::GrpcWeb => "GRPC-Web",
            Self::Https => "HTTPS",
            Self::Tls => "TLS",
            Self::Tcp => "TCP",
            Self::Udp => "UDP",
            Self::Mongo => "Mongo",
            Self::Redis => "Redis",
            Self::MySql => "MySQL",
            Self::Hbone => "HBONE",
            Self::Auto => "UnsupportedProtocol",
        }
    }
}

impl fmt::Display for Protocol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_port_is_read_as_istio_reads_it() {
        let check = |transport, app, name, port, expected| {
            assert_eq!(
                Protocol::select(transport, app, name, port),
                expected,
                "{transport} {app:?} {name:?} {port}"
            );
        };
        check("TCP", None, "http", 80, Protocol::Http);
        check("TCP", None, "http-admin", 80, Protocol::Http);
        check("TCP", None, "HTTP2-x", 80, Protocol::Http2);
        check("TCP", None, "grpc-web", 80, Protocol::GrpcWeb);
        check("TCP", None, "grpc-web-x", 80, Protocol::GrpcWeb);
        check("TCP", None, "grpc-webber", 80, Protocol::Grpc);
        check("TCP", None, "httpx", 80, Protocol::Auto);
        check("TCP", None, "", 8080, Protocol::Auto);
        check("TCP", None, "", 3306, Protocol::Tcp);
        check("TCP", None, "http", 3306, Protocol::Http);
        check("UDP", Some("http"), "http", 80, Protocol::Udp);
        check("TCP", Some("tcp"), "http", 80, Protocol::Tcp);
        check("TCP", Some("kubernetes.io/h2c"), "tcp", 80, Protocol::Http2);
        check("TCP", Some("kubernetes.io/wss"), "tcp", 80, Protocol::Https);
        check("TCP", Some("example.com/own"), "http", 80, Protocol::Auto);
    }
}

//! Text form of a call, one line: `POST http://reviews:9080/x | end-user: jason`.
//!
//! ```text
//! [METHOD ]SCHEME://HOST[:PORT][/PATH][ | MORE]..
//! http         a request, port 80               tcp   bytes
//! https        a request inside TLS, port 443   tls   bytes inside TLS
//! http10       a request of HTTP/1.0, port 80
//! http2, grpc  a request of HTTP/2, port 80
//!
//! name: value    a header; `host` says another host than the one that is connected to
//! @10.0.0.1:80   connects there, whatever the host is (`@unix:///path`)
//! from 10.0.0.9  the client's address
//! sni NAME       TLS asks for this name, not for the host
//! alpn h2,istio  TLS offers these protocols
//! cert           the client shows a certificate
//! ```

use std::net::IpAddr;
use std::str::FromStr;

use super::call::{Certificate, Destination, Request, Tls, Version};

/// A parsed call before name resolution.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallSpec {
    /// Host to connect to, an address or a name.
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// Destination that overrides the host's address.
    pub to: Option<Destination>,
    /// Source address.
    pub from: Option<IpAddr>,
    /// TLS; `None`: plaintext.
    pub tls: Option<Tls>,
    /// Request; `None`: bytes.
    pub request: Option<Request>,
}

/// Parse error of a call.
#[derive(Debug, thiserror::Error)]
pub enum CallSpecError {
    /// The text has no valid URL.
    #[error("{0:?} is not a URL such as http://reviews:9080/path or tcp://10.0.0.1:3306")]
    Url(String),
    /// Unknown option after `|`.
    #[error("{0:?} is neither a header (name: value) nor @address, from, sni, alpn or cert")]
    More(String),
    /// TLS option without TLS.
    #[error("{0:?} makes sense with https:// and tls:// only")]
    NoTls(String),
    /// The called proxy has no address.
    #[error("{0} has no address")]
    NoAddress(String),
}

// === impl CallSpec ===

impl FromStr for CallSpec {
    type Err = CallSpecError;

    fn from_str(text: &str) -> Result<Self, CallSpecError> {
        let mut parts = text.split(" | ").map(str::trim);
        let target = parts.next().unwrap_or_default();
        let mut line = target_of(target).ok_or_else(|| CallSpecError::Url(target.to_owned()))?;
        for more in parts {
            line.add(more)?;
        }
        Ok(line)
    }
}

impl CallSpec {
    fn add(&mut self, more: &str) -> Result<(), CallSpecError> {
        let fail = || CallSpecError::More(more.to_owned());
        if let Some(address) = more.strip_prefix('@') {
            self.to = Some(address.parse().map_err(|_| fail())?);
            return Ok(());
        }
        let (word, rest) = more.split_once(' ').unwrap_or((more, ""));
        if word == "from" {
            self.from = Some(rest.parse().map_err(|_| fail())?);
            return Ok(());
        }
        if matches!(word, "sni" | "alpn" | "cert") {
            let tls = self.tls.as_mut().ok_or_else(|| CallSpecError::NoTls(more.to_owned()))?;
            match word {
                "sni" => rest.clone_into(&mut tls.sni),
                "alpn" => tls.alpn = rest.split(',').map(|name| name.trim().to_owned()).collect(),
                _ => tls.certificate = Certificate::Shown,
            }
            return Ok(());
        }
        let (name, value) = more.split_once(':').ok_or_else(fail)?;
        let (name, value) = (name.trim(), value.trim());
        let request = self.request.as_mut().ok_or_else(fail)?;
        if name.eq_ignore_ascii_case("host") {
            value.clone_into(&mut request.authority);
        } else {
            request.headers.push((name.to_ascii_lowercase(), value.to_owned()));
        }
        Ok(())
    }
}

fn target_of(target: &str) -> Option<CallSpec> {
    let (method, url) = target.split_once(' ').map_or((None, target), |(method, url)| (Some(method), url));
    let (scheme, rest) = url.trim().split_once("://")?;
    let (default_port, version) = match scheme {
        "http" => (Some(80), Some(Version::Http11)),
        "http10" => (Some(80), Some(Version::Http10)),
        "http2" | "grpc" => (Some(80), Some(Version::Http2)),
        "https" => (Some(443), Some(Version::Http11)),
        "tcp" => (None, None),
        "tls" => (Some(443), None),
        _ => return None,
    };
    let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let (host, port) = host_and_port(authority)?;
    let request = version.map(|version| {
        let path = if path.starts_with('/') { path.to_owned() } else { format!("/{path}") };
        let request = Request::get(authority, &path).version(version);
        let request = match scheme {
            "grpc" => request.method("POST").with("content-type", "application/grpc"),
            _ => request,
        };
        method.map_or(request.clone(), |method| request.method(method))
    });
    // Addresses are no names to ask for (RFC 6066).
    let sni = if host.parse::<IpAddr>().is_ok() { "" } else { host };
    let tls = matches!(scheme, "https" | "tls").then(|| Tls { sni: sni.to_owned(), ..Tls::default() });
    Some(CallSpec { host: host.to_owned(), port: port.or(default_port)?, to: None, from: None, tls, request })
}

/// `reviews`, `reviews:9080`, `10.0.0.1:80`, `[fd00::1]:80`
fn host_and_port(authority: &str) -> Option<(&str, Option<u16>)> {
    let (host, port) = match authority.strip_prefix('[') {
        Some(rest) => {
            let (ip, port) = rest.split_once(']')?;
            (ip, port.strip_prefix(':').or(if port.is_empty() { None } else { Some("") }))
        }
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = port.map(str::parse::<u16>).transpose().ok()?;
    (!host.is_empty()).then_some((host, port))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_a_call() {
        for (line, expected) in [
            ("http://reviews", "reviews 80 GET reviews / Http11"),
            ("http://reviews:9080/a?b | X-A: 1 | host: other", "reviews 9080 GET other /a?b Http11 x-a=1"),
            ("POST https://h/x", "h 443 POST h /x Http11 tls:h"),
            ("http10://h/x", "h 80 GET h /x Http10"),
            ("grpc://rpc:9090/s/m", "rpc 9090 POST rpc:9090 /s/m Http2 content-type=application/grpc"),
            ("http2://[fd00::1]:81?q", "fd00::1 81 GET [fd00::1]:81 /?q Http2"),
            ("tcp://10.0.0.1:3306 | @10.0.0.2:1 | from 10.0.0.9", "10.0.0.1 3306 @10.0.0.2:1 from:10.0.0.9"),
            ("tls://h", "h 443 tls:h"),
            ("tls://h | sni other | alpn h2, istio | cert", "h 443 tls:other alpn:h2,istio Shown"),
            ("https://10.0.0.1", "10.0.0.1 443 GET 10.0.0.1 / Http11 tls:"),
            ("http://h | @unix:///run/a", "h 80 GET h / Http11 @unix:///run/a"),
        ] {
            let parsed: CallSpec = line.parse().unwrap();
            let mut found = vec![parsed.host, parsed.port.to_string()];
            if let Some(request) = parsed.request {
                let Request { method, authority, path, headers, version } = request;
                found.extend([method, authority, path, format!("{version:?}")]);
                found.extend(headers.iter().map(|(name, value)| format!("{name}={value}")));
            }
            found.extend(parsed.to.map(|to| format!("@{to}")));
            found.extend(parsed.from.map(|from| format!("from:{from}")));
            if let Some(tls) = parsed.tls {
                found.push(format!("tls:{}", tls.sni));
                found.extend((!tls.alpn.is_empty()).then(|| format!("alpn:{}", tls.alpn.join(","))));
                found.extend((tls.certificate == Certificate::Shown).then(|| "Shown".to_owned()));
            }
            let found = found.join(" ");
            assert_eq!(found, expected, "{line}");
        }
        for line in [
            "",
            "reviews",
            "ftp://x",
            "tcp://x",
            "http://",
            "http://x:y",
            "http://x:70000",
            "http://x | y",
            "http://[x",
            "http://[x]y",
            "tcp://x:1 | a: b",
            "http://x | cert",
            "http://x | @y",
            "http://x | from y",
        ] {
            assert!(line.parse::<CallSpec>().is_err(), "{line}");
        }
    }
}

//! Detection of cross-site requests of browsers.
//!
//! With a port-forward the agent is `localhost` for a developer's browser, whose requests come as root. A foreign page can send
//! blind requests (cross-site), or use a name of its own that resolves to 127.0.0.1, and then also read the responses (DNS
//! rebinding). Other programs do not send these headers.

use std::net::IpAddr;

use http::{HeaderMap, Request, header::HOST, header::ORIGIN, uri::Authority};

use super::Denied;

const SITE: &str = "sec-fetch-site";

/// Refuses requests with headers that only a foreign page sends.
pub(crate) fn no_foreign_page<B>(request: &Request<B>) -> Result<(), Denied> {
    let headers = request.headers();
    let host = match (request.uri().authority(), headers.get(HOST)) {
        (Some(authority), _) => Some(authority.clone()),
        (None, Some(host)) => Some(Authority::try_from(host.as_bytes()).map_err(|_| Denied::ForeignHost)?),
        (None, None) => None,
    };
    if host.as_ref().is_some_and(|host| !is_loopback(host.host())) {
        return Err(Denied::ForeignHost);
    }
    match headers.get(SITE).map(http::HeaderValue::as_bytes) {
        None | Some(b"none" | b"same-origin") => {}
        Some(_) => return Err(Denied::ForeignPage),
    }
    same_origin(headers, host.as_ref())
}

/// Older browsers say only this, and only with requests that change something.
fn same_origin(headers: &HeaderMap, host: Option<&Authority>) -> Result<(), Denied> {
    let Some(origin) = headers.get(ORIGIN) else { return Ok(()) };
    let origin = origin.to_str().ok().and_then(|origin| origin.split_once("://")).map(|(_, origin)| origin);
    match (origin, host) {
        (Some(origin), Some(host)) if origin.eq_ignore_ascii_case(host.as_str()) => Ok(()),
        _ => Err(Denied::ForeignPage),
    }
}

fn is_loopback(host: &str) -> bool {
    let ip = host.trim_start_matches('[').trim_end_matches(']').parse();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|ip: IpAddr| ip.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(uri: &str, headers: &[(&str, &str)], expected: &Result<(), Denied>) {
        let mut request = Request::get(uri);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        assert_eq!(&no_foreign_page(&request.body(()).unwrap()), expected, "{uri} {headers:?}");
    }

    #[test]
    fn we_answer_to_names_of_this_host_only() {
        for host in [
            "localhost",
            "LocalHost:8080",
            "127.0.0.1",
            "127.3.2.1:15000",
            "[::1]:15000",
            "[::ffff:127.0.0.1]",
        ] {
            check("/stats", &[("host", host)], &Ok(()));
        }
        for host in [
            "rebound.example",
            "rebound.example:15000",
            "10.1.2.3",
            "localhost.example",
            "0.0.0.0",
            "",
            "a b",
        ] {
            check("/stats", &[("host", host)], &Err(Denied::ForeignHost));
        }
        check("/stats", &[], &Ok(()));
        check("http://rebound.example/stats", &[("host", "localhost")], &Err(Denied::ForeignHost));
    }

    #[test]
    fn pages_of_others_get_nothing() {
        let localhost = ("host", "localhost:15000");
        for site in ["none", "same-origin"] {
            check("/", &[localhost, (SITE, site)], &Ok(()));
        }
        for site in ["cross-site", "same-site", "new-word"] {
            check("/", &[localhost, (SITE, site)], &Err(Denied::ForeignPage));
        }
        check("/", &[localhost, ("origin", "http://localhost:15000")], &Ok(()));
        for origin in ["null", "http://localhost:3000", "https://rebound.example", ""] {
            check("/", &[localhost, ("origin", origin)], &Err(Denied::ForeignPage));
        }
        check("/", &[("origin", "http://localhost")], &Err(Denied::ForeignPage));
    }
}

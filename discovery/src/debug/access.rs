//! Access rules of the debug pages, over HTTP and over xDS alike.
//!
//! Loopback callers have full access. In Istio, authenticated callers have access by their namespace; authentication is not
//! implemented yet, and all other callers are refused. `ENABLE_DEBUG_ENDPOINT_AUTH=false` opens the pages to all callers. A
//! cross-site request of a browser is always refused: a forwarded port on a developer's machine is loopback too.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use tracing::warn;

use crate::config::debug::{DebugConfig, Switch};
use crate::inspect::RunningState;

/// Reason to refuse a caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Denied {
    /// The caller is not authenticated.
    #[error(
        "authentication required: the debug interface is for loopback callers only (ENABLE_DEBUG_ENDPOINT_AUTH)"
    )]
    Unauthenticated,
    /// Cross-site request of a browser.
    #[error("a page of another site may not use the debug interface")]
    CrossSite,
}

/// Checks the access of a caller from this address.
pub(super) fn check(config: DebugConfig, peer: Option<IpAddr>) -> Result<(), Denied> {
    // A dual-stack socket reports IPv4 addresses as IPv6.
    let local = peer.is_some_and(|peer| peer.to_canonical().is_loopback());
    if local || config.auth == Switch::Off { Ok(()) } else { Err(Denied::Unauthenticated) }
}

/// Refuses requests that a browser marks as cross-site, and host names that an attacker may have resolved to loopback (DNS
/// rebinding).
fn check_origin(headers: &HeaderMap, peer: IpAddr) -> Result<(), Denied> {
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    if text("sec-fetch-site").is_some_and(|site| !matches!(site, "none" | "same-origin")) {
        return Err(Denied::CrossSite);
    }
    let host = text(header::HOST.as_str()).unwrap_or_default();
    if peer.to_canonical().is_loopback() && !is_ours(host) {
        return Err(Denied::CrossSite);
    }
    Ok(())
}

/// Returns `true` if a `Host` is `localhost` or an address, with or without a port.
fn is_ours(host: &str) -> bool {
    let bare = |text: &str| {
        let text = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
        text.is_empty() || text.eq_ignore_ascii_case("localhost") || text.parse::<IpAddr>().is_ok()
    };
    bare(host) || host.rsplit_once(':').is_some_and(|(name, port)| bare(name) && port.parse::<u16>().is_ok())
}

/// Middleware that checks access before every HTTP page.
pub(super) async fn guard(
    State(state): State<Arc<RunningState>>,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
    next: Next,
) -> Response {
    let verdict =
        check(state.debug, Some(peer.ip())).and_then(|()| check_origin(request.headers(), peer.ip()));
    let Err(denied) = verdict else { return next.run(request).await };
    warn!(%peer, path = request.uri().path(), %denied, "debug page refused");
    let status = match denied {
        Denied::Unauthenticated => StatusCode::UNAUTHORIZED,
        Denied::CrossSite => StatusCode::FORBIDDEN,
    };
    (status, format!("{denied}\n")).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_may_and_others_only_when_told_so() {
        let open = DebugConfig { auth: Switch::Off, ..DebugConfig::default() };
        for (peer, default) in [
            ("127.0.0.1", Ok(())),
            ("127.9.9.9", Ok(())),
            ("::1", Ok(())),
            ("::ffff:127.0.0.1", Ok(())),
            ("10.0.0.1", Err(Denied::Unauthenticated)),
            ("::ffff:10.0.0.1", Err(Denied::Unauthenticated)),
            ("fe80::1", Err(Denied::Unauthenticated)),
        ] {
            let peer: IpAddr = peer.parse().unwrap();
            assert_eq!(check(DebugConfig::default(), Some(peer)), default, "{peer}");
            assert_eq!(check(open, Some(peer)), Ok(()), "{peer}");
        }
        assert_eq!(check(DebugConfig::default(), None), Err(Denied::Unauthenticated));
    }

    #[test]
    fn a_browser_that_was_led_here_is_sent_away() {
        let check = |pairs: &[(&'static str, &str)], expected: Result<(), Denied>| {
            let mut headers = HeaderMap::new();
            for (name, value) in pairs {
                headers.insert(*name, value.parse().unwrap());
            }
            assert_eq!(check_origin(&headers, [127, 0, 0, 1].into()), expected, "{pairs:?}");
        };
        check(&[], Ok(()));
        for host in ["localhost:15014", "LOCALHOST", "127.0.0.1:8080", "127.0.0.1", "[::1]:15014", "::1"] {
            check(&[("host", host)], Ok(()));
        }
        for host in ["evil.example", "evil.example:15014", "localhost.evil.example", "127.0.0.1.nip.io:80"] {
            check(&[("host", host)], Err(Denied::CrossSite));
        }
        for (site, expected) in [
            ("none", Ok(())),
            ("same-origin", Ok(())),
            ("same-site", Err(Denied::CrossSite)),
            ("cross-site", Err(Denied::CrossSite)),
        ] {
            check(&[("host", "localhost:15014"), ("sec-fetch-site", site)], expected);
        }
    }
}

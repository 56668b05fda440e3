//! Redirects of the proxy.
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPRedirect>

use pilot_proto::envoy::config::route::v3::RedirectAction;
use pilot_proto::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};

use super::context::{RouteContext, RuleError, Scheme};
use crate::api::virtual_service::{HttpRedirect, RedirectPort};

/// Translates `redirect`.
pub(super) fn redirect(
    redirect: &HttpRedirect,
    context: &RouteContext<'_>,
) -> Result<RedirectAction, RuleError> {
    let path = match (redirect.prefix_rewrite.as_str(), redirect.uri.as_str()) {
        ("", "") => None,
        ("", uri) => Some(PathRewriteSpecifier::PathRedirect(uri.to_owned())),
        (prefix, _) => Some(PathRewriteSpecifier::PrefixRewrite(prefix.to_owned())),
    };
    let scheme = Some(&redirect.scheme).filter(|scheme| !scheme.is_empty());
    let response_code = match redirect.redirect_code {
        0 | 301 => RedirectResponseCode::MovedPermanently,
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => return Err("redirectCode is not 301, 302, 303, 307 or 308"),
    };
    Ok(RedirectAction {
        host_redirect: redirect.authority.clone(),
        port_redirect: redirect_port(redirect, context)?,
        response_code: response_code.into(),
        scheme_rewrite_specifier: scheme.cloned().map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: path,
        strip_query: false,
    })
}

/// Returns the port of the redirect; 0: the default port of the scheme, which the URL omits.
fn redirect_port(redirect: &HttpRedirect, context: &RouteContext<'_>) -> Result<u32, RuleError> {
    let port = match (redirect.port, redirect.derive_port) {
        (Some(port), _) => port,
        // Envoy cannot refer to the port of the request, but all requests of this route have the same port.
        (None, Some(RedirectPort::FromRequestPort)) => context.port.into(),
        (None, Some(RedirectPort::FromProtocolDefault) | None) => return Ok(0),
    };
    if port > u16::MAX.into() {
        return Err("redirect.port is greater than 65535");
    }
    let scheme = match (redirect.scheme.as_str(), context.scheme) {
        ("", Scheme::Http) => "http",
        ("", Scheme::Https) => "https",
        (scheme, _) => scheme,
    };
    Ok(if matches!((port, scheme), (80, "http") | (443, "https")) { 0 } else { port })
}

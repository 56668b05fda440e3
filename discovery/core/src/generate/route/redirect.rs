//! Requests that the proxy answers itself: redirects and direct responses.
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPRedirect>

use pilot_proto::envoy::config::core::v3::{DataSource, data_source};
use pilot_proto::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};
use pilot_proto::envoy::config::route::v3::{DirectResponseAction, RedirectAction};

use super::MAX_BODY;
use super::http_routes::{RouteContext, RuleError, Scheme};
use crate::api::virtual_service::{DirectResponse, HttpBody, HttpRedirect, RedirectPort};

/// Where the client is sent.
pub(super) fn redirect(said: &HttpRedirect, at: &RouteContext<'_>) -> Result<RedirectAction, RuleError> {
    let path = match (said.prefix_rewrite.as_str(), said.uri.as_str()) {
        ("", "") => None,
        ("", uri) => Some(PathRewriteSpecifier::PathRedirect(uri.to_owned())),
        (prefix, _) => Some(PathRewriteSpecifier::PrefixRewrite(prefix.to_owned())),
    };
    let scheme = Some(&said.scheme).filter(|scheme| !scheme.is_empty());
    let response_code = match said.redirect_code {
        0 | 301 => RedirectResponseCode::MovedPermanently,
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        _ => return Err("redirectCode is not 301, 302, 303, 307 or 308"),
    };
    Ok(RedirectAction {
        host_redirect: said.authority.clone(),
        port_redirect: redirect_port(said, at)?,
        response_code: response_code.into(),
        scheme_rewrite_specifier: scheme.cloned().map(SchemeRewriteSpecifier::SchemeRedirect),
        path_rewrite_specifier: path,
        strip_query: false,
    })
}

/// The port that is named; 0: none, as it should be where the scheme says it.
fn redirect_port(said: &HttpRedirect, at: &RouteContext<'_>) -> Result<u32, RuleError> {
    let port = match (said.port, said.derive_port) {
        (Some(port), _) => port,
        // Envoy cannot name the port of the request, but all requests here are for this one.
        (None, Some(RedirectPort::FromRequestPort)) => at.port.into(),
        (None, Some(RedirectPort::FromProtocolDefault) | None) => return Ok(0),
    };
    if port > u16::MAX.into() {
        return Err("redirect.port is beyond 65535");
    }
    let scheme = match (said.scheme.as_str(), at.scheme) {
        ("", Scheme::Http) => "http",
        ("", Scheme::Https) => "https",
        (said, _) => said,
    };
    Ok(if matches!((port, scheme), (80, "http") | (443, "https")) { 0 } else { port })
}

/// What the client is told.
pub(super) fn direct_response(said: &DirectResponse) -> Result<DirectResponseAction, RuleError> {
    // Envoy refuses the whole table for another status, and for a longer body.
    if !(200..600).contains(&said.status) {
        return Err("directResponse.status is not 200 to 599");
    }
    let body = said.body.as_ref().map(body).transpose()?.flatten();
    Ok(DirectResponseAction { status: said.status, body, ..DirectResponseAction::default() })
}

fn body(said: &HttpBody) -> Result<Option<DataSource>, RuleError> {
    let specifier = match (&said.string, &said.bytes) {
        (Some(text), _) => data_source::Specifier::InlineString(text.clone()),
        (None, Some(text)) => {
            let bytes = base64(text).ok_or("directResponse.body.bytes is no base64")?;
            data_source::Specifier::InlineBytes(bytes.into())
        }
        (None, None) => return Ok(None),
    };
    let length = match &specifier {
        data_source::Specifier::InlineString(text) => text.len(),
        data_source::Specifier::InlineBytes(bytes) => bytes.len(),
        _ => 0,
    };
    match length {
        // Envoy refuses a source of nothing.
        0 => Ok(None),
        _ if length > MAX_BODY as usize => Err("directResponse.body is longer than 1 MiB"),
        _ => Ok(Some(DataSource { specifier: Some(specifier), ..DataSource::default() })),
    }
}

/// Base64 in either alphabet, with its padding or without: what protobuf's JSON may have.
fn base64(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut bits, mut held) = (Vec::with_capacity(text.len() / 4 * 3), 0_u32, 0_u32);
    for digit in text.trim_end_matches('=').bytes() {
        let value = match digit {
            b'A'..=b'Z' => digit - b'A',
            b'a'..=b'z' => digit - b'a' + 26,
            b'0'..=b'9' => digit - b'0' + 52,
            b'+' | b'-' => 62,
            b'/' | b'_' => 63,
            _ => return None,
        };
        bits = (bits << 6) | u32::from(value);
        held += 6;
        if held >= 8 {
            held -= 8;
            bytes.push(u8::try_from(bits >> held & 0xff).ok()?);
        }
    }
    // Six bits are no byte.
    (held < 6).then_some(bytes)
}

//! Location of a redirect, built as in Envoy's `Http::Utility::newUri`.

use pilot_proto::envoy::config::route::v3::RedirectAction;
use pilot_proto::envoy::config::route::v3::redirect_action::{
    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
};

use super::request_state::{MatchedRoute, RequestState};
use super::rewrite::rewritten_path;
use super::trace::Verdict;

/// Returns the redirect response.
pub(super) fn redirect(action: &RedirectAction, found: MatchedRoute<'_>, asked: &RequestState) -> Verdict {
    let scheme = match &action.scheme_rewrite_specifier {
        Some(SchemeRewriteSpecifier::SchemeRedirect(scheme)) if !scheme.is_empty() => scheme.clone(),
        Some(SchemeRewriteSpecifier::HttpsRedirect(true)) => "https".to_owned(),
        _ => asked.scheme.clone(),
    };
    let host = if action.host_redirect.is_empty() {
        own_host(action, asked, &scheme)
    } else {
        action.host_redirect.clone()
    };
    let port = match action.port_redirect {
        0 => String::new(),
        port => format!(":{port}"),
    };
    let location = format!("{scheme}://{host}{port}{}", path(action, found, asked));
    let status = match action.response_code() {
        RedirectResponseCode::MovedPermanently => 301,
        RedirectResponseCode::Found => 302,
        RedirectResponseCode::SeeOther => 303,
        RedirectResponseCode::TemporaryRedirect => 307,
        RedirectResponseCode::PermanentRedirect => 308,
    };
    Verdict::Redirected { status, location }
}

/// Returns the host as the client sent it, without a port that is replaced or was the default of the old scheme.
fn own_host(action: &RedirectAction, asked: &RequestState, scheme: &str) -> String {
    let host = asked.request.authority.as_str();
    let start = match host.strip_prefix('[') {
        Some(_) => host.rfind("]:").map(|end| end + 1),
        None => host.rfind(':'),
    };
    let Some((name, port)) = start.and_then(|start| host.split_at_checked(start)) else {
        return host.to_owned();
    };
    let default = match asked.scheme.as_str() {
        "https" => ":443",
        _ => ":80",
    };
    let stale = scheme != asked.scheme && port == default;
    if action.port_redirect != 0 || stale { name.to_owned() } else { host.to_owned() }
}

fn path(action: &RedirectAction, found: MatchedRoute<'_>, asked: &RequestState) -> String {
    let path = asked.request.path.as_str();
    let without_query = |path: String| match path.split_once('?') {
        Some((bare, _)) if action.strip_query => bare.to_owned(),
        _ => path,
    };
    match &action.path_rewrite_specifier {
        // A query of its own replaces the client's.
        Some(PathRewriteSpecifier::PathRedirect(own)) if own.contains('?') => own.clone(),
        Some(PathRewriteSpecifier::PathRedirect(own)) if !own.is_empty() => {
            let query = path.find('?').and_then(|start| path.get(start..)).unwrap_or_default();
            without_query(format!("{own}{query}"))
        }
        Some(PathRewriteSpecifier::PrefixRewrite(prefix)) => {
            let rewritten = rewritten_path(path, found.matched, prefix, None);
            without_query(rewritten.unwrap_or_else(|| path.to_owned()))
        }
        Some(PathRewriteSpecifier::RegexRewrite(pattern)) => {
            let rewritten = rewritten_path(path, found.matched, "", Some(pattern));
            without_query(rewritten.unwrap_or_else(|| path.to_owned()))
        }
        Some(PathRewriteSpecifier::PathRewrite(own)) => own.clone(),
        Some(PathRewriteSpecifier::PathRedirect(_)) | None => without_query(path.to_owned()),
    }
}

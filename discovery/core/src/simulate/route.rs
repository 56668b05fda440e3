//! Matching of a route.

use pilot_proto::envoy::config::route::v3::RouteMatch;
use pilot_proto::envoy::config::route::v3::route_match::PathSpecifier;

use super::call::Certificate;
use super::matching::{default_millionths, matches_fully};
use super::request_state::{PathMatch, RequestState};

/// Returns the matched part of the path if all criteria match.
///
/// A runtime fraction matches if its default is not zero. Dynamic metadata and filter state are set by filters
/// and absent here.
pub(super) fn matched(wanted: &RouteMatch, asked: &RequestState) -> Option<PathMatch> {
    let request = &asked.request;
    let matches = wanted.headers.iter().all(|header| asked.has_header(header))
        && wanted.query_parameters.iter().all(|parameter| asked.has_parameter(parameter))
        && wanted.runtime_fraction.as_ref().is_none_or(|fraction| default_millionths(fraction) > 0)
        && wanted.dynamic_metadata.iter().all(|metadata| metadata.invert)
        && wanted.filter_state.is_empty()
        && wanted.cookies.is_empty()
        && (wanted.grpc.is_none() || is_grpc(asked))
        && wanted.tls_context.as_ref().is_none_or(|tls| {
            let shown = asked.certificate == Certificate::Shown;
            [&tls.presented, &tls.validated].into_iter().flatten().all(|wanted| wanted.value == shown)
        });
    if !matches {
        return None;
    }
    let path = request.bare_path();
    let sensitive = wanted.case_sensitive.as_ref().is_none_or(|sensitive| sensitive.value);
    let fold = |text: &str| if sensitive { text.to_owned() } else { text.to_ascii_lowercase() };
    let (by, length) = match &wanted.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => {
            ("by prefix", fold(path).starts_with(&fold(prefix)).then_some(prefix.len())?)
        }
        Some(PathSpecifier::Path(exact)) => ("by path", (fold(path) == fold(exact)).then_some(path.len())?),
        Some(PathSpecifier::PathSeparatedPrefix(prefix)) => {
            let rest = fold(path).strip_prefix(&fold(prefix))?.to_owned();
            ("by path prefix", (rest.is_empty() || rest.starts_with('/')).then_some(prefix.len())?)
        }
        Some(PathSpecifier::SafeRegex(regex)) => {
            ("by pattern", matches_fully(&regex.regex, path).then_some(path.len())?)
        }
        Some(PathSpecifier::ConnectMatcher(_)) => ("CONNECT", (request.method == "CONNECT").then_some(0)?),
        // Templates are no part of Istio's API, and Envoy rejects a match without a path.
        Some(PathSpecifier::PathMatchPolicy(_)) | None => return None,
    };
    Some(PathMatch { by, length })
}

fn is_grpc(asked: &RequestState) -> bool {
    let kind = asked.header("content-type").unwrap_or_default();
    kind.strip_prefix("application/grpc").is_some_and(|rest| rest.is_empty() || rest.starts_with('+'))
}

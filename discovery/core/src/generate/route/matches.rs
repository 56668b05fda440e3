//! Match criteria of a route.
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPMatchRequest>

use pilot_proto::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier;
use pilot_proto::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use pilot_proto::envoy::config::route::v3::route_match::PathSpecifier;
use pilot_proto::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher, RouteMatch};
use pilot_proto::envoy::r#type::matcher::v3::{
    ListMatcher, MetadataMatcher, OrMatcher, RegexMatcher, StringMatcher, ValueMatcher, list_matcher,
    metadata_matcher, string_matcher, value_matcher,
};

use crate::api::values::StringMatch;
use crate::api::virtual_service::HttpMatch;
use crate::generate::proto::no;

/// Prefix of header names that stand for claims of the JWT.
const CLAIMS: &str = "@request.auth.claims";

/// Translates a match; `None` matches every request.
pub(super) fn route_match(matches: Option<&HttpMatch>) -> RouteMatch {
    let Some(matches) = matches else { return every_request() };
    let mut route_match = RouteMatch {
        path_specifier: Some(matches.uri.as_ref().map_or_else(every_path, path)),
        case_sensitive: matches.ignore_uri_case.then(no).flatten(),
        ..RouteMatch::default()
    };
    for (name, value) in &matches.headers {
        match claim(name, value) {
            Some(claim) => route_match.dynamic_metadata.push(claim),
            None => route_match.headers.push(header(name, value)),
        }
    }
    for (name, value) in &matches.without_headers {
        match claim(name, value) {
            Some(claim) => route_match.dynamic_metadata.push(MetadataMatcher { invert: true, ..claim }),
            None => route_match.headers.push(HeaderMatcher {
                invert_match: true,
                // A missing header does not have the value either. Envoy rejects this with a presence match.
                treat_missing_header_as_empty: string_matcher(value).is_some(),
                ..header(name, value)
            }),
        }
    }
    route_match.headers.sort_by(|a, b| a.name.cmp(&b.name));
    let pseudo =
        [(":method", &matches.method), (":authority", &matches.authority), (":scheme", &matches.scheme)];
    let pseudo_headers = pseudo.into_iter().filter_map(|(name, value)| Some(header(name, value.as_ref()?)));
    route_match.headers.extend(pseudo_headers);
    route_match.query_parameters =
        matches.query_params.iter().map(|(name, value)| parameter(name, value)).collect();
    route_match
}

/// Returns a match for every request.
pub(super) fn every_request() -> RouteMatch {
    RouteMatch { path_specifier: Some(every_path()), ..RouteMatch::default() }
}

/// Returns true if no request reaches the routes that follow.
pub(in crate::generate) fn matches_every_request(matches: &RouteMatch) -> bool {
    let every_path = match &matches.path_specifier {
        Some(PathSpecifier::Prefix(prefix)) => prefix.is_empty() || prefix == "/",
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex == ".*",
        _ => false,
    };
    every_path
        && matches.headers.is_empty()
        && matches.query_parameters.is_empty()
        && matches.dynamic_metadata.is_empty()
}

/// Translates a string match; `None`: any value.
pub(super) fn string_matcher(value: &StringMatch) -> Option<StringMatcher> {
    use string_matcher::MatchPattern as Pattern;
    let pattern = match value {
        StringMatch::Unset => return None,
        // `*` is not valid RE2, and Envoy rejects an empty prefix; both are used for "any value".
        StringMatch::Regex(text) if text == "*" => return None,
        StringMatch::Prefix(text) if text.is_empty() => return None,
        StringMatch::Exact(text) => Pattern::Exact(text.clone()),
        StringMatch::Prefix(text) => Pattern::Prefix(text.clone()),
        StringMatch::Regex(text) => Pattern::SafeRegex(regex(text)),
    };
    Some(StringMatcher { match_pattern: Some(pattern), ..StringMatcher::default() })
}

/// Returns an RE2 expression.
pub(super) fn regex(text: &str) -> RegexMatcher {
    // Envoy rejects an empty expression.
    let regex = if text.is_empty() { "^$" } else { text };
    RegexMatcher { regex: regex.to_owned(), ..RegexMatcher::default() }
}

fn every_path() -> PathSpecifier {
    PathSpecifier::Prefix("/".to_owned())
}

fn path(uri: &StringMatch) -> PathSpecifier {
    match uri {
        StringMatch::Unset => every_path(),
        StringMatch::Exact(path) => PathSpecifier::Path(path.clone()),
        StringMatch::Prefix(prefix) => PathSpecifier::Prefix(prefix.clone()),
        StringMatch::Regex(text) => PathSpecifier::SafeRegex(regex(text)),
    }
}

fn header(name: &str, value: &StringMatch) -> HeaderMatcher {
    let specifier = string_matcher(value)
        .map_or(HeaderMatchSpecifier::PresentMatch(true), HeaderMatchSpecifier::StringMatch);
    HeaderMatcher {
        name: name.to_owned(),
        header_match_specifier: Some(specifier),
        ..HeaderMatcher::default()
    }
}

fn parameter(name: &str, value: &StringMatch) -> QueryParameterMatcher {
    let specifier = string_matcher(value)
        .map_or(QueryParameterMatchSpecifier::PresentMatch(true), QueryParameterMatchSpecifier::StringMatch);
    QueryParameterMatcher { name: name.to_owned(), query_parameter_match_specifier: Some(specifier) }
}

/// Translates a match of a JWT claim, `@request.auth.claims.a.b` or `@request.auth.claims[a][b]`. The claim is a string, or a
/// list that contains it. <https://istio.io/latest/docs/tasks/security/authentication/jwt-route/>
fn claim(name: &str, value: &StringMatch) -> Option<MetadataMatcher> {
    let prefix = name.get(..CLAIMS.len())?;
    if !prefix.eq_ignore_ascii_case(CLAIMS) {
        return None;
    }
    let path = name.get(CLAIMS.len()..)?;
    let bracketed = path.strip_prefix('[').and_then(|path| path.strip_suffix(']'));
    let claims: Vec<&str> = match (path.strip_prefix('.'), bracketed) {
        (Some(dotted), _) if !dotted.is_empty() => dotted.split('.').collect(),
        (_, Some(bracketed)) if !bracketed.is_empty() => bracketed.split("][").collect(),
        _ => return None,
    };
    let of = |pattern| ValueMatcher { match_pattern: Some(pattern) };
    let claim_value = of(string_matcher(value)
        .map_or(value_matcher::MatchPattern::PresentMatch(true), value_matcher::MatchPattern::StringMatch));
    let one_of =
        ListMatcher { match_pattern: Some(list_matcher::MatchPattern::OneOf(Box::new(claim_value.clone()))) };
    let listed = of(value_matcher::MatchPattern::ListMatch(Box::new(one_of)));
    let either = OrMatcher { value_matchers: vec![listed, claim_value] };
    let keys = ["payload"].into_iter().chain(claims).map(|key| metadata_matcher::PathSegment {
        segment: Some(metadata_matcher::path_segment::Segment::Key(key.to_owned())),
    });
    Some(MetadataMatcher {
        filter: "envoy.filters.http.jwt_authn".to_owned(),
        path: keys.collect(),
        value: Some(of(value_matcher::MatchPattern::OrMatch(either))),
        invert: false,
    })
}

//! Rewrites of the upstream request: headers, then host, then path, in the order of Envoy's
//! `RouteEntryImplBase::finalizeRequestHeaders`.
//!
//! Headers that Envoy adds itself (`x-request-id`, `x-envoy-original-path`, ...) are omitted, and command operators in values
//! (`%DOWNSTREAM_REMOTE_ADDRESS%`) are not expanded.

use pilot_proto::envoy::config::core::v3::HeaderValueOption;
use pilot_proto::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use pilot_proto::envoy::config::route::v3::RouteAction;
use pilot_proto::envoy::config::route::v3::route_action::HostRewriteSpecifier;
use pilot_proto::envoy::r#type::matcher::v3::RegexMatchAndSubstitute;

use super::call::Request;
use super::matching::substituted;
use super::request_state::MatchedRoute;
use super::request_state::PathMatch;

/// Header changes of one level of configuration.
#[derive(Clone, Copy)]
pub(super) struct HeaderChanges<'a> {
    pub(super) add: &'a [HeaderValueOption],
    pub(super) remove: &'a [String],
}

/// Returns the changes of all levels in the order of application: route, virtual host, route configuration, or the reverse if
/// the most specific one wins, which is then applied last. Changes of the selected weighted cluster are always first.
pub(super) fn levels<'a>(
    found: MatchedRoute<'a>,
    cluster: Option<HeaderChanges<'a>>,
) -> Vec<HeaderChanges<'a>> {
    let MatchedRoute { routes, host, route, .. } = found;
    let mut levels = [
        HeaderChanges { add: &route.request_headers_to_add, remove: &route.request_headers_to_remove },
        HeaderChanges { add: &host.request_headers_to_add, remove: &host.request_headers_to_remove },
        HeaderChanges { add: &routes.request_headers_to_add, remove: &routes.request_headers_to_remove },
    ];
    if routes.most_specific_header_mutations_wins {
        levels.reverse();
    }
    cluster.into_iter().chain(levels).collect()
}

/// Removes headers, then adds headers.
pub(super) fn change_headers(request: &mut Request, changes: HeaderChanges<'_>) {
    request.headers.retain(|(name, _)| !changes.remove.iter().any(|gone| gone.eq_ignore_ascii_case(name)));
    for option in changes.add {
        let Some(header) = &option.header else { continue };
        let name = header.key.to_ascii_lowercase();
        if header.value.is_empty() && !option.keep_empty_value {
            continue;
        }
        #[expect(deprecated, reason = "configuration may still say it so")]
        let append = option.append.as_ref().is_none_or(|append| append.value);
        let action = match option.append_action() {
            HeaderAppendAction::AppendIfExistsOrAdd if !append => HeaderAppendAction::OverwriteIfExistsOrAdd,
            action => action,
        };
        let exists = request.headers.iter().any(|(known, _)| *known == name);
        match action {
            HeaderAppendAction::AddIfAbsent if exists => continue,
            HeaderAppendAction::OverwriteIfExists if !exists => continue,
            HeaderAppendAction::OverwriteIfExists | HeaderAppendAction::OverwriteIfExistsOrAdd => {
                request.headers.retain(|(known, _)| *known != name);
            }
            HeaderAppendAction::AddIfAbsent | HeaderAppendAction::AppendIfExistsOrAdd => {}
        }
        request.headers.push((name, header.value.clone()));
    }
}

/// Rewrites the host. `upstream`: hostname of an endpoint, if it has one.
pub(super) fn rewrite_host(request: &mut Request, action: &RouteAction, upstream: Option<&str>) {
    let host = match &action.host_rewrite_specifier {
        Some(HostRewriteSpecifier::HostRewriteLiteral(host) | HostRewriteSpecifier::HostRewrite(host)) => {
            Some(host.clone())
        }
        Some(HostRewriteSpecifier::HostRewriteHeader(name)) => request.header(name),
        Some(HostRewriteSpecifier::HostRewritePathRegex(rewrite)) => {
            Some(substituted(rewrite, request.bare_path()))
        }
        Some(HostRewriteSpecifier::AutoHostRewrite(on)) if on.value => upstream.map(str::to_owned),
        Some(HostRewriteSpecifier::AutoHostRewrite(_)) | None => None,
    };
    if let Some(host) = host.filter(|host| !host.is_empty()) {
        if action.append_x_forwarded_host {
            request.headers.push(("x-forwarded-host".to_owned(), request.authority.clone()));
        }
        request.authority = host;
    }
}

/// Returns the path with the matched part replaced by a prefix, or with a regular expression applied to all but the query.
pub(super) fn rewritten_path(
    path: &str,
    matched: PathMatch,
    prefix: &str,
    pattern: Option<&RegexMatchAndSubstitute>,
) -> Option<String> {
    if !prefix.is_empty() {
        return Some(format!("{prefix}{}", path.get(matched.length..).unwrap_or_default()));
    }
    let pattern = pattern?;
    let end = path.find(['?', '#']).unwrap_or(path.len());
    let (bare, rest) = path.split_at(end);
    Some(substituted(pattern, bare) + rest)
}

//! Validation of HTTP routes: conditions, and combinations of actions.

use std::collections::BTreeMap;

use super::super::findings::{At, Findings};
use super::super::headers::is_authority;
use super::{actions, faults};
use crate::api::values::StringMatch;
use crate::api::virtual_service::{HttpDestination, HttpMatch, HttpRoute};

/// Place of a route.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a `VirtualService` with hosts.
    Root,
    /// In a delegate.
    Delegate,
}

pub(super) fn check(out: &mut Findings, at: At<'_>, route: &HttpRoute, place: Place) {
    goes_together(out, at, route, place);
    for (index, rule) in route.r#match.iter().enumerate() {
        matched(out, at.of("match").nth(index), rule);
    }
    out.headers(at.of("headers"), route.headers.as_ref());
    authority(out, at, route);
    actions::check(out, at, route);
    faults::check(out, at, route);
    destinations(out, at.of("route"), &route.route);
    out.duration(at.of("timeout"), route.timeout);
}

/// Checks that a route has exactly one of destinations, redirect, direct response, delegate.
fn goes_together(out: &mut Findings, at: At<'_>, route: &HttpRoute, place: Place) {
    let ends = [
        ("route", !route.route.is_empty()),
        ("redirect", route.redirect.is_some()),
        ("directResponse", route.direct_response.is_some()),
    ];
    if route.delegate.is_some() {
        if place == Place::Delegate {
            out.error(at.of("delegate"), "an object that is delegated to does not delegate further");
        }
        for (field, is_there) in ends {
            if is_there {
                out.error(at.of(field), "excludes delegate");
            }
        }
        return;
    }
    out.exactly_one(at, &ends);
    let end = if route.redirect.is_some() {
        "redirect"
    } else if route.direct_response.is_some() {
        "directResponse"
    } else {
        return out
            .at_most_one(at, &[("mirror", route.mirror.is_some()), ("mirrors", !route.mirrors.is_empty())]);
    };
    for (field, is_there) in [("fault", route.fault.is_some()), ("rewrite", route.rewrite.is_some())] {
        if is_there {
            out.error(at.of(field), format!("excludes {end}"));
        }
    }
}

fn matched(out: &mut Findings, at: At<'_>, rule: &HttpMatch) {
    for (name, header) in &rule.headers {
        let field = at.of("headers");
        out.matched_header(field.of(name), name);
        string_match(out, field.of(name), Some(header));
    }
    for (name, header) in &rule.without_headers {
        let field = at.of("withoutHeaders");
        out.matched_header(field.of(name), name);
        // Not an expression: any value.
        if *header != StringMatch::Regex("*".into()) {
            string_match(out, field.of(name), Some(header));
        }
    }
    // Every path has the empty prefix; other texts may not.
    if let Some(StringMatch::Regex(regex)) = &rule.uri {
        out.regex(at.of("uri").of("regex"), regex);
    }
    string_match(out, at.of("scheme"), rule.scheme.as_ref());
    string_match(out, at.of("method"), rule.method.as_ref());
    string_match(out, at.of("authority"), rule.authority.as_ref());
    query(out, at.of("queryParams"), &rule.query_params);
    if rule.port != 0 {
        out.port(at.of("port"), rule.port);
    }
    out.labels(at.of("sourceLabels"), &rule.source_labels);
    super::gateways(out, at.of("gateways"), &rule.gateways);
    super::source_namespace(out, at.of("sourceNamespace"), &rule.source_namespace);
}

fn query(out: &mut Findings, at: At<'_>, parameters: &BTreeMap<String, StringMatch>) {
    for (name, value) in parameters {
        out.present(at, name);
        string_match(out, at.of(name), Some(value));
    }
}

pub(super) fn string_match(out: &mut Findings, at: At<'_>, text: Option<&StringMatch>) {
    match text {
        Some(StringMatch::Prefix(prefix)) if prefix.is_empty() => {
            out.error(at.of("prefix"), "an empty prefix");
        }
        Some(StringMatch::Regex(regex)) => out.regex(at.of("regex"), regex),
        _ => {}
    }
}

/// Checks that the host is rewritten in one field only.
fn authority(out: &mut Findings, at: At<'_>, route: &HttpRoute) {
    let request = route.headers.as_ref().and_then(|headers| headers.request.as_ref());
    let changed = request.into_iter().flat_map(|request| request.set.keys().chain(request.add.keys()));
    let rewritten = route.rewrite.iter().filter(|rewrite| !rewrite.authority.is_empty()).count();
    if changed.filter(|name| is_authority(name)).count() + rewritten > 1 {
        out.error(at.of("headers"), "the host is rewritten more than once");
    }
}

fn destinations(out: &mut Findings, at: At<'_>, routes: &[HttpDestination]) {
    for (index, route) in routes.iter().enumerate() {
        let at = at.nth(index);
        match &route.destination {
            None => out.error(at.of("destination"), "is missing"),
            Some(destination) => out.destination(at.of("destination"), destination),
        }
        out.headers(at.of("headers"), route.headers.as_ref());
        out.not_negative(at.of("weight"), route.weight);
    }
    super::weights(out, at, routes.iter().map(|route| route.weight));
}

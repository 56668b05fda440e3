//! Warnings about routes that are never used, because an earlier route matches everything that they match.

use std::collections::BTreeMap;

use super::super::findings::{At, Findings};
use super::super::values::is_within;
use crate::api::values::StringMatch;
use crate::api::virtual_service::{HttpMatch, HttpRoute, L4Match, TcpRoute, TlsMatch, TlsRoute};

pub(super) fn http(out: &mut Findings, at: At<'_>, routes: &[HttpRoute]) {
    check(out, at, routes.iter().map(|route| route.r#match.as_slice()), covers_request);
}

pub(super) fn tls(out: &mut Findings, at: At<'_>, routes: &[TlsRoute]) {
    check(out, at, routes.iter().map(|route| route.r#match.as_slice()), covers_tls);
}

pub(super) fn tcp(out: &mut Findings, at: At<'_>, routes: &[TcpRoute]) {
    check(out, at, routes.iter().map(|route| route.r#match.as_slice()), covers_tcp);
}

/// Adds a warning for each shadowed route. `covers(a, b)`: `a` matches everything that `b` matches.
fn check<'a, M: 'a>(
    out: &mut Findings,
    at: At<'_>,
    rules: impl Iterator<Item = &'a [M]>,
    covers: fn(&M, &M) -> bool,
) {
    let mut before: Vec<(usize, &M)> = Vec::new();
    let mut takes_all = None;
    for (rule, matches) in rules.enumerate() {
        let element = at.nth(rule);
        if let Some(first) = takes_all {
            out.warning(element, format!("is never used: {} takes everything", at.nth(first)));
            continue;
        }
        if matches.is_empty() {
            takes_all = Some(rule);
        }
        for (index, one) in matches.iter().enumerate() {
            if let Some((first, _)) = before.iter().find(|(_, earlier)| covers(earlier, one)) {
                let message = format!("is never used: {} takes all of it", at.nth(*first));
                out.warning(element.of("match").nth(index), message);
            } else {
                before.push((rule, one));
            }
        }
    }
}

/// Returns `true` if `wide` is not set or is equal to `narrow`.
fn says_less<T: PartialEq + Default>(wide: &T, narrow: &T) -> bool {
    *wide == T::default() || wide == narrow
}

fn covers_request(wide: &HttpMatch, narrow: &HttpMatch) -> bool {
    // Names and prefixes of statistics do not affect matching.
    covers_path(wide, narrow)
        && says_less(&wide.scheme, &narrow.scheme)
        && says_less(&wide.method, &narrow.method)
        && says_less(&wide.authority, &narrow.authority)
        && covers_all(&wide.headers, &narrow.headers)
        && covers_all(&wide.query_params, &narrow.query_params)
        && covers_all(&wide.without_headers, &narrow.without_headers)
        && says_less(&wide.port, &narrow.port)
        && covers_all(&wide.source_labels, &narrow.source_labels)
        && says_less(&wide.gateways, &narrow.gateways)
        && says_less(&wide.source_namespace, &narrow.source_namespace)
}

fn covers_path(wide: &HttpMatch, narrow: &HttpMatch) -> bool {
    if wide.ignore_uri_case != narrow.ignore_uri_case && wide.uri.is_some() {
        return false;
    }
    match (&wide.uri, &narrow.uri) {
        (None, _) => true,
        (Some(StringMatch::Prefix(wide)), Some(StringMatch::Prefix(narrow) | StringMatch::Exact(narrow))) => {
            narrow.starts_with(wide.as_str())
        }
        (wide, narrow) => wide == narrow,
    }
}

/// Returns `true` if every condition of `wide` is a condition of `narrow`.
fn covers_all<T: PartialEq>(wide: &BTreeMap<String, T>, narrow: &BTreeMap<String, T>) -> bool {
    wide.iter().all(|(name, value)| narrow.get(name) == Some(value))
}

fn covers_tls(wide: &TlsMatch, narrow: &TlsMatch) -> bool {
    narrow.sni_hosts.iter().all(|host| wide.sni_hosts.iter().any(|wide| is_within(host, wide)))
        && says_less(&wide.destination_subnets, &narrow.destination_subnets)
        && says_less(&wide.port, &narrow.port)
        && covers_all(&wide.source_labels, &narrow.source_labels)
        && says_less(&wide.gateways, &narrow.gateways)
        && says_less(&wide.source_namespace, &narrow.source_namespace)
}

fn covers_tcp(wide: &L4Match, narrow: &L4Match) -> bool {
    says_less(&wide.destination_subnets, &narrow.destination_subnets)
        && says_less(&wide.port, &narrow.port)
        && covers_all(&wide.source_labels, &narrow.source_labels)
        && says_less(&wide.gateways, &narrow.gateways)
        && says_less(&wide.source_namespace, &narrow.source_namespace)
}

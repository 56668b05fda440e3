//! Merges the rules of a delegate `VirtualService` into those of its root.
//!
//! A match of the delegate must lie within a match of the root, or its rule is left out. Fields that the delegate does not set
//! come from the root. The rules are Istio's (`pilot/pkg/model/virtualservice.go`).

use std::collections::BTreeMap;

use crate::api::values::StringMatch;
use crate::api::virtual_service::{HttpMatch, HttpRoute};

/// Returns the rules of a delegate, merged with the root's rule that they replace. A delegate has no delegates of its own.
pub(super) fn merged(root: &HttpRoute, rules: Vec<HttpRoute>) -> Vec<HttpRoute> {
    let own = rules.into_iter().filter(|rule| rule.delegate.is_none());
    own.filter_map(|rule| merge(root, rule)).collect()
}

fn merge(root: &HttpRoute, rule: HttpRoute) -> Option<HttpRoute> {
    let or = |list: Vec<_>, other: &Vec<_>| if list.is_empty() { other.clone() } else { list };
    Some(HttpRoute {
        name: joined(&root.name, &rule.name),
        r#match: matches(&root.r#match, &rule.r#match)?,
        rewrite: rule.rewrite.or_else(|| root.rewrite.clone()),
        direct_response: rule.direct_response.or_else(|| root.direct_response.clone()),
        timeout: rule.timeout.or(root.timeout),
        retries: rule.retries.or_else(|| root.retries.clone()),
        fault: rule.fault.or_else(|| root.fault.clone()),
        mirror: rule.mirror.or_else(|| root.mirror.clone()),
        mirrors: or(rule.mirrors, &root.mirrors),
        mirror_percent: rule.mirror_percent.or(root.mirror_percent),
        mirror_percentage: rule.mirror_percentage.or(root.mirror_percentage),
        cors_policy: rule.cors_policy.or_else(|| root.cors_policy.clone()),
        headers: rule.headers.or_else(|| root.headers.clone()),
        route: rule.route,
        redirect: rule.redirect,
        delegate: None,
    })
}

fn joined(root: &str, own: &str) -> String {
    match (root, own) {
        ("", name) | (name, "") => name.to_owned(),
        (root, own) => format!("{root}-{own}"),
    }
}

/// Returns each match of the delegate within each compatible match of the root; `None` if one has none.
fn matches(root: &[HttpMatch], own: &[HttpMatch]) -> Option<Vec<HttpMatch>> {
    match (root, own) {
        ([], list) | (list, []) => Some(list.to_vec()),
        _ => {
            let mut merged = Vec::new();
            for own in own {
                let roomy: Vec<&HttpMatch> = root.iter().filter(|root| has_room(root, own)).collect();
                if roomy.is_empty() {
                    return None;
                }
                merged.extend(roomy.into_iter().map(|root| within(root, own)));
            }
            Some(merged)
        }
    }
}

fn within(root: &HttpMatch, own: &HttpMatch) -> HttpMatch {
    let or = |own: &Option<StringMatch>, root: &Option<StringMatch>| own.clone().or_else(|| root.clone());
    let text = |own: &String, root: &String| if own.is_empty() { root.clone() } else { own.clone() };
    HttpMatch {
        name: joined(&root.name, &own.name),
        uri: or(&own.uri, &root.uri),
        scheme: or(&own.scheme, &root.scheme),
        method: or(&own.method, &root.method),
        authority: or(&own.authority, &root.authority),
        headers: union(&root.headers, &own.headers),
        without_headers: union(&root.without_headers, &own.without_headers),
        query_params: union(&root.query_params, &own.query_params),
        port: if own.port == 0 { root.port } else { own.port },
        source_labels: union(&root.source_labels, &own.source_labels),
        source_namespace: text(&own.source_namespace, &root.source_namespace),
        gateways: if own.gateways.is_empty() { root.gateways.clone() } else { own.gateways.clone() },
        stat_prefix: text(&own.stat_prefix, &root.stat_prefix),
        ignore_uri_case: own.ignore_uri_case,
    }
}

fn union<V: Clone>(root: &BTreeMap<String, V>, own: &BTreeMap<String, V>) -> BTreeMap<String, V> {
    let mut both = root.clone();
    both.extend(own.clone());
    both
}

/// Returns `true` if the delegate's match can lie within the root's.
fn has_room(root: &HttpMatch, own: &HttpMatch) -> bool {
    let texts = [
        (&root.uri, &own.uri),
        (&root.scheme, &own.scheme),
        (&root.method, &own.method),
        (&root.authority, &own.authority),
    ];
    let maps = [
        (&root.headers, &own.headers),
        (&root.without_headers, &own.without_headers),
        (&root.query_params, &own.query_params),
    ];
    let labels =
        |(key, value): (&String, &String)| root.source_labels.get(key).is_none_or(|root| root == value);
    texts.iter().all(|(root, own)| narrows(root.as_ref(), own.as_ref()))
        && maps.iter().all(|(root, own)| own.iter().all(|(key, own)| narrows(root.get(key), Some(own))))
        && root.ignore_uri_case == own.ignore_uri_case
        && (root.port == 0 || own.port == 0 || root.port == own.port)
        && (root.source_namespace.is_empty() || root.source_namespace == own.source_namespace)
        && own.source_labels.iter().all(labels)
        && (root.gateways.is_empty() || own.gateways.iter().all(|gateway| root.gateways.contains(gateway)))
}

fn narrows(root: Option<&StringMatch>, own: Option<&StringMatch>) -> bool {
    use StringMatch::{Exact, Prefix};
    match (root, own) {
        (None, _) | (_, None) => true,
        (Some(Exact(root)), Some(Exact(own))) => root == own,
        (Some(Prefix(root)), Some(Exact(own) | Prefix(own))) => own.starts_with(root),
        // The intersection of two expressions is not computed.
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(path: &str) -> HttpMatch {
        HttpMatch { uri: Some(StringMatch::Prefix(path.into())), ..HttpMatch::default() }
    }

    fn exact(path: &str) -> HttpMatch {
        HttpMatch { uri: Some(StringMatch::Exact(path.into())), ..HttpMatch::default() }
    }

    #[test]
    fn what_a_delegate_matches_lies_within_what_the_root_matches() {
        let header = |name: &str| HttpMatch {
            headers: [(name.to_owned(), StringMatch::Exact("x".into()))].into(),
            ..HttpMatch::default()
        };
        let both = HttpMatch { headers: header("h").headers, ..prefix("/a") };
        for (root, own, expected) in [
            (vec![], vec![prefix("/a")], Some(vec![prefix("/a")])),
            (vec![prefix("/a")], vec![], Some(vec![prefix("/a")])),
            (vec![prefix("/a")], vec![prefix("/a/b")], Some(vec![prefix("/a/b")])),
            (vec![prefix("/a")], vec![exact("/a/b")], Some(vec![exact("/a/b")])),
            (vec![prefix("/a/b")], vec![prefix("/a")], None),
            (vec![exact("/a")], vec![prefix("/a")], None),
            (vec![exact("/a")], vec![exact("/a")], Some(vec![exact("/a")])),
            (vec![prefix("/a"), prefix("/b")], vec![prefix("/b/c")], Some(vec![prefix("/b/c")])),
            (vec![prefix("/a")], vec![prefix("/a/b"), prefix("/c")], None),
            (vec![prefix("/a")], vec![header("h")], Some(vec![both])),
        ] {
            assert_eq!(matches(&root, &own), expected, "{root:?} {own:?}");
        }
    }

    #[test]
    fn what_a_delegate_does_not_say_the_root_says() {
        let root = HttpRoute {
            name: "root".into(),
            timeout: Some(std::time::Duration::from_secs(1)),
            r#match: vec![prefix("/a")],
            ..HttpRoute::default()
        };
        let own = HttpRoute { name: "own".into(), ..HttpRoute::default() };
        let merged = merged(&root, vec![own]);
        assert_eq!(merged, [HttpRoute { name: "root-own".into(), ..root }]);
    }
}

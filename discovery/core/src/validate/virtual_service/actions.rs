//! Validation of actions on requests: redirects, direct responses, rewrites, retries, mirrors, CORS.

use super::super::findings::{At, Findings};
use super::http::string_match;
use crate::api::values::StringMatch;
use crate::api::virtual_service::{
    CorsPolicy, DirectResponse, HttpRedirect, HttpRetry, HttpRewrite, HttpRoute,
};

/// Methods that a CORS policy can allow.
const METHODS: [&str; 10] =
    ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*"];
/// Envoy's retry conditions for HTTP and gRPC.
/// <https://www.envoyproxy.io/docs/envoy/latest/configuration/http/http_filters/router_filter#x-envoy-retry-on>
const RETRY_ON: [&str; 16] = [
    "5xx",
    "gateway-error",
    "reset",
    "reset-before-request",
    "connect-failure",
    "retriable-4xx",
    "refused-stream",
    "retriable-status-codes",
    "retriable-headers",
    "envoy-ratelimited",
    "http3-post-connect-failure",
    "cancelled",
    "deadline-exceeded",
    "internal",
    "resource-exhausted",
    "unavailable",
];
/// Status codes of Envoy's redirects.
const REDIRECTS: [u32; 5] = [301, 302, 303, 307, 308];
/// Larger bodies use memory in every proxy that has the route.
const LARGE_BODY: usize = 100 * 1024;
const LARGEST_BODY: usize = 1024 * 1024;

pub(super) fn check(out: &mut Findings, at: At<'_>, route: &HttpRoute) {
    if let Some(redirect) = &route.redirect {
        check_redirect(out, at.of("redirect"), redirect);
        let has_prefix =
            |uri: &Option<StringMatch>| uri.is_none() || matches!(uri, Some(StringMatch::Prefix(_)));
        if !redirect.prefix_rewrite.is_empty() && !route.r#match.iter().all(|rule| has_prefix(&rule.uri)) {
            out.error(at.of("redirect").of("prefixRewrite"), "needs every match to be of a prefix");
        }
    }
    if let Some(response) = &route.direct_response {
        direct_response(out, at.of("directResponse"), response);
    }
    if let Some(rewrite) = &route.rewrite {
        check_rewrite(out, at.of("rewrite"), rewrite);
    }
    if let Some(retries) = &route.retries {
        check_retries(out, at.of("retries"), retries);
    }
    if let Some(policy) = &route.cors_policy {
        cors(out, at.of("corsPolicy"), policy);
    }
    mirrors(out, at, route);
}

fn check_redirect(out: &mut Findings, at: At<'_>, redirect: &HttpRedirect) {
    out.at_most_one(
        at,
        &[("uri", !redirect.uri.is_empty()), ("prefixRewrite", !redirect.prefix_rewrite.is_empty())],
    );
    out.at_most_one(at, &[("port", redirect.port.is_some()), ("derivePort", redirect.derive_port.is_some())]);
    let texts = [&redirect.uri, &redirect.prefix_rewrite, &redirect.authority, &redirect.scheme];
    if texts.iter().all(|text| text.is_empty()) && redirect.port.is_none() && redirect.derive_port.is_none() {
        out.error(at, "leads where the request was going");
    }
    let code = redirect.redirect_code;
    if code != 0 && !(300..=399).contains(&code) {
        out.error(at.of("redirectCode"), format!("{code} is no redirect: 301, 302, 303, 307, 308"));
    } else if code != 0 && !REDIRECTS.contains(&code) {
        out.warning(
            at.of("redirectCode"),
            format!("{code} is no redirect that Envoy has, and 301 is answered"),
        );
    }
    if !["", "http", "https"].contains(&redirect.scheme.as_str()) {
        out.error(at.of("scheme"), format!("{:?} is neither http nor https", redirect.scheme));
    }
    if let Some(port) = redirect.port.filter(|port| *port != 0) {
        out.port(at.of("port"), port);
    }
}

fn direct_response(out: &mut Findings, at: At<'_>, response: &DirectResponse) {
    if !(200..=599).contains(&response.status) {
        out.error(at.of("status"), format!("{} is no status: 200 to 599", response.status));
    }
    let Some(body) = &response.body else { return };
    let at = at.of("body");
    out.at_most_one(at, &[("string", body.string.is_some()), ("bytes", body.bytes.is_some())]);
    if let Some(bytes) = &body.bytes
        && !is_base64(bytes)
    {
        out.error(at.of("bytes"), "is no base64");
    }
    let size = body.string.as_ref().or(body.bytes.as_ref()).map_or(0, String::len);
    if size > LARGEST_BODY {
        out.error(at, format!("is {size} bytes long: {LARGEST_BODY} at most"));
    } else if size > LARGE_BODY {
        out.warning(at, format!("is {size} bytes long, and in every proxy"));
    }
}

/// Returns `true` for base64 of either alphabet, with or without padding, as in protobuf's JSON.
fn is_base64(text: &str) -> bool {
    let digits = text.trim_end_matches('=');
    text.len() - digits.len() <= 2
        && digits.len() % 4 != 1
        && digits.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/-_".contains(&byte))
}

fn check_rewrite(out: &mut Findings, at: At<'_>, rewrite: &HttpRewrite) {
    let regex = rewrite.uri_regex_rewrite.as_ref();
    out.at_most_one(at, &[("uri", !rewrite.uri.is_empty()), ("uriRegexRewrite", regex.is_some())]);
    if rewrite.uri.is_empty() && rewrite.authority.is_empty() && regex.is_none() {
        out.error(at, "rewrites nothing");
    }
    if let Some(regex) = regex {
        let at = at.of("uriRegexRewrite");
        out.present(at.of("rewrite"), &regex.rewrite);
        out.regex(at.of("match"), &regex.r#match);
    }
}

/// Checks retries of a `VirtualService` or of the mesh.
fn check_retries(out: &mut Findings, at: At<'_>, retries: &HttpRetry) {
    out.not_negative(at.of("attempts"), retries.attempts);
    let says_more = retries.per_try_timeout.is_some()
        || !retries.retry_on.is_empty()
        || retries.retry_remote_localities.is_some();
    if retries.attempts == 0 && says_more {
        out.error(at.of("attempts"), "0 is no retries, and leaves nothing to say about them");
    }
    out.duration(at.of("perTryTimeout"), retries.per_try_timeout);
    out.duration(at.of("backoff"), retries.backoff);
    let conditions = retries.retry_on.split(',').filter(|_| !retries.retry_on.is_empty());
    for condition in conditions {
        let is_status = condition.parse().is_ok_and(is_status);
        if !is_status && !RETRY_ON.contains(&condition) {
            out.error(
                at.of("retryOn"),
                format!("{condition:?} is neither a condition of Envoy's nor a status"),
            );
        }
    }
}

/// Returns `true` for a registered HTTP status. <https://www.iana.org/assignments/http-status-codes>
const fn is_status(status: u16) -> bool {
    matches!(status, 100..=103 | 200..=208 | 226 | 300..=308 | 400..=418 | 421..=426 | 428 | 429 | 431 | 451)
        || matches!(status, 500..=508 | 510 | 511)
}

fn cors(out: &mut Findings, at: At<'_>, policy: &CorsPolicy) {
    for (index, origin) in policy.allow_origins.iter().enumerate() {
        let list = at.of("allowOrigins");
        let at = list.nth(index);
        match origin {
            StringMatch::Unset => out.error(at, "allows no origin"),
            StringMatch::Exact(text) if text.is_empty() => out.error(at, "allows no origin"),
            origin => string_match(out, at, Some(origin)),
        }
    }
    for (index, method) in policy.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            out.error(at.of("allowMethods").nth(index), format!("{method:?} is no method"));
        }
    }
    for (field, headers) in
        [("allowHeaders", &policy.allow_headers), ("exposeHeaders", &policy.expose_headers)]
    {
        for (index, name) in headers.iter().enumerate() {
            out.cors_header(at.of(field).nth(index), name);
        }
    }
    out.duration(at.of("maxAge"), policy.max_age);
    if policy.max_age.is_some_and(|age| age.subsec_nanos() != 0) {
        out.error(at.of("maxAge"), "is a whole number of seconds");
    }
}

fn mirrors(out: &mut Findings, at: At<'_>, route: &HttpRoute) {
    if let Some(mirror) = &route.mirror {
        out.destination(at.of("mirror"), mirror);
    }
    if let Some(percent) = route.mirror_percent {
        out.warning(at.of("mirrorPercent"), "is deprecated: see mirrorPercentage");
        if percent > 100 {
            out.error(at.of("mirrorPercent"), format!("{percent} is no share: 0 to 100"));
        }
    }
    out.percent(at.of("mirrorPercentage"), route.mirror_percentage);
    for (index, mirror) in route.mirrors.iter().enumerate() {
        let list = at.of("mirrors");
        let at = list.nth(index);
        match &mirror.destination {
            None => out.error(at.of("destination"), "is missing"),
            Some(destination) => out.destination(at.of("destination"), destination),
        }
        out.percent(at.of("percentage"), mirror.percentage);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn base64_is_told_from_text() {
        for (text, is) in [
            ("", true),
            ("YQ==", true),
            ("YQ", true),
            ("-_8=", true),
            ("YQ===", false),
            ("Y", false),
            ("a b", false),
        ] {
            assert_eq!(is_base64(text), is, "{text:?}");
        }
    }
}

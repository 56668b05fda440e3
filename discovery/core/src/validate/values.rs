//! Validation of values that all kinds have: names, hosts, ports, durations, percentages, labels, expressions.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use regex::Regex;

use super::findings::{At, Findings};
use crate::api::values::Percent;
use crate::model::{Protocol, Vip};

/// Maximum length of a host name.
const LONGEST_HOST: usize = 255;
/// Maximum length of a DNS label, and of the name and value of a Kubernetes label.
const LONGEST_LABEL: usize = 63;
/// Maximum length of the prefix of a label's name.
const LONGEST_PREFIX: usize = 253;
/// Maximum length of an expression in Istio; Envoy's own limit is the size of the compiled program.
const LONGEST_REGEX: usize = 1024;
/// Prefix of addresses of Unix sockets.
pub(super) const UNIX: &str = "unix://";

/// Cipher suites of TLS 1.2 and below in Envoy's TLS library.
const CIPHER_SUITES: [&str; 14] = [
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-CHACHA20-POLY1305",
    "ECDHE-RSA-CHACHA20-POLY1305",
    "ECDHE-ECDSA-AES128-SHA",
    "ECDHE-RSA-AES128-SHA",
    "ECDHE-ECDSA-AES256-SHA",
    "ECDHE-RSA-AES256-SHA",
    "AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-SHA",
    "AES256-SHA",
];
/// Curves of ECDH in Envoy's TLS library.
const ECDH_CURVES: [&str; 6] = ["P-256", "P-384", "P-521", "X25519", "X25519MLKEM768", "MLKEM1024"];

/// Returns `true` for a cipher suite of TLS 1.2 or below that Envoy supports. It rejects a listener with another one.
pub fn is_cipher_suite(text: &str) -> bool {
    CIPHER_SUITES.contains(&text)
}

/// Returns `true` for a curve of ECDH that Envoy supports. It rejects a listener with another one.
pub fn is_ecdh_curve(text: &str) -> bool {
    ECDH_CURVES.contains(&text)
}

/// Returns `true` for a DNS label (RFC 1123), case-insensitively.
pub fn is_dns_label(text: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    text.len() <= LONGEST_LABEL
        && is_edge(text.chars().next())
        && is_edge(text.chars().next_back())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Returns `true` for a host name without wildcards; may end with a dot, and its last label must not be a number.
pub fn is_host(name: &str) -> bool {
    let labels = name.strip_suffix('.').unwrap_or(name);
    let last = labels.rsplit('.').next().unwrap_or_default();
    let is_number = name == labels && last.bytes().all(|byte| byte.is_ascii_digit());
    name.len() <= LONGEST_HOST && !is_number && labels.split('.').all(is_dns_label)
}

/// Returns `true` for a host name with an optional wildcard at its beginning: `*`, `*.com`, `*-a.com`, `*a.com`.
pub fn is_wildcard_host(name: &str) -> bool {
    let (first, rest) = name.split_once('.').map_or((name, None), |(first, rest)| (first, Some(rest)));
    let is_first = match first.strip_prefix('*') {
        None => is_dns_label(first),
        Some("") => true,
        Some(tail) => first.len() <= LONGEST_LABEL && is_dns_label(tail.strip_prefix('-').unwrap_or(tail)),
    };
    name.len() <= LONGEST_HOST && is_first && rest.is_none_or(|rest| rest.is_empty() || is_host(rest))
}

/// Returns `true` for a wildcard that is not a whole label: `*a.com`. Envoy matches it as a suffix, DNS does not support it.
pub(super) fn is_partial_wildcard(name: &str) -> bool {
    name.contains('*') && name != "*" && !name.starts_with("*.")
}

/// Returns `true` if all hosts that `narrow` matches are matched by `wide`.
pub(super) fn is_within(narrow: &str, wide: &str) -> bool {
    match (wide.strip_prefix('*'), narrow.strip_prefix('*')) {
        (None, None) => narrow == wide,
        (None, Some(_)) => false,
        (Some(tail), narrow_tail) => narrow_tail.unwrap_or(narrow).ends_with(tail),
    }
}

/// Returns `true` for the name of a protocol, case-insensitively.
pub(super) fn is_protocol(name: &str) -> bool {
    is_http_proxy(name) || !matches!(Protocol::parse(name), Protocol::Auto | Protocol::Hbone)
}

/// Returns `true` if requests can be routed by their content.
pub(super) fn is_http(name: &str) -> bool {
    is_http_proxy(name) || Protocol::parse(name).is_http()
}

/// Returns `true` for protocols over TLS.
pub(super) fn is_tls(name: &str) -> bool {
    matches!(Protocol::parse(name), Protocol::Https | Protocol::Tls)
}

fn is_http_proxy(name: &str) -> bool {
    name.eq_ignore_ascii_case("HTTP_PROXY")
}

/// Returns `true` for an IP address of either family.
pub(super) fn is_ip(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok()
}

// === impl Findings ===

impl Findings {
    /// Checks a host name without wildcards.
    pub(super) fn host(&mut self, at: At<'_>, name: &str) {
        if !is_host(name) {
            self.error(at, format!("{name:?} is no host name"));
        }
    }

    /// Checks a host name with an optional wildcard at its beginning.
    pub(super) fn wildcard_host(&mut self, at: At<'_>, name: &str) {
        if !is_wildcard_host(name) {
            self.error(at, format!("{name:?} is no host name, with or without a wildcard in front"));
        }
    }

    /// Checks a name that becomes part of others: of subsets, ports, namespaces.
    pub(super) fn label(&mut self, at: At<'_>, name: &str) {
        if name.is_empty() {
            self.error(at, "is missing");
        } else if !is_dns_label(name) {
            self.error(at, format!("{name:?} is not a single DNS label"));
        }
    }

    /// Checks that a text is not empty.
    pub(super) fn present(&mut self, at: At<'_>, text: &str) {
        if text.is_empty() {
            self.error(at, "is missing");
        }
    }

    /// Checks a port: 1 to 65535.
    pub(super) fn port(&mut self, at: At<'_>, number: u32) {
        if !(1..=65535).contains(&number) {
            self.error(at, format!("{number} is no port: 1 to 65535"));
        }
    }

    /// Checks the name of a protocol; may be empty.
    pub(super) fn protocol(&mut self, at: At<'_>, name: &str) {
        if !name.is_empty() && !is_protocol(name) {
            self.error(at, format!("{name:?} is no protocol"));
        }
    }

    /// Checks the protocol of a server port: `HTTP_PROXY` is allowed for the egress of a `Sidecar` only.
    pub(super) fn served_protocol(&mut self, at: At<'_>, name: &str) {
        self.protocol(at, name);
        if is_http_proxy(name) {
            self.warning(at, "HTTP_PROXY is for the egress of a Sidecar, and counts as no protocol here");
        }
    }

    /// Checks a duration: whole milliseconds, at least one; may be absent.
    pub(super) fn duration(&mut self, at: At<'_>, duration: Option<Duration>) {
        match duration {
            Some(duration) if duration < Duration::from_millis(1) => {
                self.error(at, format!("{duration:?} is too short: 1 ms at least"));
            }
            Some(duration) if duration.subsec_nanos() % 1_000_000 != 0 => {
                self.error(at, format!("{duration:?} is no whole number of milliseconds"));
            }
            _ => {}
        }
    }

    /// Checks a number that is unsigned in Envoy's API.
    pub(super) fn not_negative(&mut self, at: At<'_>, number: i32) {
        if number < 0 {
            self.error(at, format!("{number} is less than 0"));
        }
    }

    /// Checks a percentage: 0 to 100.
    pub(super) fn whole_percent(&mut self, at: At<'_>, number: i32) {
        if !(0..=100).contains(&number) {
            self.error(at, format!("{number} is no share: 0 to 100"));
        }
    }

    /// Checks a percentage with fractions: 0 to 100.
    pub(super) fn percent(&mut self, at: At<'_>, percent: Option<Percent>) {
        if let Some(Percent { value }) = percent
            && !(0.0..=100.0).contains(&value.0)
        {
            self.error(at.of("value"), format!("{} is no share: 0 to 100", value.0));
        }
    }

    /// Checks an IP address or a network.
    pub(super) fn network(&mut self, at: At<'_>, text: &str) {
        if Vip::parse(text).is_none() {
            self.error(at, format!("{text:?} is neither an IP address nor a network"));
        }
    }

    /// Checks an IP address.
    pub(super) fn ip(&mut self, at: At<'_>, text: &str) {
        if !is_ip(text) {
            self.error(at, format!("{text:?} is no IP address"));
        }
    }

    /// Checks the path after `unix://`: a socket, or `@` and a name of Linux's abstract namespace.
    pub(super) fn unix_path(&mut self, at: At<'_>, path: &str) {
        if !path.starts_with('@') && (!path.starts_with('/') || path.ends_with('/')) {
            self.error(at, format!("{path:?} is no absolute path of a socket"));
        }
    }

    /// Checks labels of an object.
    pub(super) fn labels(&mut self, at: At<'_>, labels: &BTreeMap<String, String>) {
        for (key, value) in labels {
            if !is_label_key(key) {
                self.error(at, format!("{key:?} is no name of a label"));
            }
            if value.len() > LONGEST_LABEL || !(value.is_empty() || is_qualified(value)) {
                self.error(at.of(key), format!("{value:?} is no value of a label"));
            }
        }
    }

    /// Checks labels of a selector. An empty selector selects everything, which is rarely intended.
    pub(super) fn selector(&mut self, at: At<'_>, labels: &BTreeMap<String, String>) {
        for (key, value) in labels {
            if key.is_empty() {
                self.error(at, "a label without a name selects nothing");
            }
            if key.contains('*') || value.contains('*') {
                self.error(at.of(key), "wildcards are not for selectors");
            }
            if value.len() > LONGEST_LABEL {
                self.error(at.of(key), format!("{value:?} is longer than {LONGEST_LABEL} characters"));
            }
        }
        if labels.is_empty() {
            self.warning(at, "is empty: selects every workload of the namespace");
        }
    }

    /// Checks that at most one of some fields is set.
    pub(super) fn at_most_one(&mut self, at: At<'_>, fields: &[(&str, bool)]) {
        let set: Vec<&str> = fields.iter().filter(|(_, is_set)| *is_set).map(|(name, _)| *name).collect();
        if set.len() > 1 {
            self.error(at, format!("has {}, of which one is allowed", set.join(" and ")));
        }
    }

    /// Checks that exactly one of some fields is set.
    pub(super) fn exactly_one(&mut self, at: At<'_>, fields: &[(&str, bool)]) {
        if fields.iter().any(|(_, is_set)| *is_set) {
            self.at_most_one(at, fields);
        } else {
            let names: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
            self.error(at, format!("needs one of {}", names.join(", ")));
        }
    }

    /// Checks the length of a list against Istio's maximum.
    pub(super) fn at_most(&mut self, at: At<'_>, count: usize, most: usize) {
        if count > most {
            self.error(at, format!("{count} are too many: {most} at most"));
        }
    }

    /// Checks an RE2 expression.
    pub(super) fn regex(&mut self, at: At<'_>, text: &str) {
        if text.is_empty() {
            self.error(at, "an empty expression");
        } else if text.len() > LONGEST_REGEX {
            self.error(at, format!("is {} bytes long: {LONGEST_REGEX} at most", text.len()));
        } else if let Err(error) = Regex::new(text) {
            self.error(at, format!("{text:?} is no regular expression: {}", reason(&error)));
        }
    }
}

/// Returns the last line of the parser's message; the others are a drawing.
fn reason(error: &regex::Error) -> String {
    let text = error.to_string();
    let last = text.lines().last().unwrap_or_default();
    last.trim_start_matches("error: ").to_owned()
}

fn is_qualified(text: &str) -> bool {
    let is_edge = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
    is_edge(text.chars().next())
        && is_edge(text.chars().next_back())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.'))
}

fn is_label_key(key: &str) -> bool {
    let (prefix, name) = key.rsplit_once('/').map_or((None, key), |(prefix, name)| (Some(prefix), name));
    let is_prefix = |prefix: &str| prefix.len() <= LONGEST_PREFIX && prefix.split('.').all(is_dns_label);
    prefix.is_none_or(is_prefix) && name.len() <= LONGEST_LABEL && is_qualified(name)
}

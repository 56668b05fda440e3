//! Envoy's matchers of single values: strings, regular expressions, networks, percentages.

use std::net::IpAddr;

use pilot_proto::envoy::config::core::v3::{CidrRange, RuntimeFractionalPercent};
use pilot_proto::envoy::r#type::matcher::v3::string_matcher::MatchPattern;
use pilot_proto::envoy::r#type::matcher::v3::{RegexMatchAndSubstitute, StringMatcher};
use pilot_proto::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use regex::bytes::{Regex, RegexBuilder};

/// Limit of the compiled size of a regular expression.
const SIZE_LIMIT: usize = 4 * 1024 * 1024;

/// Compiles a regular expression with RE2's syntax. Classes (`\w`, `\d`) are ASCII as in RE2; `\p{..}` needs Unicode.
pub(super) fn pattern(text: &str) -> Result<Regex, regex::Error> {
    let build = |unicode| RegexBuilder::new(text).unicode(unicode).size_limit(SIZE_LIMIT).build();
    build(false).or_else(|error| match error {
        regex::Error::Syntax(_) => build(true),
        error => Err(error),
    })
}

/// Returns `true` if the whole text matches. An invalid expression matches nothing: Envoy rejects such configuration.
pub(super) fn matches_fully(regex: &str, text: &str) -> bool {
    pattern(&format!(r"\A(?:{regex})\z")).is_ok_and(|regex| regex.is_match(text.as_bytes()))
}

/// Replaces all matches of an expression; `\1` is the first group, as in RE2.
pub(super) fn substituted(rewrite: &RegexMatchAndSubstitute, text: &str) -> String {
    let regex = rewrite.pattern.as_ref().map(|regex| pattern(&regex.regex));
    let Some(Ok(regex)) = regex else { return text.to_owned() };
    let replaced = regex.replace_all(text.as_bytes(), |groups: &regex::bytes::Captures<'_>| {
        let mut made = Vec::new();
        let mut rest = rewrite.substitution.chars();
        while let Some(next) = rest.next() {
            let group = if next == '\\' { rest.next() } else { None };
            match group.map(|group| (group, group.to_digit(10))) {
                Some((_, Some(number))) => {
                    let found = usize::try_from(number).ok().and_then(|number| groups.get(number));
                    made.extend(found.map(|found| found.as_bytes()).unwrap_or_default());
                }
                Some((escaped, None)) => made.extend(escaped.to_string().bytes()),
                None => made.extend(next.to_string().bytes()),
            }
        }
        made
    });
    String::from_utf8_lossy(&replaced).into_owned()
}

/// Evaluates a string matcher. Custom matchers match nothing.
pub(super) fn text_matches(matcher: &StringMatcher, text: &str) -> bool {
    let fold = |text: &str| if matcher.ignore_case { text.to_ascii_lowercase() } else { text.to_owned() };
    match &matcher.match_pattern {
        Some(MatchPattern::Exact(wanted)) => fold(text) == fold(wanted),
        Some(MatchPattern::Prefix(wanted)) => fold(text).starts_with(&fold(wanted)),
        Some(MatchPattern::Suffix(wanted)) => fold(text).ends_with(&fold(wanted)),
        Some(MatchPattern::Contains(wanted)) => fold(text).contains(&fold(wanted)),
        // `ignore_case` has no effect on patterns.
        Some(MatchPattern::SafeRegex(regex)) => matches_fully(&regex.regex, text),
        Some(MatchPattern::Custom(_)) | None => false,
    }
}

/// Returns the prefix length, plus one, of the longest network that contains the address.
pub(super) fn longest(ranges: &[CidrRange], ip: IpAddr) -> Option<usize> {
    ranges.iter().filter_map(|range| contains(range, ip)).max()
}

fn contains(range: &CidrRange, ip: IpAddr) -> Option<usize> {
    let length = range.prefix_len.as_ref().map_or(0, |length| length.value);
    let prefix: IpAddr = range.address_prefix.parse().ok()?;
    let bits = |ip: IpAddr| match ip {
        IpAddr::V4(ip) => u128::from(ip.to_bits()) << 96,
        IpAddr::V6(ip) => ip.to_bits(),
    };
    let same = (bits(prefix) ^ bits(ip)).leading_zeros() >= length;
    (prefix.is_ipv4() == ip.is_ipv4() && same).then(|| usize::try_from(length).unwrap_or(0) + 1)
}

/// Converts to millionths.
pub(super) fn millionths(percent: FractionalPercent) -> u32 {
    let unit = match percent.denominator() {
        DenominatorType::Hundred => 10_000,
        DenominatorType::TenThousand => 100,
        DenominatorType::Million => 1,
    };
    percent.numerator.saturating_mul(unit).min(MILLION)
}

/// 100 %.
pub(super) const MILLION: u32 = 1_000_000;

/// Converts the default of a runtime fraction to millionths; Envoy's default is zero.
pub(super) fn default_millionths(percent: &RuntimeFractionalPercent) -> u32 {
    percent.default_value.map_or(0, millionths)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_are_re2s_and_match_fully() {
        for (regex, text, expected) in [
            ("/a.*", "/abc", true),
            ("/a", "/abc", false),
            ("b", "/abc", false),
            ("a|/abc", "/abc", true),
            (r"/\d+", "/12", true),
            // Arabic digits are digits to Unicode, not to RE2.
            (r"/\d+", "/\u{661}", false),
            (r"/\pL", "/é", true),
            ("(?i)/A", "/a", true),
            ("/[", "/[", false),
        ] {
            assert_eq!(matches_fully(regex, text), expected, "{regex} {text}");
        }
        let huge = "(a{1000}){1000}";
        assert!(pattern(huge).is_err(), "a pattern may be short and its program huge");
    }

    #[test]
    fn substitutions_name_groups_as_re2_does() {
        let check = |regex: &str, substitution: &str, text: &str, expected: &str| {
            let pattern = pilot_proto::envoy::r#type::matcher::v3::RegexMatcher {
                regex: regex.into(),
                ..Default::default()
            };
            let rewrite =
                RegexMatchAndSubstitute { pattern: Some(pattern), substitution: substitution.into() };
            assert_eq!(substituted(&rewrite, text), expected, "{regex} {substitution}");
        };
        check("^/service/([^/]+)(/.*)$", r"\2/instance/\1", "/service/foo/v1/api", "/v1/api/instance/foo");
        check("one", "two", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/two/zzz");
        check("^(.*?)one(.*)$", r"\1two\2", "/xxx/one/yyy/one/zzz", "/xxx/two/yyy/one/zzz");
        check("b", r"[\0]\\", "abc", r"a[b]\c");
        check("(?i)/xxx/", "/yyy/", "/aaa/XxX/bbb", "/aaa/yyy/bbb");
    }

    #[test]
    fn the_longest_network_counts() {
        let range = |text: &str| {
            let (prefix, length) = text.split_once('/').unwrap();
            CidrRange {
                address_prefix: prefix.into(),
                prefix_len: Some(pilot_proto::google::protobuf::UInt32Value {
                    value: length.parse().unwrap(),
                }),
            }
        };
        let ranges: Vec<_> = ["10.0.0.0/8", "10.1.0.0/16", "0.0.0.0/0", "fd00::/8"].map(range).into();
        for (ip, expected) in [
            ("10.1.2.3", Some(17)),
            ("10.2.0.0", Some(9)),
            ("9.9.9.9", Some(1)),
            ("fd00::1", Some(9)),
            ("fe80::1", None),
        ] {
            assert_eq!(longest(&ranges, ip.parse().unwrap()), expected, "{ip}");
        }
    }
}

//! Envoy's matchers of requests: headers and query parameters.

use pilot_proto::envoy::config::route::v3::header_matcher::HeaderMatchSpecifier as Wanted;
use pilot_proto::envoy::config::route::v3::query_parameter_matcher::QueryParameterMatchSpecifier;
use pilot_proto::envoy::config::route::v3::{HeaderMatcher, QueryParameterMatcher};
use pilot_proto::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};

use super::matching::{matches_fully, text_matches};
use super::request_state::RequestState;

// === impl RequestState ===

impl RequestState {
    /// Returns the value of a header, including those that the proxy sets.
    pub(super) fn header(&self, name: &str) -> Option<String> {
        match name.to_ascii_lowercase().as_str() {
            ":scheme" | "x-forwarded-proto" => Some(self.scheme.clone()),
            name => self.request.header(name),
        }
    }

    /// Evaluates a header matcher.
    pub(super) fn has_header(&self, matcher: &HeaderMatcher) -> bool {
        let value = self.header(&matcher.name);
        let value = match value {
            None if matcher.treat_missing_header_as_empty => Some(String::new()),
            value => value,
        };
        let present = match &matcher.header_match_specifier {
            None => Some(true),
            Some(Wanted::PresentMatch(present)) => Some(*present),
            Some(_) => None,
        };
        if let Some(present) = present {
            return (value.is_some() == present) != matcher.invert_match;
        }
        // What is not there does not match, and does not match the inversion either.
        let Some(value) = value else { return false };
        let text = |wanted: &str, kind: fn(String) -> MatchPattern| {
            let matcher =
                StringMatcher { match_pattern: Some(kind(wanted.to_owned())), ..StringMatcher::default() };
            text_matches(&matcher, &value)
        };
        #[expect(deprecated, reason = "configuration may still say it so")]
        let holds = match &matcher.header_match_specifier {
            Some(Wanted::StringMatch(wanted)) => text_matches(wanted, &value),
            Some(Wanted::SafeRegexMatch(regex)) => matches_fully(&regex.regex, &value),
            Some(Wanted::RangeMatch(range)) => {
                value.parse::<i64>().is_ok_and(|number| (range.start..range.end).contains(&number))
            }
            Some(Wanted::ExactMatch(wanted)) => wanted.is_empty() || text(wanted, MatchPattern::Exact),
            Some(Wanted::PrefixMatch(wanted)) => text(wanted, MatchPattern::Prefix),
            Some(Wanted::SuffixMatch(wanted)) => text(wanted, MatchPattern::Suffix),
            Some(Wanted::ContainsMatch(wanted)) => text(wanted, MatchPattern::Contains),
            Some(Wanted::PresentMatch(_)) | None => false,
        };
        holds != matcher.invert_match
    }

    /// Evaluates a query parameter matcher; the first of repeated parameters counts.
    pub(super) fn has_parameter(&self, matcher: &QueryParameterMatcher) -> bool {
        let value = self.parameter(&matcher.name);
        match &matcher.query_parameter_match_specifier {
            Some(QueryParameterMatchSpecifier::StringMatch(wanted)) => {
                value.is_some_and(|value| text_matches(wanted, value))
            }
            Some(QueryParameterMatchSpecifier::PresentMatch(present)) => value.is_some() == *present,
            None => value.is_some(),
        }
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        let (_, query) = self.request.path.split_once('?')?;
        let query = query.split('#').next().unwrap_or_default();
        let pairs = query.split('&').map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        pairs.into_iter().find(|(key, _)| *key == name).map(|(_, value)| value)
    }
}

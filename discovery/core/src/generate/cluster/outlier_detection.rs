//! `outlierDetection`: ejection of failing endpoints.

use pilot_proto::envoy::config::cluster::v3::{Cluster, OutlierDetection};
use pilot_proto::envoy::config::common::matcher::v3::{
    HttpHeadersMatch, MatchPredicate,
    match_predicate::{MatchSet, Rule},
};
use pilot_proto::envoy::config::route::v3::{HeaderMatcher, header_matcher::HeaderMatchSpecifier};
use pilot_proto::envoy::extensions::upstreams::http::v3::http_protocol_options as http;
use pilot_proto::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use pilot_proto::envoy::r#type::v3::Percent;
use pilot_proto::google::protobuf::UInt32Value;

use super::http_options::HttpOptions;
use crate::api::destination_rule as api;
use crate::generate::proto::{duration, number};
use crate::generate::traffic_policy::MergedTrafficPolicy;

/// Sets the outlier detection of the policy.
pub(super) fn apply(cluster: &mut Cluster, options: &mut HttpOptions, policy: &MergedTrafficPolicy) {
    let Some(settings) = &policy.outlier_detection else { return };
    cluster.outlier_detection = Some(detection(settings));
    // Envoy's default of 50 % is too high for services with few endpoints, half of which may fail.
    if let Ok(percent) = u32::try_from(settings.min_health_percent) {
        cluster.common_lb_config.get_or_insert_default().healthy_panic_threshold =
            Some(Percent { value: percent.into() });
    }
    options.outlier_detection = errors(&settings.outlier_detection_http_error_codes);
}

fn detection(settings: &api::OutlierDetection) -> OutlierDetection {
    // Success rates need more requests than most services receive, and Istio's API does not have them.
    let mut detection = OutlierDetection {
        enforcing_success_rate: number(0),
        interval: settings.interval.and_then(duration),
        base_ejection_time: settings.base_ejection_time.and_then(duration),
        max_ejection_percent: u32::try_from(settings.max_ejection_percent)
            .ok()
            .filter(|percent| *percent > 0)
            .and_then(number),
        consecutive_5xx: settings.consecutive_5xx_errors.and_then(number),
        enforcing_consecutive_5xx: settings.consecutive_5xx_errors.map(enforced),
        consecutive_gateway_failure: settings.consecutive_gateway_errors.and_then(number),
        enforcing_consecutive_gateway_failure: settings.consecutive_gateway_errors.map(enforced),
        ..OutlierDetection::default()
    };
    if settings.split_external_local_origin_errors {
        detection.split_external_local_origin_errors = true;
        detection.enforcing_local_origin_success_rate = number(0);
        if let Some(failures) = settings.consecutive_local_origin_failures.filter(|failures| *failures > 0) {
            detection.consecutive_local_origin_failure = number(failures);
            detection.enforcing_consecutive_local_origin_failure = number(100);
        }
    }
    detection
}

/// Returns the enforcement percentage; a threshold of 0 disables it.
fn enforced(errors: u32) -> UInt32Value {
    UInt32Value { value: if errors > 0 { 100 } else { 0 } }
}

/// Restricts errors to the listed status codes; empty: Envoy's default.
fn errors(statuses: &[u32]) -> Option<http::OutlierDetection> {
    let one = |status: &u32| {
        let exact = StringMatcher {
            match_pattern: Some(MatchPattern::Exact(status.to_string())),
            ..StringMatcher::default()
        };
        let header = HeaderMatcher {
            name: ":status".into(),
            header_match_specifier: Some(HeaderMatchSpecifier::StringMatch(exact)),
            ..HeaderMatcher::default()
        };
        let headers = HttpHeadersMatch { headers: vec![header] };
        MatchPredicate { rule: Some(Rule::HttpResponseHeadersMatch(headers)) }
    };
    let matcher = match statuses {
        [] => return None,
        [status] => one(status),
        several => {
            let rules = several.iter().map(one).collect();
            MatchPredicate { rule: Some(Rule::OrMatch(MatchSet { rules })) }
        }
    };
    Some(http::OutlierDetection { error_matcher: Some(matcher) })
}

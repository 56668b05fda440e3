//! `outlierDetection`: which endpoints are left alone for a while.

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

/// Sets what the policy says about bad endpoints.
pub(super) fn apply(cluster: &mut Cluster, options: &mut HttpOptions, policy: &MergedTrafficPolicy) {
    let Some(said) = &policy.outlier_detection else { return };
    cluster.outlier_detection = Some(detection(said));
    // Envoy's 50 % is for hundreds of endpoints; services have a handful, of which half may well be bad.
    if let Ok(percent) = u32::try_from(said.min_health_percent) {
        cluster.common_lb_config.get_or_insert_default().healthy_panic_threshold =
            Some(Percent { value: percent.into() });
    }
    options.outliers = errors(&said.outlier_detection_http_error_codes);
}

fn detection(said: &api::OutlierDetection) -> OutlierDetection {
    // Success rates want more requests than most services have; Istio's API has no word for them.
    let mut made = OutlierDetection {
        enforcing_success_rate: number(0),
        interval: said.interval.and_then(duration),
        base_ejection_time: said.base_ejection_time.and_then(duration),
        max_ejection_percent: u32::try_from(said.max_ejection_percent)
            .ok()
            .filter(|percent| *percent > 0)
            .and_then(number),
        consecutive_5xx: said.consecutive_5xx_errors.and_then(number),
        enforcing_consecutive_5xx: said.consecutive_5xx_errors.map(enforced),
        consecutive_gateway_failure: said.consecutive_gateway_errors.and_then(number),
        enforcing_consecutive_gateway_failure: said.consecutive_gateway_errors.map(enforced),
        ..OutlierDetection::default()
    };
    if said.split_external_local_origin_errors {
        made.split_external_local_origin_errors = true;
        made.enforcing_local_origin_success_rate = number(0);
        if let Some(failures) = said.consecutive_local_origin_failures.filter(|failures| *failures > 0) {
            made.consecutive_local_origin_failure = number(failures);
            made.enforcing_consecutive_local_origin_failure = number(100);
        }
    }
    made
}

/// A number of 0 turns the count off.
fn enforced(errors: u32) -> UInt32Value {
    UInt32Value { value: if errors > 0 { 100 } else { 0 } }
}

/// Only these statuses are errors, if any are named.
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

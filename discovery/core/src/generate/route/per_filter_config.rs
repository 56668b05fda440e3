//! Per-route configuration of HTTP filters: fault injection and CORS.
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPFaultInjection>

use std::collections::BTreeMap;

use pilot_proto::envoy::config::core::v3::RuntimeFractionalPercent;
use pilot_proto::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay};
use pilot_proto::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use pilot_proto::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort};
use pilot_proto::envoy::r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern};
use pilot_proto::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use pilot_proto::google::protobuf::{Any, BoolValue};

use super::context::RuleError;
use super::matches::string_matcher;
use crate::api::values::{Percent, StringMatch, grpc_status_code};
use crate::api::virtual_service::{Abort, Delay, FaultInjection, HttpRoute, UnmatchedPreflights};
use crate::generate::proto::{any, duration};

/// Returns the configuration of each filter by its name.
pub(super) fn per_filter_config(
    rule: &HttpRoute,
    reject: &mut impl FnMut(RuleError),
) -> BTreeMap<String, Any> {
    let fault = rule.fault.as_ref().and_then(|spec| fault(spec, reject)).and_then(|fault| any(&fault));
    let cors = rule.cors_policy.as_ref().and_then(|spec| any(&cors(spec)));
    let configs = [("envoy.filters.http.fault", fault), ("envoy.filters.http.cors", cors)];
    configs.into_iter().filter_map(|(name, config)| Some((name.to_owned(), config?))).collect()
}

/// Converts a percentage, clamped to 0 to 100.
pub(super) fn fractional_percent(percent: Percent) -> FractionalPercent {
    // Rounded, because 57.3 has no exact binary representation.
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "0 to a million; NaN is 0")]
    let numerator = (percent.value.0.clamp(0.0, 100.0) * 10_000.0).round() as u32;
    FractionalPercent { numerator, denominator: DenominatorType::Million.into() }
}

/// Converts a whole percentage, at most 100.
pub(super) fn whole_percent(percent: u32) -> FractionalPercent {
    FractionalPercent { numerator: percent.min(100), denominator: DenominatorType::Hundred.into() }
}

fn fault(spec: &FaultInjection, reject: &mut impl FnMut(RuleError)) -> Option<HttpFault> {
    let delay = spec.delay.as_ref().and_then(|spec| delay(spec).map_err(&mut *reject).ok());
    let abort = spec.abort.as_ref().and_then(|spec| abort(spec).map_err(&mut *reject).ok());
    (delay.is_some() || abort.is_some()).then(|| HttpFault { delay, abort, ..HttpFault::default() })
}

fn delay(spec: &Delay) -> Result<FaultDelay, RuleError> {
    let fixed = spec.fixed_delay.filter(|delay| !delay.is_zero()).ok_or("fault.delay has no fixedDelay")?;
    let percent = || whole_percent(u32::try_from(spec.percent).unwrap_or_default());
    Ok(FaultDelay {
        percentage: Some(spec.percentage.map_or_else(percent, fractional_percent)),
        fault_delay_secifier: duration(fixed).map(fault_delay::FaultDelaySecifier::FixedDelay),
    })
}

/// Translates `abort`. Without a percentage no request is aborted, as the API defines it.
fn abort(spec: &Abort) -> Result<FaultAbort, RuleError> {
    let error = match (spec.http_status, &spec.grpc_status) {
        (Some(status), _) => {
            let status = u32::try_from(status).ok().filter(|status| (200..600).contains(status));
            fault_abort::ErrorType::HttpStatus(status.ok_or("fault.abort.httpStatus is not 200 to 599")?)
        }
        (None, Some(name)) => {
            let code = grpc_status_code(name);
            fault_abort::ErrorType::GrpcStatus(code.ok_or("fault.abort.grpcStatus is not a gRPC status")?)
        }
        (None, None) => return Err("fault.abort has neither httpStatus nor grpcStatus"),
    };
    Ok(FaultAbort {
        percentage: spec.percentage.map(fractional_percent),
        error_type: Some(error),
        ..FaultAbort::default()
    })
}

fn cors(spec: &crate::api::virtual_service::CorsPolicy) -> CorsPolicy {
    let exact = |origin: &String| string_matcher(&StringMatch::Exact(origin.clone()));
    let origins: Vec<StringMatcher> = if spec.allow_origins.is_empty() {
        spec.allow_origin.iter().filter_map(exact).collect()
    } else {
        spec.allow_origins.iter().map(origin).collect()
    };
    CorsPolicy {
        allow_origin_string_match: origins,
        allow_methods: spec.allow_methods.join(","),
        allow_headers: spec.allow_headers.join(","),
        expose_headers: spec.expose_headers.join(","),
        max_age: spec.max_age.map(|age| age.as_secs().to_string()).unwrap_or_default(),
        allow_credentials: spec.allow_credentials.map(|value| BoolValue { value }),
        filter_enabled: Some(RuntimeFractionalPercent {
            default_value: Some(whole_percent(100)),
            ..RuntimeFractionalPercent::default()
        }),
        forward_not_matching_preflights: Some(BoolValue {
            value: spec.unmatched_preflights != UnmatchedPreflights::Ignore,
        }),
        ..CorsPolicy::default()
    }
}

/// Matches an allowed origin; an empty match allows any origin.
fn origin(origin: &StringMatch) -> StringMatcher {
    string_matcher(origin).unwrap_or_else(|| StringMatcher {
        match_pattern: Some(MatchPattern::SafeRegex(super::matches::regex(".*"))),
        ..StringMatcher::default()
    })
}

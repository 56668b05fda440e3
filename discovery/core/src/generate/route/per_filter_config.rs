//! What filters do to the requests of one route: faults, and cross-origin requests.
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPFaultInjection>

use std::collections::BTreeMap;

use pilot_proto::envoy::config::core::v3::RuntimeFractionalPercent;
use pilot_proto::envoy::extensions::filters::common::fault::v3::{FaultDelay, fault_delay};
use pilot_proto::envoy::extensions::filters::http::cors::v3::CorsPolicy;
use pilot_proto::envoy::extensions::filters::http::fault::v3::{FaultAbort, HttpFault, fault_abort};
use pilot_proto::envoy::r#type::matcher::v3::{StringMatcher, string_matcher};
use pilot_proto::envoy::r#type::v3::{FractionalPercent, fractional_percent::DenominatorType};
use pilot_proto::google::protobuf::{Any, BoolValue};

use super::http_routes::RuleError;
use super::matches::pattern;
use crate::api::values::{Percent, StringMatch};
use crate::api::virtual_service::{Abort, Delay, FaultInjection, HttpRoute, UnmatchedPreflights};
use crate::generate::proto::{any, duration};

/// Codes of gRPC by number. <https://github.com/grpc/grpc/blob/master/doc/statuscodes.md>
const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// Configuration by name of the filter.
pub(super) fn per_filter_config(rule: &HttpRoute, tell: &mut impl FnMut(RuleError)) -> BTreeMap<String, Any> {
    let fault = rule.fault.as_ref().and_then(|said| fault(said, tell)).and_then(|fault| any(&fault));
    let cors = rule.cors_policy.as_ref().and_then(|said| any(&cors(said)));
    let found = [("envoy.filters.http.fault", fault), ("envoy.filters.http.cors", cors)];
    found.into_iter().filter_map(|(name, config)| Some((name.to_owned(), config?))).collect()
}

/// A share; more than all is all.
pub(super) fn share(said: Percent) -> FractionalPercent {
    // Rounded: as a binary number 57.3 is a little less.
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "0 to a million; what is not a number is 0"
    )]
    let numerator = (said.value.0.clamp(0.0, 100.0) * 10_000.0).round() as u32;
    FractionalPercent { numerator, denominator: DenominatorType::Million.into() }
}

/// A share in whole hundredths.
pub(super) fn hundredths(said: u32) -> FractionalPercent {
    FractionalPercent { numerator: said.min(100), denominator: DenominatorType::Hundred.into() }
}

fn fault(said: &FaultInjection, tell: &mut impl FnMut(RuleError)) -> Option<HttpFault> {
    let mut informational_headers = |made: Result<_, RuleError>| made.map_err(&mut *tell).ok();
    let delay = said.delay.as_ref().and_then(|said| informational_headers(delay(said)));
    let abort = said.abort.as_ref().and_then(|said| abort(said).map_err(&mut *tell).ok());
    (delay.is_some() || abort.is_some()).then(|| HttpFault { delay, abort, ..HttpFault::default() })
}

fn delay(said: &Delay) -> Result<FaultDelay, RuleError> {
    let fixed = said.fixed_delay.filter(|delay| !delay.is_zero()).ok_or("fault.delay has no fixedDelay")?;
    let percent = || hundredths(u32::try_from(said.percent).unwrap_or_default());
    Ok(FaultDelay {
        percentage: Some(said.percentage.map_or_else(percent, share)),
        fault_delay_secifier: duration(fixed).map(fault_delay::FaultDelaySecifier::FixedDelay),
    })
}

/// Without a share no request is aborted, as the API has it.
fn abort(said: &Abort) -> Result<FaultAbort, RuleError> {
    let error = match (said.http_status, &said.grpc_status) {
        (Some(status), _) => {
            let status = u32::try_from(status).ok().filter(|status| (200..600).contains(status));
            fault_abort::ErrorType::HttpStatus(status.ok_or("fault.abort.httpStatus is not 200 to 599")?)
        }
        (None, Some(name)) => {
            let code = GRPC.iter().position(|known| known == name).and_then(|code| u32::try_from(code).ok());
            fault_abort::ErrorType::GrpcStatus(code.ok_or("fault.abort.grpcStatus is no status of gRPC")?)
        }
        (None, None) => return Err("fault.abort has neither httpStatus nor grpcStatus"),
    };
    Ok(FaultAbort {
        percentage: said.percentage.map(share),
        error_type: Some(error),
        ..FaultAbort::default()
    })
}

fn cors(said: &crate::api::virtual_service::CorsPolicy) -> CorsPolicy {
    let exact = |origin: &String| pattern(&StringMatch::Exact(origin.clone()));
    let origins: Vec<StringMatcher> = if said.allow_origins.is_empty() {
        said.allow_origin.iter().filter_map(exact).collect()
    } else {
        said.allow_origins.iter().map(origin).collect()
    };
    CorsPolicy {
        allow_origin_string_match: origins,
        allow_methods: said.allow_methods.join(","),
        allow_headers: said.allow_headers.join(","),
        expose_headers: said.expose_headers.join(","),
        max_age: said.max_age.map(|age| age.as_secs().to_string()).unwrap_or_default(),
        allow_credentials: said.allow_credentials.map(|value| BoolValue { value }),
        filter_enabled: Some(RuntimeFractionalPercent {
            default_value: Some(hundredths(100)),
            ..RuntimeFractionalPercent::default()
        }),
        forward_not_matching_preflights: Some(BoolValue {
            value: said.unmatched_preflights != UnmatchedPreflights::Ignore,
        }),
        ..CorsPolicy::default()
    }
}

/// One origin that is allowed; one of which nothing is said is any.
fn origin(said: &StringMatch) -> StringMatcher {
    pattern(said).unwrap_or_else(|| StringMatcher {
        match_pattern: Some(string_matcher::MatchPattern::SafeRegex(super::matches::regex(".*"))),
        ..StringMatcher::default()
    })
}

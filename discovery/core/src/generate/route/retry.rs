//! Retry policies.
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPRetry>

use pilot_proto::envoy::config::route::v3::{RetryPolicy, retry_policy};
use pilot_proto::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use pilot_proto::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;

use crate::api::virtual_service::HttpRetry;
use crate::generate::proto::{any, duration, number};

/// Istio's default conditions, safe for every request: the server did not process it or asks for a retry.
const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

/// Envoy's condition for the status codes of `retriable_status_codes`.
const BY_STATUS: &str = "retriable-status-codes";

/// Selection of the endpoint of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostSelection {
    /// Load balancing; a retry avoids endpoints that failed.
    Any,
    /// Consistent hashing; a retry stays with the endpoint that has the state of the client.
    Hashed,
}

/// Returns the retry policy; `None`: no retries. A missing `configured` is Istio's default, two attempts.
pub(super) fn retry_policy(configured: Option<&HttpRetry>, selection: HostSelection) -> Option<RetryPolicy> {
    let default = HttpRetry { attempts: 2, ..HttpRetry::default() };
    let retry = configured.unwrap_or(&default);
    let attempts = u32::try_from(retry.attempts).ok().filter(|attempts| *attempts > 0)?;
    let (retry_on, retriable_status_codes) = conditions(&retry.retry_on);
    let avoids_previous_hosts = retry.retry_ignore_previous_hosts.unwrap_or(selection == HostSelection::Any);
    Some(RetryPolicy {
        retry_on,
        retriable_status_codes,
        num_retries: number(attempts),
        per_try_timeout: retry.per_try_timeout.and_then(duration),
        retry_host_predicate: avoids_previous_hosts.then(previous_hosts).into_iter().collect(),
        retry_priority: (retry.retry_remote_localities == Some(true)).then(previous_priorities),
        host_selection_retry_max_attempts: 5,
        retry_back_off: retry.backoff.filter(|interval| !interval.is_zero()).map(|interval| {
            retry_policy::RetryBackOff { base_interval: duration(interval), max_interval: None }
        }),
        ..RetryPolicy::default()
    })
}

/// Splits Istio's `retryOn` into Envoy's conditions and status codes.
fn conditions(retry_on: &str) -> (String, Vec<u32>) {
    if retry_on.is_empty() {
        return (RETRY_ON.to_owned(), Vec::new());
    }
    let (mut names, mut codes) = (Vec::new(), Vec::new());
    for part in retry_on.split(',').map(str::trim).filter(|part| !part.is_empty()) {
        match part.parse::<u32>() {
            Ok(code) if (100..600).contains(&code) => codes.push(code),
            _ => names.push(part),
        }
    }
    if !codes.is_empty() && !names.contains(&BY_STATUS) {
        names.push(BY_STATUS);
    }
    (names.join(","), codes)
}

fn previous_hosts() -> retry_policy::RetryHostPredicate {
    retry_policy::RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".into(),
        config_type: any(&PreviousHostsPredicate {})
            .map(retry_policy::retry_host_predicate::ConfigType::TypedConfig),
    }
}

fn previous_priorities() -> retry_policy::RetryPriority {
    retry_policy::RetryPriority {
        name: "envoy.retry_priorities.previous_priorities".into(),
        // Priorities are recomputed after every second attempt.
        config_type: any(&PreviousPrioritiesConfig { update_frequency: 2 })
            .map(retry_policy::retry_priority::ConfigType::TypedConfig),
    }
}

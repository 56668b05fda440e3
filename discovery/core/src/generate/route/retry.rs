//! What is tried again.
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/#HTTPRetry>

use pilot_proto::envoy::config::route::v3::{RetryPolicy, retry_policy};
use pilot_proto::envoy::extensions::retry::host::previous_hosts::v3::PreviousHostsPredicate;
use pilot_proto::envoy::extensions::retry::priority::previous_priorities::v3::PreviousPrioritiesConfig;

use crate::api::virtual_service::HttpRetry;
use crate::generate::proto::{any, duration, number};

/// Safe for every request: the server did not see it, or asks for it.
const RETRY_ON: &str = "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";

/// Envoy's name for "one of the status codes that are listed".
const BY_STATUS: &str = "retriable-status-codes";

/// Whether the endpoint follows from the request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum HostSelection {
    /// Any will do, and the next try is better made elsewhere.
    Any,
    /// It is chosen by a hash: elsewhere nobody knows the client.
    Hashed,
}

/// The policy; `None`: nothing is tried again. What nobody says is Istio's default.
pub(super) fn retry_policy(said: Option<&HttpRetry>, endpoint: HostSelection) -> Option<RetryPolicy> {
    let default = HttpRetry { attempts: 2, ..HttpRetry::default() };
    let said = said.unwrap_or(&default);
    let attempts = u32::try_from(said.attempts).ok().filter(|attempts| *attempts > 0)?;
    let (retry_on, retriable_status_codes) = conditions(&said.retry_on);
    let elsewhere = said.retry_ignore_previous_hosts.unwrap_or(endpoint == HostSelection::Any);
    Some(RetryPolicy {
        retry_on,
        retriable_status_codes,
        num_retries: number(attempts),
        per_try_timeout: said.per_try_timeout.and_then(duration),
        retry_host_predicate: elsewhere.then(previous_hosts).into_iter().collect(),
        retry_priority: (said.retry_remote_localities == Some(true)).then(previous_priorities),
        host_selection_retry_max_attempts: 5,
        retry_back_off: said
            .backoff
            .filter(|pause| !pause.is_zero())
            .map(|pause| retry_policy::RetryBackOff { base_interval: duration(pause), max_interval: None }),
        ..RetryPolicy::default()
    })
}

/// Envoy's conditions, and status codes: Istio writes both in one list.
fn conditions(said: &str) -> (String, Vec<u32>) {
    if said.is_empty() {
        return (RETRY_ON.to_owned(), Vec::new());
    }
    let (mut names, mut codes) = (Vec::new(), Vec::new());
    for part in said.split(',').map(str::trim).filter(|part| !part.is_empty()) {
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
        // Every second try looks at the localities anew.
        config_type: any(&PreviousPrioritiesConfig { update_frequency: 2 })
            .map(retry_policy::retry_priority::ConfigType::TypedConfig),
    }
}

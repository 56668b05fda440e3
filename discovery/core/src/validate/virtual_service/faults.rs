//! Validation of fault injection: delays and aborts.

use super::super::findings::{At, Findings};
use crate::api::values::{Percent, grpc_status_code};
use crate::api::virtual_service::{Abort, Delay, HttpRoute};

/// Envoy's percentages are in millionths.
const SMALLEST_SHARE: f64 = 0.0001;

pub(super) fn check(out: &mut Findings, at: At<'_>, route: &HttpRoute) {
    let Some(fault) = &route.fault else { return };
    let at = at.of("fault");
    if fault.delay.is_none() && fault.abort.is_none() {
        out.error(at, "needs delay or abort");
    }
    if let Some(late) = &fault.delay {
        delay(out, at.of("delay"), late);
    }
    if let Some(failed) = &fault.abort {
        abort(out, at.of("abort"), failed);
    }
}

fn delay(out: &mut Findings, at: At<'_>, delay: &Delay) {
    out.at_most_one(
        at,
        &[
            ("fixedDelay", delay.fixed_delay.is_some()),
            ("exponentialDelay", delay.exponential_delay.is_some()),
        ],
    );
    out.duration(at.of("fixedDelay"), delay.fixed_delay);
    if delay.exponential_delay.is_some() {
        out.error(at.of("exponentialDelay"), "no version of Istio's API has given this a meaning");
    }
    out.whole_percent(at.of("percent"), delay.percent);
    share(out, at.of("percentage"), delay.percentage);
}

fn abort(out: &mut Findings, at: At<'_>, abort: &Abort) {
    let ways = [
        ("httpStatus", abort.http_status.is_some()),
        ("grpcStatus", abort.grpc_status.is_some()),
        ("http2Error", abort.http2_error.is_some()),
    ];
    out.at_most_one(at, &ways);
    if ways.iter().all(|(_, is_set)| !is_set) {
        out.warning(at, "has no effect without httpStatus or grpcStatus");
    }
    if let Some(status) = abort.http_status
        && !(200..=599).contains(&status)
    {
        out.error(at.of("httpStatus"), format!("{status} is no status: 200 to 599"));
    }
    if let Some(status) = &abort.grpc_status
        && grpc_status_code(status).is_none()
    {
        out.error(at.of("grpcStatus"), format!("{status:?} is no status of gRPC"));
    }
    if abort.http2_error.is_some() {
        out.error(at.of("http2Error"), "no version of Istio's API has given this a meaning");
    }
    share(out, at.of("percentage"), abort.percentage);
}

fn share(out: &mut Findings, at: At<'_>, share: Option<Percent>) {
    out.percent(at, share);
    if let Some(Percent { value }) = share
        && value.0 > 0.0
        && value.0 < SMALLEST_SHARE
    {
        out.error(at.of("value"), format!("{} is less than {SMALLEST_SHARE}", value.0));
    }
}

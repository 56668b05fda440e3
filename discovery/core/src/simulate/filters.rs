//! HTTP filters that may respond: fault and CORS, configured by route, virtual host or route configuration.
//! All other filters are skipped and named.

use pilot_proto::envoy::config::route::v3::{CorsPolicy, FilterConfig, route};
use pilot_proto::envoy::extensions::filters::http::cors::v3::CorsPolicy as CorsFilterPolicy;
use pilot_proto::envoy::extensions::filters::http::fault::v3::{HttpFault, fault_abort};
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_filter,
};
use pilot_proto::google::protobuf::Any;

use super::matching::{MILLION, default_millionths, millionths, text_matches};
use super::proxy_config_view::unpack;
use super::request_state::{MatchedRoute, RequestState};
use super::route_policy::{cluster_names, seconds};
use super::trace::{Answer, Stage, Step, Trace, Verdict};

/// Configuration of a filter at one level.
enum Setting {
    /// Not configured.
    Silent,
    /// Disabled.
    Off,
    /// Enabled, with an optional configuration.
    On(Option<Any>),
}

/// Evaluates the filters in order; some respond.
pub(super) fn http_filters(
    manager: &HttpConnectionManager,
    found: Option<MatchedRoute<'_>>,
    asked: &RequestState,
    trace: &mut Trace,
) -> Option<Verdict> {
    for filter in &manager.http_filters {
        let Some(http_filter::ConfigType::TypedConfig(general)) = &filter.config_type else { continue };
        let setting = setting(filter, found);
        let own = match setting {
            Setting::Off => continue,
            Setting::Silent => None,
            Setting::On(config) => config,
        };
        let kind = general.type_url.rsplit_once('/').map_or("", |(_, kind)| kind);
        let mut say = |what: String| {
            let name = filter.name.clone();
            trace.steps.push(Step { stage: Stage::HttpFilter, name, what, origins: Vec::new() });
        };
        match kind {
            "envoy.extensions.filters.http.router.v3.Router" => return None,
            "envoy.extensions.filters.http.grpc_stats.v3.FilterConfig"
            | "envoy.extensions.filters.http.dynamic_forward_proxy.v3.FilterConfig" => {}
            "envoy.extensions.filters.http.fault.v3.HTTPFault" => {
                let config = own.as_ref().and_then(unpack::<HttpFault>);
                let Some(config) = config.or_else(|| unpack(general)) else { continue };
                if let Some(verdict) = fault(&config, found, asked, &mut say) {
                    return Some(verdict);
                }
            }
            "envoy.extensions.filters.http.cors.v3.Cors" => {
                let Some(policy) = cors_policy(own.as_ref(), found) else { continue };
                if let Some(verdict) = cors(&policy, asked, &mut say) {
                    return Some(verdict);
                }
            }
            _ => say("is passed; what it does is not imagined".to_owned()),
        }
    }
    None
}

/// Returns the most specific configuration of a filter.
fn setting(filter: &HttpFilter, found: Option<MatchedRoute<'_>>) -> Setting {
    let places = found.into_iter().flat_map(|found| {
        [
            &found.route.typed_per_filter_config,
            &found.host.typed_per_filter_config,
            &found.routes.typed_per_filter_config,
        ]
    });
    let said = places.filter_map(|place| place.get(&filter.name)).map(|config| {
        match unpack::<FilterConfig>(config) {
            Some(wrapped) if wrapped.disabled => Setting::Off,
            Some(wrapped) => Setting::On(wrapped.config),
            None => Setting::On(Some(config.clone())),
        }
    });
    let otherwise = if filter.disabled { Setting::Off } else { Setting::Silent };
    said.into_iter().next().unwrap_or(otherwise)
}

/// A fault for all requests ends the call; other faults are listed and do not apply.
fn fault(
    config: &HttpFault,
    found: Option<MatchedRoute<'_>>,
    asked: &RequestState,
    say: &mut dyn FnMut(String),
) -> Option<Verdict> {
    let goes_to = found.map(|found| cluster_names(found.route)).unwrap_or_default();
    let concerns = config.headers.iter().all(|header| asked.has_header(header))
        && config.downstream_nodes.is_empty()
        && (config.upstream_cluster.is_empty() || goes_to.contains(&config.upstream_cluster));
    if !concerns {
        return None;
    }
    if let Some(delay) = &config.delay {
        use pilot_proto::envoy::extensions::filters::common::fault::v3::fault_delay::FaultDelaySecifier;
        if let Some(FaultDelaySecifier::FixedDelay(time)) = &delay.fault_delay_secifier {
            let part = delay.percentage.map_or(0, millionths);
            if part > 0 {
                say(format!("delays {} by {}", share(part), seconds(time)));
            }
        }
    }
    let abort = config.abort.as_ref()?;
    let part = abort.percentage.map_or(0, millionths);
    let (status, said) = match &abort.error_type {
        Some(fault_abort::ErrorType::HttpStatus(status)) => {
            (u16::try_from(*status).unwrap_or_default(), status.to_string())
        }
        // gRPC's errors travel in a 200.
        Some(fault_abort::ErrorType::GrpcStatus(status)) => (200, format!("grpc-status {status}")),
        Some(fault_abort::ErrorType::HeaderAbort(_)) | None => return None,
    };
    if part == 0 {
        return None;
    }
    say(format!("aborts {} with {said}", share(part)));
    (part == MILLION).then_some(Verdict::Answered { status, because: Answer::Fault })
}

/// Formats a percentage; 100 % as `all`.
fn share(millionths: u32) -> String {
    let percent = f64::from(millionths) / 10_000.0;
    if millionths == MILLION { "all".to_owned() } else { format!("{percent}%") }
}

/// Returns the CORS policy of a forwarding route; redirects and direct responses have none.
fn cors_policy(own: Option<&Any>, found: Option<MatchedRoute<'_>>) -> Option<CorsFilterPolicy> {
    let found = found?;
    let Some(route::Action::Route(action)) = &found.route.action else { return None };
    if let Some(policy) = own.and_then(unpack::<CorsFilterPolicy>) {
        return Some(policy);
    }
    #[expect(deprecated, reason = "configuration may still say it so")]
    let old: &CorsPolicy = action.cors.as_ref().or(found.host.cors.as_ref())?;
    Some(CorsFilterPolicy {
        allow_origin_string_match: old.allow_origin_string_match.clone(),
        allow_methods: old.allow_methods.clone(),
        allow_headers: old.allow_headers.clone(),
        forward_not_matching_preflights: old.forward_not_matching_preflights,
        ..CorsFilterPolicy::default()
    })
}

/// Responds to preflights; other requests continue, and response headers are not evaluated.
fn cors(policy: &CorsFilterPolicy, asked: &RequestState, say: &mut dyn FnMut(String)) -> Option<Verdict> {
    let origin = asked.header("origin").filter(|origin| !origin.is_empty())?;
    if policy.filter_enabled.as_ref().is_some_and(|enabled| default_millionths(enabled) == 0) {
        return None;
    }
    let is_preflight = asked.request.method == "OPTIONS"
        && asked.header("access-control-request-method").is_some_and(|method| !method.is_empty());
    let allowed = policy.allow_origin_string_match.iter().any(|wanted| text_matches(wanted, &origin));
    let preflight = Verdict::Answered { status: 200, because: Answer::Preflight };
    if allowed {
        say(format!("allows {origin}{}", if is_preflight { ", and answers the preflight" } else { "" }));
        return is_preflight.then_some(preflight);
    }
    say(format!("does not allow {origin}"));
    let forwards = policy.forward_not_matching_preflights.as_ref().is_none_or(|on| on.value);
    (is_preflight && !forwards).then_some(preflight)
}

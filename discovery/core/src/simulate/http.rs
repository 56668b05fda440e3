//! Evaluation of a request, from the connection manager to the action of its route.

use pilot_proto::ResourceType;
use pilot_proto::envoy::config::route::v3::virtual_host::TlsRequirementType;
use pilot_proto::envoy::config::route::v3::{RouteConfiguration, VirtualHost, route};
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager,
    http_connection_manager::{CodecType, RouteSpecifier, StripPortMode},
};

use super::call::{Call, Certificate, Request, Version};
use super::domains::{port_start, virtual_host};
use super::filters::http_filters;
use super::network::Visibility;
use super::path_normalization::{NormalizedPath, normal};
use super::proxy_config_view::ProxyConfigView;
use super::redirect;
use super::request_state::{MatchedRoute, RequestState};
use super::route::matched;
use super::route_policy::policy;
use super::source_objects;
use super::trace::{Answer, Closed, Stage, Step, Trace, Verdict};

// === impl ProxyConfigView ===

impl ProxyConfigView {
    /// Evaluates a request.
    pub(super) fn http(
        &self,
        manager: &HttpConnectionManager,
        call: &Call,
        request: &Request,
        inside: Visibility,
        trace: &mut Trace,
    ) -> Verdict {
        let asked = match accepted(manager, call, request, inside) {
            Ok(asked) => asked,
            Err(verdict) => return verdict,
        };
        let routes = match &manager.route_specifier {
            Some(RouteSpecifier::RouteConfig(routes)) => routes,
            Some(RouteSpecifier::Rds(rds)) => match self.routes.get(&rds.route_config_name) {
                Some(routes) => routes,
                // The listener does not warm.
                None => return Verdict::Unknown(format!("routes {}", rds.route_config_name)),
            },
            Some(RouteSpecifier::ScopedRoutes(scoped)) => {
                return Verdict::Unknown(format!("scoped routes {}", scoped.name));
            }
            None => return Verdict::Answered { status: 404, because: Answer::NoRoute },
        };
        let host = virtual_host(routes, &asked.request);
        if let Some(host) = host {
            trace.virtual_host = Some(host.name.clone());
            trace.steps.push(self.host_step(routes, host, &asked));
            if host.matcher.is_some() {
                return Verdict::Unknown(format!("matcher of virtual host {}", host.name));
            }
            if wants_tls(host, &asked) {
                let location = format!("https://{}{}", asked.request.authority, asked.request.path);
                return Verdict::Redirected { status: 301, location };
            }
        }
        let found = host.and_then(|host| {
            let routes_of = host.routes.iter();
            let mut matching =
                routes_of.filter_map(|route| Some((route, matched(route.r#match.as_ref()?, &asked)?)));
            matching.next().map(|(route, matched)| MatchedRoute { routes, host, route, matched })
        });
        if let Some(found) = found {
            trace.route = Some(found.route.clone());
            trace.policy = policy(found.host, found.route);
            trace.steps.push(route_step(found, &trace.policy));
        }
        if let Some(verdict) = http_filters(manager, found, &asked, trace) {
            return verdict;
        }
        let Some(found) = found else { return Verdict::Answered { status: 404, because: Answer::NoRoute } };
        match &found.route.action {
            Some(route::Action::Route(action)) => self.forward(found, action, &asked, trace),
            Some(route::Action::Redirect(action)) => redirect::redirect(action, found, &asked),
            Some(route::Action::DirectResponse(answer)) => Verdict::Answered {
                status: u16::try_from(answer.status).unwrap_or_default(),
                because: Answer::Direct,
            },
            Some(route::Action::FilterAction(_) | route::Action::NonForwardingAction(_)) | None => {
                Verdict::Unknown("an action that only filters know".to_owned())
            }
        }
    }

    fn host_step(&self, routes: &RouteConfiguration, host: &VirtualHost, asked: &RequestState) -> Step {
        let mut origins = source_objects::of(host.metadata.as_ref());
        origins.extend(self.origins_of(ResourceType::Route, &host.name));
        let what = format!("answers for {} in routes {}", asked.request.authority, routes.name);
        Step { stage: Stage::VirtualHost, name: host.name.clone(), what, origins }
    }
}

fn route_step(found: MatchedRoute<'_>, policy: &[String]) -> Step {
    let route = found.route;
    let matched = format!("matches {}", found.matched.by);
    let what = std::iter::once(&matched).chain(policy).map(String::as_str).collect::<Vec<_>>().join("; ");
    let origins = source_objects::of(route.metadata.as_ref());
    Step { stage: Stage::Route, name: route.name.clone(), what, origins }
}

/// Applies the connection manager's checks and normalization before routing.
fn accepted(
    manager: &HttpConnectionManager,
    call: &Call,
    request: &Request,
    inside: Visibility,
) -> Result<RequestState, Verdict> {
    let http2 = request.version == Version::Http2;
    let understood = match manager.codec_type() {
        CodecType::Auto => true,
        CodecType::Http1 => !http2,
        CodecType::Http2 => http2,
        CodecType::Http3 => false,
    };
    if !understood {
        return Err(not_understood(manager));
    }
    let options = manager.http_protocol_options.clone().unwrap_or_default();
    let mut request = request.clone();
    if request.version == Version::Http10 {
        if !options.accept_http_10 {
            return Err(Verdict::Answered { status: 426, because: Answer::TooOld });
        }
        if request.authority.is_empty() {
            request.authority.clone_from(&options.default_host_for_http_10);
        }
    }
    if request.authority.is_empty() {
        return Err(Verdict::Answered { status: 400, because: Answer::Unacceptable });
    }
    strip(manager, call.to.port(), &mut request.authority);
    match normal(manager, &request.path) {
        NormalizedPath::Path(path) => request.path = path,
        NormalizedPath::Rejected => {
            return Err(Verdict::Answered { status: 400, because: Answer::Unacceptable });
        }
        NormalizedPath::Redirected(path) => {
            return Err(Verdict::Redirected { status: 307, location: path });
        }
    }
    let by_transport = if inside == Visibility::Decrypted { "https" } else { "http" };
    let trusts =
        !manager.use_remote_address.as_ref().is_some_and(|on| on.value) || manager.xff_num_trusted_hops > 0;
    let told =
        request.header("x-forwarded-proto").filter(|told| trusts && (told == "http" || told == "https"));
    let certificate = match (&call.tls, inside) {
        (Some(tls), Visibility::Decrypted) => tls.certificate,
        _ => Certificate::None,
    };
    Ok(RequestState { request, scheme: told.unwrap_or_else(|| by_transport.to_owned()), certificate })
}

/// Returns the verdict for bytes in another protocol: a connection manager for HTTP/2 cannot respond.
pub(super) fn not_understood(manager: &HttpConnectionManager) -> Verdict {
    match manager.codec_type() {
        CodecType::Auto | CodecType::Http1 => Verdict::Answered { status: 400, because: Answer::NotHttp },
        CodecType::Http2 | CodecType::Http3 => Verdict::Closed(Closed::NotHttp2),
    }
}

/// Strips port and trailing dot from the host as configured.
fn strip(manager: &HttpConnectionManager, port: Option<u16>, authority: &mut String) {
    let any = manager.strip_port_mode == Some(StripPortMode::StripAnyHostPort(true));
    let number = |start| authority.get(start + 1..)?.parse::<u16>().ok();
    let named = port_start(authority).and_then(|start| Some((start, number(start)?)));
    if let Some((start, named)) = named
        && (any || (manager.strip_matching_host_port && Some(named) == port))
    {
        authority.truncate(start);
    }
    if manager.strip_trailing_host_dot {
        let host_end = port_start(authority).unwrap_or(authority.len());
        if authority.get(..host_end).is_some_and(|host| host.ends_with('.')) {
            authority.remove(host_end - 1);
        }
    }
}

fn wants_tls(host: &VirtualHost, asked: &RequestState) -> bool {
    match host.require_tls() {
        TlsRequirementType::None => false,
        // External: not from a private address. Clients are taken for external here.
        TlsRequirementType::ExternalOnly | TlsRequirementType::All => asked.scheme != "https",
    }
}

//! The HTTP connection manager: how requests are read, what filters they pass, where routes come from.

use std::time::Duration;

use pilot_proto::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions, TrafficDirection,
};
use pilot_proto::envoy::config::listener::v3::Filter;
use pilot_proto::envoy::extensions::filters::http::{
    cors::v3::Cors,
    dynamic_forward_proxy::v3::{FilterConfig as Lookup, filter_config::ImplementationSpecifier},
    fault::v3::HttpFault,
    grpc_stats::v3::{FilterConfig as GrpcStats, filter_config},
    grpc_web::v3::GrpcWeb,
    router::v3::Router,
};
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, Rds, RequestIdExtension,
    http_connection_manager::{
        ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation,
        SetCurrentClientCertDetails, UpgradeConfig,
    },
    http_filter,
};
use pilot_proto::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use pilot_proto::google::protobuf::BoolValue;
use pilot_proto::mesh::Normalization;
use pilot_proto::mesh::proxy::{ClientCertDetails, ForwardClientCert, ProxyHeaders, ServerHeader};
use prost::{Message, Name};

use super::IpFamilies;
use super::cluster::dns_cache;
use super::network_filters::{AccessLogScope, FilterSettings, Http10, network_filter};
use super::proto::{ads, any, duration, no};
use super::route::{InboundRoute, inbound_route};
use super::telemetry::TracingSettings;
use crate::model::Protocol;

/// HTTP of one filter chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpChain {
    /// Begins the names of its statistics.
    pub stat_prefix: String,
    /// Where routes come from.
    pub routes: RouteSource,
    /// What the port says it speaks.
    pub protocol: Protocol,
    /// How clients name what they want.
    pub request_target: RequestTarget,
    /// What stands in front of a gateway; `None`: it is none.
    pub topology: Option<GatewayTopology>,
}

/// What stands in front of a gateway (`gatewayTopology` of its `ProxyConfig`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GatewayTopology {
    /// Trusted proxies between the client and the gateway.
    pub trusted_proxies: u32,
    /// What becomes of `x-forwarded-client-cert`.
    pub forward_client_cert: ForwardClientCertDetails,
    /// Whether connections begin with a PROXY header.
    pub proxy_protocol: ProxyProtocolHeader,
}

/// How connections to a gateway begin.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProxyProtocolHeader {
    /// With their first bytes.
    #[default]
    Absent,
    /// With a PROXY header.
    Expected,
}

/// Where routes come from.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RouteSource {
    /// RDS, under this name.
    Rds(String),
    /// Everything goes to the workload.
    Inline(InboundRoute),
}

/// How clients name what they want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestTarget {
    /// By path.
    OriginForm,
    /// By absolute URL: the client knows that it speaks to a proxy.
    AbsoluteForm,
}

/// The filter that serves an HTTP chain.
pub(super) fn connection_manager(chain: &HttpChain, settings: &FilterSettings) -> Filter {
    let (direction, route_specifier) = match &chain.routes {
        RouteSource::Rds(name) => (
            TrafficDirection::Outbound,
            RouteSpecifier::Rds(Rds { config_source: ads(), route_config_name: name.clone() }),
        ),
        RouteSource::Inline(route) => {
            (TrafficDirection::Inbound, RouteSpecifier::RouteConfig(inbound_route(route)))
        }
    };
    let inbound = direction == TrafficDirection::Inbound;
    let headers = &settings.headers;
    let client_cert = match chain.topology {
        Some(topology) => topology.forward_client_cert,
        None if inbound => forward_client_cert_details(
            headers.forwarded_client_cert,
            ForwardClientCertDetails::AppendForward,
        ),
        None => ForwardClientCertDetails::Sanitize,
    };
    // What leaves a workload says `envoy`, Envoy's own default, as in Istio.
    let own_name = if inbound || chain.topology.is_some() { "istio-envoy" } else { "" };
    let (server_name, server_header) = server(&headers.server, own_name);
    let paths = Paths::of(settings.path_normalization);
    let traces = settings.tracing.as_ref();
    let tells = matches!(
        client_cert,
        ForwardClientCertDetails::AppendForward | ForwardClientCertDetails::SanitizeSet
    );
    let http1 = Http1ProtocolOptions {
        allow_absolute_url: (chain.request_target == RequestTarget::AbsoluteForm)
            .then_some(BoolValue { value: true }),
        accept_http_10: settings.http10 == Http10::Accepted,
        ..Http1ProtocolOptions::default()
    };
    let manager = HttpConnectionManager {
        stat_prefix: chain.stat_prefix.clone(),
        route_specifier: Some(route_specifier),
        http_filters: http_filters(chain.protocol, settings.dns_lookup.filter(|_| !inbound), headers),
        tracing: traces.map(TracingSettings::message),
        access_log: settings.access_log(AccessLogScope::Http),
        server_name: server_name.to_owned(),
        server_header_transformation: server_header.into(),
        common_http_protocol_options: settings.idle_timeout.map(|idle| HttpProtocolOptions {
            idle_timeout: duration(idle),
            ..HttpProtocolOptions::default()
        }),
        http_protocol_options: Some(http1).filter(|options| *options != Http1ProtocolOptions::default()),
        http2_protocol_options: (inbound && chain.protocol.is_http2()).then(Http2ProtocolOptions::default),
        // Long polls and streams are idle by design; who wants a limit sets a timeout on the route.
        stream_idle_timeout: duration(Duration::ZERO),
        use_remote_address: Some(BoolValue { value: chain.topology.is_some() }),
        xff_num_trusted_hops: chain.topology.map_or(0, |topology| topology.trusted_proxies),
        proxy_100_continue: true,
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".into(), ..UpgradeConfig::default() }],
        normalize_path: Some(BoolValue { value: paths.normal }),
        merge_slashes: paths.merged,
        path_with_escaped_slashes_action: paths.escaped.into(),
        append_x_forwarded_port: headers.x_forwarded_port.enabled == Some(true),
        generate_request_id: if headers.request_id.disabled == Some(true) { no() } else { None },
        request_id_extension: Some(RequestIdExtension {
            typed_config: any(&UuidRequestIdConfig {
                use_request_id_for_trace_sampling: Some(BoolValue {
                    value: traces.is_none_or(|traces| traces.use_request_id),
                }),
                ..UuidRequestIdConfig::default()
            }),
        }),
        forward_client_cert_details: client_cert.into(),
        set_current_client_cert_details: tells.then(|| match chain.topology {
            // The workload behind a gateway sees the certificate no other way.
            Some(_) => SetCurrentClientCertDetails { cert: true, ..told(ClientCertDetails::default()) },
            None => told(headers.set_current_client_cert_details),
        }),
        ..HttpConnectionManager::default()
    };
    network_filter("envoy.filters.network.http_connection_manager", &manager)
}

/// How paths are put in order, in Envoy's words.
struct Paths {
    normal: bool,
    merged: bool,
    escaped: PathWithEscapedSlashesAction,
}

// === impl Paths ===

impl Paths {
    const fn of(said: Normalization) -> Self {
        use PathWithEscapedSlashesAction::{KeepUnchanged, UnescapeAndForward};
        let (normal, merged, escaped) = match said {
            Normalization::None => (false, false, KeepUnchanged),
            Normalization::Default | Normalization::Base => (true, false, KeepUnchanged),
            Normalization::MergeSlashes => (true, true, KeepUnchanged),
            Normalization::DecodeAndMergeSlashes => (true, true, UnescapeAndForward),
        };
        Self { normal, merged, escaped }
    }
}

/// What `server` says, and what becomes of an upstream's.
fn server<'a>(said: &'a ServerHeader, own: &'a str) -> (&'a str, ServerHeaderTransformation) {
    match said {
        ServerHeader { disabled: Some(true), .. } => ("", ServerHeaderTransformation::PassThrough),
        ServerHeader { value, .. } if value.is_empty() => (own, ServerHeaderTransformation::Overwrite),
        ServerHeader { value, .. } => (value, ServerHeaderTransformation::Overwrite),
    }
}

/// What becomes of `x-forwarded-client-cert`.
pub fn forward_client_cert_details(
    said: ForwardClientCert,
    default: ForwardClientCertDetails,
) -> ForwardClientCertDetails {
    match said {
        ForwardClientCert::Undefined => default,
        ForwardClientCert::Sanitize => ForwardClientCertDetails::Sanitize,
        ForwardClientCert::ForwardOnly => ForwardClientCertDetails::ForwardOnly,
        ForwardClientCert::AppendForward => ForwardClientCertDetails::AppendForward,
        ForwardClientCert::SanitizeSet => ForwardClientCertDetails::SanitizeSet,
        ForwardClientCert::AlwaysForwardOnly => ForwardClientCertDetails::AlwaysForwardOnly,
    }
}

fn told(said: ClientCertDetails) -> SetCurrentClientCertDetails {
    SetCurrentClientCertDetails {
        subject: Some(BoolValue { value: said.subject != Some(false) }),
        cert: said.cert == Some(true),
        chain: said.chain == Some(true),
        dns: said.dns != Some(false),
        uri: said.uri != Some(false),
        ..SetCurrentClientCertDetails::default()
    }
}

/// Fault and CORS do nothing by themselves: routes switch them on.
fn http_filters(protocol: Protocol, lookup: Option<IpFamilies>, headers: &ProxyHeaders) -> Vec<HttpFilter> {
    let stats = GrpcStats {
        emit_filter_state: true,
        per_method_stat_specifier: Some(filter_config::PerMethodStatSpecifier::StatsForAllMethods(
            BoolValue { value: false },
        )),
        ..GrpcStats::default()
    };
    let web = match protocol {
        Protocol::GrpcWeb => Some(http_filter("envoy.filters.http.grpc_web", &GrpcWeb::default())),
        _ => None,
    };
    // Passed by what other clusters take.
    let lookup = lookup.map(|families| {
        let cache = ImplementationSpecifier::DnsCacheConfig(dns_cache(families));
        let config = Lookup { implementation_specifier: Some(cache), ..Lookup::default() };
        http_filter("envoy.filters.http.dynamic_forward_proxy", &config)
    });
    web.into_iter()
        .chain([
            http_filter("envoy.filters.http.grpc_stats", &stats),
            fault(),
            http_filter("envoy.filters.http.cors", &Cors::default()),
        ])
        .chain(lookup)
        .chain([router(headers)])
        .collect()
}

pub(super) fn fault() -> HttpFilter {
    http_filter("envoy.filters.http.fault", &HttpFault::default())
}

pub(super) fn router(headers: &ProxyHeaders) -> HttpFilter {
    let suppress_envoy_headers = headers.envoy_debug_headers.disabled == Some(true);
    http_filter("envoy.filters.http.router", &Router { suppress_envoy_headers, ..Router::default() })
}

fn http_filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: any(config).map(http_filter::ConfigType::TypedConfig),
        ..HttpFilter::default()
    }
}

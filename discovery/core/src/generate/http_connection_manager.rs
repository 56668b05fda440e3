//! HTTP connection manager of a filter chain: protocol options, headers, path normalization, source of the routes.

use std::time::Duration;

use pilot_proto::envoy::config::core::v3::{
    Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions, TrafficDirection,
};
use pilot_proto::envoy::config::listener::v3::Filter;
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, Rds, RequestIdExtension,
    http_connection_manager::{
        ForwardClientCertDetails, PathWithEscapedSlashesAction, RouteSpecifier, ServerHeaderTransformation,
        SetCurrentClientCertDetails, UpgradeConfig,
    },
};
use pilot_proto::envoy::extensions::request_id::uuid::v3::UuidRequestIdConfig;
use pilot_proto::google::protobuf::BoolValue;
use pilot_proto::mesh::Normalization;
use pilot_proto::mesh::proxy_config::{ClientCertDetails, ForwardClientCert, ServerHeader};

use super::http_filters::HttpFilterInputs;
use super::network_filters::{FilterSettings, Http10, network_filter};
use super::proto::{ads, any, duration, no};
use super::route::{InboundRoute, inbound_route};
use super::telemetry::{AccessLogScope, TracingSettings};
use crate::model::Protocol;

/// Inputs of the connection manager of one filter chain.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct HttpChain {
    /// Prefix of statistics.
    pub stat_prefix: String,
    /// Source of the routes.
    pub routes: RouteSource,
    /// Protocol of the port.
    pub protocol: Protocol,
    /// Form of the request target.
    pub request_target: RequestTarget,
    /// Topology in front of a gateway; `None`: the proxy is a sidecar.
    pub topology: Option<GatewayTopology>,
}

/// Proxies in front of a gateway (`gatewayTopology` of its `ProxyConfig`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GatewayTopology {
    /// Number of trusted proxies between client and gateway.
    pub trusted_proxies: u32,
    /// Handling of `x-forwarded-client-cert`.
    pub forward_client_cert: ForwardClientCertDetails,
    /// PROXY protocol of incoming connections.
    pub proxy_protocol: ProxyProtocolHeader,
}

/// PROXY protocol header of connections to a gateway.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum ProxyProtocolHeader {
    /// Connections have no header.
    #[default]
    Absent,
    /// Connections start with a header.
    Expected,
}

/// Source of the routes of a connection manager.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RouteSource {
    /// RDS resource of this name.
    Rds(String),
    /// Inline route to the workload.
    Inline(InboundRoute),
}

/// Form of the request target (RFC 9112, section 3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RequestTarget {
    /// Path only.
    OriginForm,
    /// Absolute URL; the client is configured to use a proxy.
    AbsoluteForm,
}

/// Generates the connection manager.
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
    // Outbound responses of a sidecar keep Envoy's default, `envoy`, as in Istio.
    let default_name = if inbound || chain.topology.is_some() { "istio-envoy" } else { "" };
    let (server_name, server_header) = server_header(&headers.server, default_name);
    let paths = PathOptions::of(settings.path_normalization);
    let tracing = settings.tracing.as_ref();
    let adds_client_cert = matches!(
        client_cert,
        ForwardClientCertDetails::AppendForward | ForwardClientCertDetails::SanitizeSet
    );
    let http1 = Http1ProtocolOptions {
        allow_absolute_url: (chain.request_target == RequestTarget::AbsoluteForm)
            .then_some(BoolValue { value: true }),
        accept_http_10: settings.http10 == Http10::Accepted,
        ..Http1ProtocolOptions::default()
    };
    let http_filters = HttpFilterInputs {
        protocol: chain.protocol,
        dns_lookup: settings.dns_lookup.filter(|_| !inbound),
        headers,
    };
    let manager = HttpConnectionManager {
        stat_prefix: chain.stat_prefix.clone(),
        route_specifier: Some(route_specifier),
        http_filters: http_filters.filters(),
        tracing: tracing.map(TracingSettings::message),
        access_log: settings.access_log(AccessLogScope::Http),
        server_name: server_name.to_owned(),
        server_header_transformation: server_header.into(),
        common_http_protocol_options: settings.idle_timeout.map(|idle| HttpProtocolOptions {
            idle_timeout: duration(idle),
            ..HttpProtocolOptions::default()
        }),
        http_protocol_options: Some(http1).filter(|options| *options != Http1ProtocolOptions::default()),
        http2_protocol_options: (inbound && chain.protocol.is_http2()).then(Http2ProtocolOptions::default),
        // Long polls and streams are idle by design; a limit is set with the timeout of a route.
        stream_idle_timeout: duration(Duration::ZERO),
        use_remote_address: Some(BoolValue { value: chain.topology.is_some() }),
        xff_num_trusted_hops: chain.topology.map_or(0, |topology| topology.trusted_proxies),
        proxy_100_continue: true,
        upgrade_configs: vec![UpgradeConfig { upgrade_type: "websocket".into(), ..UpgradeConfig::default() }],
        normalize_path: Some(BoolValue { value: paths.normalize }),
        merge_slashes: paths.merge_slashes,
        path_with_escaped_slashes_action: paths.escaped_slashes.into(),
        append_x_forwarded_port: headers.x_forwarded_port.enabled == Some(true),
        generate_request_id: if headers.request_id.disabled == Some(true) { no() } else { None },
        request_id_extension: Some(RequestIdExtension {
            typed_config: any(&UuidRequestIdConfig {
                use_request_id_for_trace_sampling: Some(BoolValue {
                    value: tracing.is_none_or(|tracing| tracing.use_request_id),
                }),
                ..UuidRequestIdConfig::default()
            }),
        }),
        forward_client_cert_details: client_cert.into(),
        set_current_client_cert_details: adds_client_cert.then(|| match chain.topology {
            // The workload behind a gateway receives the client certificate in no other way.
            Some(_) => SetCurrentClientCertDetails {
                cert: true,
                ..current_client_cert_details(ClientCertDetails::default())
            },
            None => current_client_cert_details(headers.set_current_client_cert_details),
        }),
        ..HttpConnectionManager::default()
    };
    network_filter("envoy.filters.network.http_connection_manager", &manager)
}

/// Path normalization in Envoy's terms.
struct PathOptions {
    normalize: bool,
    merge_slashes: bool,
    escaped_slashes: PathWithEscapedSlashesAction,
}

// === impl PathOptions ===

impl PathOptions {
    const fn of(normalization: Normalization) -> Self {
        use PathWithEscapedSlashesAction::{KeepUnchanged, UnescapeAndForward};
        let (normalize, merge_slashes, escaped_slashes) = match normalization {
            Normalization::None => (false, false, KeepUnchanged),
            Normalization::Default | Normalization::Base => (true, false, KeepUnchanged),
            Normalization::MergeSlashes => (true, true, KeepUnchanged),
            Normalization::DecodeAndMergeSlashes => (true, true, UnescapeAndForward),
        };
        Self { normalize, merge_slashes, escaped_slashes }
    }
}

/// Returns the value of the `server` header and the handling of an upstream's.
fn server_header<'a>(header: &'a ServerHeader, default: &'a str) -> (&'a str, ServerHeaderTransformation) {
    match header {
        ServerHeader { disabled: Some(true), .. } => ("", ServerHeaderTransformation::PassThrough),
        ServerHeader { value, .. } if value.is_empty() => (default, ServerHeaderTransformation::Overwrite),
        ServerHeader { value, .. } => (value, ServerHeaderTransformation::Overwrite),
    }
}

/// Returns the handling of `x-forwarded-client-cert`.
pub fn forward_client_cert_details(
    configured: ForwardClientCert,
    default: ForwardClientCertDetails,
) -> ForwardClientCertDetails {
    match configured {
        ForwardClientCert::Undefined => default,
        ForwardClientCert::Sanitize => ForwardClientCertDetails::Sanitize,
        ForwardClientCert::ForwardOnly => ForwardClientCertDetails::ForwardOnly,
        ForwardClientCert::AppendForward => ForwardClientCertDetails::AppendForward,
        ForwardClientCert::SanitizeSet => ForwardClientCertDetails::SanitizeSet,
        ForwardClientCert::AlwaysForwardOnly => ForwardClientCertDetails::AlwaysForwardOnly,
    }
}

fn current_client_cert_details(details: ClientCertDetails) -> SetCurrentClientCertDetails {
    SetCurrentClientCertDetails {
        subject: Some(BoolValue { value: details.subject != Some(false) }),
        cert: details.cert == Some(true),
        chain: details.chain == Some(true),
        dns: details.dns != Some(false),
        uri: details.uri != Some(false),
        ..SetCurrentClientCertDetails::default()
    }
}

//! Settings of a proxy that generators depend on.

use std::collections::BTreeSet;
use std::sync::Arc;

use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::ForwardClientCertDetails;
use pilot_proto::mesh::proxy_config::{ControlPlaneOptions, Topology};
use pilot_proto::mesh::{MeshConfig, OutboundTrafficMode};
use pilot_proto::node::InterceptionMode;
use serde_json::Value;

use super::View;
use super::telemetry::Reports;
use crate::api::virtual_service::HttpRetry;
use crate::generate::cluster::{BLACK_HOLE, PASSTHROUGH};
use crate::generate::http_connection_manager::{
    GatewayTopology, ProxyProtocolHeader, forward_client_cert_details,
};
use crate::generate::listener::RedirectMode;
use crate::generate::network_filters::{FilterSettings, Http10, ListenerAccessLog};
use crate::generate::outbound::{Interception, ListenerSettings, PrivilegedPorts};
use crate::generate::route::InformationalHeaders;
use crate::generate::telemetry::TrafficSide;
use crate::generate::{IpFamilies, Rejected};
use crate::model::{ClusterName, Proxy};
use crate::push::ServiceTarget;
use crate::scope::Scope;

// === impl View ===

impl View<'_> {
    /// Returns the settings of the proxy's `ProxyConfig` that resources depend on.
    pub(super) fn steering(self) -> ControlPlaneOptions {
        ControlPlaneOptions::of(self.proxy.metadata.proxy_config.as_ref(), &self.push.mesh.default_config)
    }
}

/// Returns the inputs that all listeners of a proxy have in common; `filters` are those of outbound connections.
pub(super) fn listeners(
    view: View<'_>,
    targets: &[ServiceTarget],
    filters: Arc<FilterSettings>,
) -> ListenerSettings {
    let mesh = &view.push.mesh;
    ListenerSettings {
        families: IpFamilies::of(view.proxy),
        interception: interception(view.proxy, targets),
        reserved_ports: reserved_ports(mesh, view.proxy),
        fallback_cluster: fallback_cluster(view.scope),
        detection_timeout: mesh.protocol_detection_timeout,
        filters,
    }
}

/// Returns the filters that all listeners of one direction have in common, with findings about unreachable collectors.
pub(super) fn filters(
    view: View<'_>,
    side: TrafficSide,
    steering: &ControlPlaneOptions,
) -> (Arc<FilterSettings>, Vec<Rejected>) {
    let (mesh, metadata) = (&view.push.mesh, &view.proxy.metadata);
    let Reports { logs, traces, rejected } = view.reports(side, steering);
    let settings = FilterSettings {
        access_logs: logs,
        listener_access_log: if mesh.disable_envoy_listener_log {
            ListenerAccessLog::Off
        } else {
            ListenerAccessLog::On
        },
        tracing: traces,
        headers: steering.headers.clone(),
        path_normalization: mesh.path_normalization.normalization,
        stat_name: match side {
            TrafficSide::Client => mesh.outbound_cluster_stat_name.as_str().into(),
            TrafficSide::Server => mesh.inbound_cluster_stat_name.as_str().into(),
        },
        // As in Istio, an invalid duration is ignored.
        idle_timeout: metadata
            .idle_timeout
            .as_deref()
            .and_then(|text| pilot_proto::duration::parse(text).ok()),
        http10: if metadata.http10.as_deref() == Some("1") { Http10::Accepted } else { Http10::Refused },
        dns_lookup: (side == TrafficSide::Client && view.scope.leads_to_named_hosts())
            .then(|| IpFamilies::of(view.proxy)),
    };
    (Arc::new(settings), rejected)
}

/// Returns the interception mode of a proxy.
pub(super) fn interception(proxy: &Proxy, targets: &[ServiceTarget]) -> Interception {
    let unprivileged = proxy.metadata.unprivileged_pod.is_some_and(|flag| flag.0);
    match proxy.interception() {
        InterceptionMode::Redirect => Interception::Iptables(RedirectMode::Redirect),
        InterceptionMode::Tproxy => Interception::Iptables(RedirectMode::Tproxy),
        InterceptionMode::None => Interception::Off {
            privileged_ports: if unprivileged {
                PrivilegedPorts::Forbidden
            } else {
                PrivilegedPorts::Allowed
            },
            workload_ports: targets.iter().map(|target| target.target_port).collect(),
        },
    }
}

/// Returns the cluster for connections to unknown addresses.
pub(super) fn fallback_cluster(scope: &Scope) -> Arc<str> {
    let unknown = scope.unknown();
    match (unknown.mode, &unknown.proxy) {
        (OutboundTrafficMode::RegistryOnly, _) => BLACK_HOLE.into(),
        (OutboundTrafficMode::AllowAny, None) => PASSTHROUGH.into(),
        (OutboundTrafficMode::AllowAny, Some(proxy)) => {
            let seen = scope.by_host(&proxy.host);
            let only = || seen.and_then(|seen| seen.ports().next()).map(|port| port.port);
            let port = proxy.port.and_then(|port| u16::try_from(port.number).ok()).or_else(only);
            let cluster = ClusterName::outbound(port.unwrap_or_default(), &proxy.host.as_str().into());
            ClusterName { subset: proxy.subset.clone(), ..cluster }.to_string().into()
        }
    }
}

/// Returns the proxies in front of a gateway.
pub(super) fn topology(topology: &Topology) -> GatewayTopology {
    GatewayTopology {
        trusted_proxies: topology.num_trusted_proxies,
        forward_client_cert: forward_client_cert_details(
            topology.forward_client_cert_details,
            ForwardClientCertDetails::SanitizeSet,
        ),
        proxy_protocol: if topology.proxy_protocol.is_some() {
            ProxyProtocolHeader::Expected
        } else {
            ProxyProtocolHeader::Absent
        },
    }
}

/// Returns the informational headers of upstream requests.
pub(super) fn informational_headers(steering: &ControlPlaneOptions) -> InformationalHeaders {
    let headers = &steering.headers;
    InformationalHeaders {
        attempt_count: headers.attempt_count.disabled != Some(true),
        forwarded_host: headers.x_forwarded_host.enabled == Some(true),
    }
}

/// Returns the port of the HTTP proxy for applications that are configured with one.
pub(super) fn http_proxy_port(mesh: &MeshConfig, proxy: &Proxy) -> Option<u16> {
    let own = proxy.metadata.http_proxy_port.as_deref().and_then(|port| port.parse().ok());
    own.or(Some(mesh.proxy_http_port)).filter(|port| *port != 0)
}

/// Returns the retry policy of the mesh (`defaultHttpRetryPolicy`); `None`: Istio's default.
pub(super) fn retries(mesh: &MeshConfig) -> Option<Arc<HttpRetry>> {
    mesh.default_http_retry_policy.clone().map(Arc::new)
}

/// Returns the ports of Envoy's own listeners, its admin interface and the agent.
pub(super) fn reserved_ports(mesh: &MeshConfig, proxy: &Proxy) -> BTreeSet<u16> {
    let configured = |key: &str, default: u16| {
        let of = |config: Option<&Value>| config?.get(key)?.as_u64()?.try_into().ok();
        of(proxy.metadata.proxy_config.as_ref()).or_else(|| of(Some(&mesh.default_config))).unwrap_or(default)
    };
    let fixed = [
        mesh.proxy_listen_port,
        mesh.proxy_inbound_listen_port,
        proxy.metadata.envoy_status_port.unwrap_or(15021),
        proxy.metadata.envoy_prometheus_port.unwrap_or(15090),
        configured("proxyAdminPort", 15000),
        configured("statusPort", 15020),
    ];
    fixed.into_iter().chain(http_proxy_port(mesh, proxy)).filter(|port| *port != 0).collect()
}

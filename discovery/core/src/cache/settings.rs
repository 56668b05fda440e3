//! What generators need to know of a proxy, and nothing else of it.

use std::collections::BTreeSet;
use std::sync::Arc;

use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::http_connection_manager::ForwardClientCertDetails;
use pilot_proto::mesh::{MeshConfig, OutboundTrafficMode};
use pilot_proto::node::InterceptionMode;
use serde_json::Value;

use crate::api::virtual_service::HttpRetry;
use crate::generate::Families;
use crate::generate::cluster::{BLACK_HOLE, PASSTHROUGH};
use crate::generate::filter::FilterSettings;
use crate::generate::http::Edge;
use crate::generate::listener::Source;
use crate::generate::outbound::{Capture, ListenerSettings, LowPorts};
use crate::model::{ClusterName, Proxy};
use crate::push::{PushContext, ServiceTarget};
use crate::scope::Scope;

/// What the listeners of a proxy depend on.
pub(super) fn listeners(
    push: &PushContext,
    scope: &Scope,
    proxy: &Proxy,
    targets: &[ServiceTarget],
) -> ListenerSettings {
    let mesh = &push.mesh;
    let unprivileged = proxy.metadata.unprivileged_pod.is_some_and(|flag| flag.0);
    let capture = match proxy.interception() {
        InterceptionMode::Redirect => Capture::Redirected(Source::Proxy),
        InterceptionMode::Tproxy => Capture::Redirected(Source::Client),
        InterceptionMode::None => Capture::Bound {
            low_ports: if unprivileged { LowPorts::Forbidden } else { LowPorts::Free },
            workload: targets.iter().map(|target| target.target_port).collect(),
        },
    };
    ListenerSettings {
        families: Families::of(proxy),
        capture,
        reserved: reserved(mesh, proxy),
        unknown: unknown(scope),
        detection_timeout: mesh.protocol_detection_timeout,
        filters: Arc::new(FilterSettings {
            lookup: scope.leads_to_named_hosts().then(|| Families::of(proxy)),
            ..FilterSettings::of(mesh, proxy)
        }),
    }
}

/// Where connections to nobody's address go.
pub(super) fn unknown(scope: &Scope) -> Arc<str> {
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

/// What stands in front of a gateway.
pub(super) fn edge(mesh: &MeshConfig, proxy: &Proxy) -> Edge {
    let of = |config: Option<&Value>| config?.get("gatewayTopology").cloned();
    let own = of(proxy.metadata.proxy_config.as_ref()).or_else(|| of(Some(&mesh.default_config)));
    let field = |name: &str| own.as_ref().and_then(|topology| topology.get(name));
    let hops = field("numTrustedProxies").and_then(Value::as_u64).and_then(|hops| hops.try_into().ok());
    let client_cert = match field("forwardClientCertDetails").and_then(Value::as_str) {
        Some("SANITIZE") => ForwardClientCertDetails::Sanitize,
        Some("FORWARD_ONLY") => ForwardClientCertDetails::ForwardOnly,
        Some("APPEND_FORWARD") => ForwardClientCertDetails::AppendForward,
        Some("ALWAYS_FORWARD_ONLY") => ForwardClientCertDetails::AlwaysForwardOnly,
        _ => ForwardClientCertDetails::SanitizeSet,
    };
    Edge { trusted_proxies: hops.unwrap_or_default(), client_cert }
}

/// Where the proxy serves applications that are told to use one.
pub(super) fn http_proxy_port(mesh: &MeshConfig, proxy: &Proxy) -> Option<u16> {
    let own = proxy.metadata.http_proxy_port.as_deref().and_then(|port| port.parse().ok());
    own.or(Some(mesh.proxy_http_port)).filter(|port| *port != 0)
}

/// What the mesh tries again where no rule says it (`defaultHttpRetryPolicy`); `None`: what Istio's default says.
pub(super) fn retries(mesh: &MeshConfig) -> Option<Arc<HttpRetry>> {
    mesh.default_http_retry_policy.clone().map(Arc::new)
}

/// Ports that Envoy's own listeners, its admin interface and the agent beside it take.
fn reserved(mesh: &MeshConfig, proxy: &Proxy) -> BTreeSet<u16> {
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

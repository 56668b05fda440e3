//! Merged traffic policy of one port of a service or subset.
//!
//! ```text
//! MeshConfig < trafficPolicy, or its portLevelSettings instead < the subset's trafficPolicy, or its portLevelSettings
//! ```
//!
//! `portLevelSettings` replace the policy of the host: missing fields have Istio's default and are not inherited.
//! <https://istio.io/latest/docs/reference/config/networking/destination-rule/#TrafficPolicy-PortTrafficPolicy>

use std::sync::Arc;
use std::time::Duration;

use pilot_proto::mesh::{H2UpgradePolicy, MeshConfig, MeshTls};

use crate::api::destination_rule::{
    ClientTls, ClientTlsMode, ConnectionPool, H2Upgrade, LoadBalancer, LocalityLb, OutlierDetection,
    PortTrafficPolicy, ProxyProtocol, RetryBudget, Subset, TcpKeepalive, TrafficPolicy, ZoneAwareLb,
};
use crate::model::Distribution;
use crate::push::Rule;

/// Merged traffic policy of one port.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MergedTrafficPolicy {
    /// Load balancing.
    pub load_balancer: Option<LoadBalancer>,
    /// Connection pool limits and timeouts.
    pub connection_pool: Option<ConnectionPool>,
    /// Outlier detection.
    pub outlier_detection: Option<OutlierDetection>,
    /// TLS settings; `None`: not configured.
    pub tls: Option<ClientTls>,
    /// PROXY protocol of upstream connections.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// Limit of concurrent retries.
    pub retry_budget: Option<RetryBudget>,
    /// `trafficDistribution` of the service.
    pub distribution: Distribution,
    /// Defaults of the mesh.
    pub mesh: Arc<MeshPolicy>,
}

/// Connection settings of the mesh configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MeshPolicy {
    /// Connect timeout.
    pub connect_timeout: Duration,
    /// Refresh rate of DNS records without TTL.
    pub dns_refresh_rate: Duration,
    /// TCP keepalive of all connections.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// HTTP/2 upgrade policy.
    pub h2_upgrade: H2Upgrade,
    /// `defaultTrafficPolicy.connectionPool`
    pub connection_pool: Option<ConnectionPool>,
    /// `defaultTrafficPolicy.outlierDetection`
    pub outlier_detection: Option<OutlierDetection>,
    /// Locality load balancing.
    pub locality: Option<LocalityLb>,
    /// Zone-aware load balancing.
    pub zone_aware: Option<ZoneAwareLb>,
    /// Statistics name pattern of outbound clusters, such as `%SERVICE%`; empty: the name of the cluster.
    pub outbound_stat_name: String,
    /// Statistics name pattern of inbound clusters.
    pub inbound_stat_name: String,
    /// TLS defaults for external servers.
    pub tls_defaults: MeshTls,
}

/// Locality preference of a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalityPreference<'a> {
    /// No preference.
    Off,
    /// Locality load balancing.
    Locality(&'a LocalityLb),
    /// Zone-aware load balancing.
    Zone(&'a ZoneAwareLb),
    /// `trafficDistribution` of the service.
    TrafficDistribution(Distribution),
}

// === impl MergedTrafficPolicy ===

impl MergedTrafficPolicy {
    /// Merges the layers for a port of a service or subset.
    pub fn of(rule: Option<&Rule>, subset: Option<&Subset>, port: u16, mesh: &Arc<MeshPolicy>) -> Self {
        let (host_layer, _) = layer(rule.and_then(|rule| rule.traffic_policy.as_ref()), port);
        let mut policy = Self { mesh: mesh.clone(), ..host_layer };
        policy.connection_pool = policy.connection_pool.or_else(|| mesh.connection_pool.clone());
        policy.outlier_detection = policy.outlier_detection.or_else(|| mesh.outlier_detection.clone());
        match subset.and_then(|subset| subset.traffic_policy.as_ref()) {
            None => policy,
            policy_spec => {
                let (subset_layer, scope) = layer(policy_spec, port);
                policy.overlaid(subset_layer, scope)
            }
        }
    }

    fn overlaid(self, subset_layer: Self, scope: PolicyScope) -> Self {
        let base = match scope {
            PolicyScope::AllPorts => self,
            // Port-level settings do not have the first two fields.
            PolicyScope::OnePort => Self {
                proxy_protocol: self.proxy_protocol,
                retry_budget: self.retry_budget,
                mesh: self.mesh,
                ..Self::default()
            },
        };
        Self {
            load_balancer: subset_layer.load_balancer.or(base.load_balancer),
            connection_pool: subset_layer.connection_pool.or(base.connection_pool),
            outlier_detection: subset_layer.outlier_detection.or(base.outlier_detection),
            tls: subset_layer.tls.or(base.tls),
            proxy_protocol: subset_layer.proxy_protocol.or(base.proxy_protocol),
            retry_budget: subset_layer.retry_budget.or(base.retry_budget),
            distribution: base.distribution,
            mesh: base.mesh,
        }
    }

    /// Sets the `trafficDistribution` of the service.
    #[must_use]
    pub fn with_distribution(self, distribution: Distribution) -> Self {
        Self { distribution, ..self }
    }

    /// Returns the part that applies to inbound clusters: limits of connections and retries.
    #[must_use]
    pub fn connection_limits(self) -> Self {
        let Self { connection_pool, retry_budget, mesh, .. } = self;
        Self { connection_pool, retry_budget, mesh, ..Self::default() }
    }

    /// Returns the locality preference of the rule, else of the service, else of the mesh.
    pub fn locality_preference(&self) -> LocalityPreference<'_> {
        let rule = self.load_balancer.as_ref();
        let zone = rule.and_then(|lb| lb.zone_aware_lb_setting.as_ref());
        let locality = rule.and_then(|lb| lb.locality_lb_setting.as_ref());
        let is_enabled = |policy_spec: &LocalityLb| policy_spec.enabled != Some(false);
        match (zone, locality, self.distribution, &self.mesh.zone_aware, &self.mesh.locality) {
            (Some(zone), ..) | (None, None, Distribution::Any, Some(zone), _) => {
                LocalityPreference::Zone(zone)
            }
            (None, Some(locality), ..) | (None, None, Distribution::Any, None, Some(locality))
                if is_enabled(locality) =>
            {
                LocalityPreference::Locality(locality)
            }
            (None, None, distribution @ (Distribution::SameZone | Distribution::SameNode), ..) => {
                LocalityPreference::TrafficDistribution(distribution)
            }
            _ => LocalityPreference::Off,
        }
    }

    /// Returns the TLS mode, if one is configured.
    pub fn tls_mode(&self) -> Option<ClientTlsMode> {
        self.tls.as_ref().map(|tls| tls.mode)
    }

    /// Returns true if Envoy may enter panic mode (`minHealthPercent`); unhealthy endpoints must then not be sent.
    pub fn has_panic_threshold(&self) -> bool {
        self.outlier_detection.as_ref().is_some_and(|outlier| outlier.min_health_percent > 0)
    }
}

/// Ports that a policy applies to.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PolicyScope {
    AllPorts,
    OnePort,
}

fn layer(policy_spec: Option<&TrafficPolicy>, port: u16) -> (MergedTrafficPolicy, PolicyScope) {
    let Some(policy_spec) = policy_spec else {
        return (MergedTrafficPolicy::default(), PolicyScope::AllPorts);
    };
    let for_port = |settings: &&PortTrafficPolicy| {
        settings.port.is_some_and(|selector| selector.number == u32::from(port))
    };
    match policy_spec.port_level_settings.iter().find(for_port) {
        Some(subset_layer) => (
            MergedTrafficPolicy {
                load_balancer: subset_layer.load_balancer.clone(),
                connection_pool: subset_layer.connection_pool.clone(),
                outlier_detection: subset_layer.outlier_detection.clone(),
                tls: subset_layer.tls.clone(),
                ..MergedTrafficPolicy::default()
            },
            PolicyScope::OnePort,
        ),
        None => (
            MergedTrafficPolicy {
                load_balancer: policy_spec.load_balancer.clone(),
                connection_pool: policy_spec.connection_pool.clone(),
                outlier_detection: policy_spec.outlier_detection.clone(),
                tls: policy_spec.tls.clone(),
                proxy_protocol: policy_spec.proxy_protocol,
                retry_budget: policy_spec.retry_budget.clone(),
                ..MergedTrafficPolicy::default()
            },
            PolicyScope::AllPorts,
        ),
    }
}

// === impl MeshPolicy ===

impl MeshPolicy {
    /// Reads the mesh configuration.
    pub fn of(mesh: &MeshConfig) -> Self {
        let policy = mesh.default_traffic_policy.clone().unwrap_or_default();
        Self {
            connect_timeout: mesh.connect_timeout,
            dns_refresh_rate: mesh.dns_refresh_rate,
            tcp_keepalive: mesh.tcp_keepalive.clone(),
            h2_upgrade: match mesh.h2_upgrade_policy {
                H2UpgradePolicy::DoNotUpgrade => H2Upgrade::DoNotUpgrade,
                H2UpgradePolicy::Upgrade => H2Upgrade::Upgrade,
            },
            connection_pool: policy.connection_pool,
            outlier_detection: policy.outlier_detection,
            // Enabled by default; without outlier detection it has no effect.
            locality: Some(mesh.locality_lb_setting.clone().unwrap_or_default()),
            zone_aware: mesh.zone_aware_lb_setting.clone(),
            outbound_stat_name: mesh.outbound_cluster_stat_name.clone(),
            inbound_stat_name: mesh.inbound_cluster_stat_name.clone(),
            tls_defaults: mesh.tls_defaults.clone().unwrap_or_default(),
        }
    }
}

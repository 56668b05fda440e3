//! How connections to one port of a service, or of one subset of it, are made: every layer put together.
//!
//! ```text
//! MeshConfig < trafficPolicy, or its portLevelSettings instead < the subset's trafficPolicy, or its portLevelSettings
//! ```
//!
//! What is said for a port says everything for it: what it leaves out is Istio's default and not inherited.
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

/// How connections to one port are made.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MergedTrafficPolicy {
    /// To which endpoint.
    pub load_balancer: Option<LoadBalancer>,
    /// How many.
    pub connection_pool: Option<ConnectionPool>,
    /// Which endpoints are left alone for a while.
    pub outlier_detection: Option<OutlierDetection>,
    /// How they are secured; `None`: nobody said.
    pub tls: Option<ClientTls>,
    /// The server is told who the client is.
    pub proxy_protocol: Option<ProxyProtocol>,
    /// How many retries at a time.
    pub retry_budget: Option<RetryBudget>,
    /// Which endpoints the service asks for.
    pub distribution: Distribution,
    /// What holds where nothing else is said.
    pub mesh: Arc<MeshPolicy>,
}

/// What the mesh says about connections.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct MeshPolicy {
    /// How long one may take to be made.
    pub connect_timeout: Duration,
    /// How often names are resolved whose answers have no time to live.
    pub dns_refresh_rate: Duration,
    /// Keepalive of every connection.
    pub tcp_keepalive: Option<TcpKeepalive>,
    /// Whether HTTP/1.1 becomes HTTP/2.
    pub h2_upgrade: H2Upgrade,
    /// `defaultTrafficPolicy.connectionPool`
    pub connection_pool: Option<ConnectionPool>,
    /// `defaultTrafficPolicy.outlierDetection`
    pub outlier_detection: Option<OutlierDetection>,
    /// Near endpoints first.
    pub locality: Option<LocalityLb>,
    /// Near endpoints first, as far as they suffice.
    pub zone_aware: Option<ZoneAwareLb>,
    /// How statistics of clusters of services are named, with `%SERVICE%` and the like; empty: as the clusters are.
    pub outbound_stat_name: String,
    /// How those of clusters of the workload are.
    pub inbound_stat_name: String,
    /// What is asked of TLS with servers outside.
    pub tls_defaults: MeshTls,
}

/// Which endpoints come first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LocalityPreference<'a> {
    /// All are alike.
    Off,
    /// Those of near localities.
    Locality(&'a LocalityLb),
    /// Those of the same zone, as far as they suffice.
    Zone(&'a ZoneAwareLb),
    /// Those that the service asks for.
    TrafficDistribution(Distribution),
}

// === impl MergedTrafficPolicy ===

impl MergedTrafficPolicy {
    /// What holds for a port of a service, or of a subset of it.
    pub fn of(rule: Option<&Rule>, subset: Option<&Subset>, port: u16, mesh: &Arc<MeshPolicy>) -> Self {
        let (of_host, _) = layer(rule.and_then(|rule| rule.traffic_policy.as_ref()), port);
        let mut policy = Self { mesh: mesh.clone(), ..of_host };
        policy.connection_pool = policy.connection_pool.or_else(|| mesh.connection_pool.clone());
        policy.outlier_detection = policy.outlier_detection.or_else(|| mesh.outlier_detection.clone());
        match subset.and_then(|subset| subset.traffic_policy.as_ref()) {
            None => policy,
            said => {
                let (own, reach) = layer(said, port);
                policy.overlaid(own, reach)
            }
        }
    }

    fn overlaid(self, own: Self, reach: PolicyScope) -> Self {
        let below = match reach {
            PolicyScope::AllPorts => self,
            // Ports cannot say the first two.
            PolicyScope::OnePort => Self {
                proxy_protocol: self.proxy_protocol,
                retry_budget: self.retry_budget,
                mesh: self.mesh,
                ..Self::default()
            },
        };
        Self {
            load_balancer: own.load_balancer.or(below.load_balancer),
            connection_pool: own.connection_pool.or(below.connection_pool),
            outlier_detection: own.outlier_detection.or(below.outlier_detection),
            tls: own.tls.or(below.tls),
            proxy_protocol: own.proxy_protocol.or(below.proxy_protocol),
            retry_budget: own.retry_budget.or(below.retry_budget),
            distribution: below.distribution,
            mesh: below.mesh,
        }
    }

    /// The same for a service that asks for some of its endpoints.
    #[must_use]
    pub fn with_distribution(self, distribution: Distribution) -> Self {
        Self { distribution, ..self }
    }

    /// What of it is for connections to the workload beside the proxy too: how many there may be.
    #[must_use]
    pub fn connection_limits(self) -> Self {
        let Self { connection_pool, retry_budget, mesh, .. } = self;
        Self { connection_pool, retry_budget, mesh, ..Self::default() }
    }

    /// Which endpoints come first: what the rule says, else what the service says, else what the mesh says.
    pub fn locality_preference(&self) -> LocalityPreference<'_> {
        let rule = self.load_balancer.as_ref();
        let zone = rule.and_then(|lb| lb.zone_aware_lb_setting.as_ref());
        let locality = rule.and_then(|lb| lb.locality_lb_setting.as_ref());
        let unless_off = |said: &LocalityLb| said.enabled != Some(false);
        match (zone, locality, self.distribution, &self.mesh.zone_aware, &self.mesh.locality) {
            (Some(zone), ..) | (None, None, Distribution::Any, Some(zone), _) => {
                LocalityPreference::Zone(zone)
            }
            (None, Some(locality), ..) | (None, None, Distribution::Any, None, Some(locality))
                if unless_off(locality) =>
            {
                LocalityPreference::Locality(locality)
            }
            (None, None, wanted @ (Distribution::SameZone | Distribution::SameNode), ..) => {
                LocalityPreference::TrafficDistribution(wanted)
            }
            _ => LocalityPreference::Off,
        }
    }

    /// What is asked of TLS, if anybody asked for something.
    pub fn tls_mode(&self) -> Option<ClientTlsMode> {
        self.tls.as_ref().map(|tls| tls.mode)
    }

    /// Whether a share of good endpoints is named below which all are used: then none may be sent that is known to be bad.
    pub fn has_panic_threshold(&self) -> bool {
        self.outlier_detection.as_ref().is_some_and(|outlier| outlier.min_health_percent > 0)
    }
}

/// For which ports a policy is.
#[derive(Clone, Copy, PartialEq, Eq)]
enum PolicyScope {
    AllPorts,
    OnePort,
}

fn layer(said: Option<&TrafficPolicy>, port: u16) -> (MergedTrafficPolicy, PolicyScope) {
    let Some(said) = said else { return (MergedTrafficPolicy::default(), PolicyScope::AllPorts) };
    let for_port = |settings: &&PortTrafficPolicy| {
        settings.port.is_some_and(|selector| selector.number == u32::from(port))
    };
    match said.port_level_settings.iter().find(for_port) {
        Some(own) => (
            MergedTrafficPolicy {
                load_balancer: own.load_balancer.clone(),
                connection_pool: own.connection_pool.clone(),
                outlier_detection: own.outlier_detection.clone(),
                tls: own.tls.clone(),
                ..MergedTrafficPolicy::default()
            },
            PolicyScope::OnePort,
        ),
        None => (
            MergedTrafficPolicy {
                load_balancer: said.load_balancer.clone(),
                connection_pool: said.connection_pool.clone(),
                outlier_detection: said.outlier_detection.clone(),
                tls: said.tls.clone(),
                proxy_protocol: said.proxy_protocol,
                retry_budget: said.retry_budget.clone(),
                ..MergedTrafficPolicy::default()
            },
            PolicyScope::AllPorts,
        ),
    }
}

// === impl MeshPolicy ===

impl MeshPolicy {
    /// What a mesh says.
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
            // On unless somebody turns it off; it does nothing before outliers are detected.
            locality: Some(mesh.locality_lb_setting.clone().unwrap_or_default()),
            zone_aware: mesh.zone_aware_lb_setting.clone(),
            outbound_stat_name: mesh.outbound_cluster_stat_name.clone(),
            inbound_stat_name: mesh.inbound_cluster_stat_name.clone(),
            tls_defaults: mesh.tls_defaults.clone().unwrap_or_default(),
        }
    }
}

//! `loadBalancer`: load balancing policy of a cluster. Locality priorities and weights belong to the assignment.

use std::time::Duration;

use pilot_proto::envoy::config::cluster::v3::Cluster;
use pilot_proto::envoy::config::cluster::v3::cluster::common_lb_config::{
    LocalityConfigSpecifier, LocalityWeightedLbConfig, ZoneAwareLbConfig,
};
use pilot_proto::envoy::config::cluster::v3::cluster::{
    ClusterDiscoveryType, DiscoveryType, LbConfig, LbPolicy, LeastRequestLbConfig, MaglevLbConfig,
    RingHashLbConfig, RoundRobinLbConfig, SlowStartConfig,
};
use pilot_proto::envoy::config::core::v3::RuntimeDouble;
use pilot_proto::envoy::r#type::v3::Percent;
use pilot_proto::google::protobuf::UInt64Value;

use crate::api::destination_rule::{ConsistentHash, LoadBalancer, SimpleLb, Warmup};
use crate::generate::proto::duration;
use crate::generate::traffic_policy::{LocalityPreference, MergedTrafficPolicy};

/// Invalid runtime key: Envoy requires a key with every runtime number, and this one cannot be set.
const FIXED: &str = "(";

/// Sets the load balancing of the policy. Clusters with a policy of their own (`CLUSTER_PROVIDED`) are not changed.
pub(super) fn apply(cluster: &mut Cluster, policy: &MergedTrafficPolicy) {
    if cluster.lb_policy() == LbPolicy::ClusterProvided {
        return;
    }
    cluster.common_lb_config.get_or_insert_default().locality_config_specifier = locality_preference(policy);
    let default = LoadBalancer::default();
    let settings = policy.load_balancer.as_ref().unwrap_or(&default);
    match settings.simple.unwrap_or_default() {
        SimpleLb::Unspecified | SimpleLb::LeastConn | SimpleLb::LeastRequest => {
            cluster.lb_policy = LbPolicy::LeastRequest.into();
            cluster.lb_config = slow_start(settings).map(|slow_start| {
                LbConfig::LeastRequestLbConfig(LeastRequestLbConfig {
                    slow_start_config: Some(slow_start),
                    ..LeastRequestLbConfig::default()
                })
            });
        }
        SimpleLb::RoundRobin => {
            cluster.lb_policy = LbPolicy::RoundRobin.into();
            cluster.lb_config = slow_start(settings).map(|slow_start| {
                LbConfig::RoundRobinLbConfig(RoundRobinLbConfig { slow_start_config: Some(slow_start) })
            });
        }
        SimpleLb::Random => cluster.lb_policy = LbPolicy::Random.into(),
        SimpleLb::Passthrough => {
            cluster.lb_policy = LbPolicy::ClusterProvided.into();
            cluster.cluster_discovery_type =
                Some(ClusterDiscoveryType::Type(DiscoveryType::OriginalDst.into()));
            cluster.load_assignment = None;
            cluster.eds_cluster_config = None;
        }
    }
    if let Some(hash) = &settings.consistent_hash {
        let (policy, config) = consistent(hash);
        cluster.lb_policy = policy.into();
        cluster.lb_config = config;
    }
}

/// Returns the locality config. Locality weights are used only if they are configured: otherwise `LEAST_REQUEST` would select
/// a locality first and then an endpoint.
fn locality_preference(policy: &MergedTrafficPolicy) -> Option<LocalityConfigSpecifier> {
    match policy.locality_preference() {
        LocalityPreference::Off => None,
        LocalityPreference::Locality(settings) => {
            let fails_over = policy.outlier_detection.is_some()
                && !(settings.failover.is_empty() && settings.failover_priority.is_empty());
            (fails_over || !settings.distribute.is_empty())
                .then_some(LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {}))
        }
        LocalityPreference::TrafficDistribution(_) => {
            Some(LocalityConfigSpecifier::LocalityWeightedLbConfig(LocalityWeightedLbConfig {}))
        }
        LocalityPreference::Zone(settings) => {
            Some(LocalityConfigSpecifier::ZoneAwareLbConfig(ZoneAwareLbConfig {
                // Zone-aware routing is enabled by default.
                routing_enabled: (settings.enabled == Some(false)).then(Percent::default),
                min_cluster_size: settings.min_cluster_size.map(|value| UInt64Value { value }),
                ..ZoneAwareLbConfig::default()
            }))
        }
    }
}

fn slow_start(settings: &LoadBalancer) -> Option<SlowStartConfig> {
    let deprecated = |window: Duration| SlowStartConfig {
        slow_start_window: duration(window),
        ..SlowStartConfig::default()
    };
    settings.warmup.as_ref().map(warmup).or_else(|| settings.warmup_duration_secs.map(deprecated))
}

fn warmup(settings: &Warmup) -> SlowStartConfig {
    SlowStartConfig {
        slow_start_window: settings.duration.and_then(duration),
        aggression: Some(RuntimeDouble {
            default_value: settings.aggression.map_or(1.0, |aggression| aggression.0),
            runtime_key: FIXED.into(),
        }),
        min_weight_percent: Some(Percent {
            value: settings.minimum_percent.map_or(10.0, |percent| percent.0),
        }),
    }
}

fn consistent(settings: &ConsistentHash) -> (LbPolicy, Option<LbConfig>) {
    let at_least = |size: u64| UInt64Value { value: size };
    let ring = |size: u64| {
        LbConfig::RingHashLbConfig(RingHashLbConfig {
            minimum_ring_size: Some(at_least(size)),
            ..RingHashLbConfig::default()
        })
    };
    match (&settings.maglev, &settings.ring_hash) {
        (Some(maglev), _) => {
            let table = |size| LbConfig::MaglevLbConfig(MaglevLbConfig { table_size: Some(at_least(size)) });
            (LbPolicy::Maglev, (maglev.table_size != 0).then(|| table(maglev.table_size)))
        }
        (None, Some(ring_hash)) => (
            LbPolicy::RingHash,
            (ring_hash.minimum_ring_size != 0).then(|| ring(ring_hash.minimum_ring_size)),
        ),
        (None, None) => match settings.minimum_ring_size {
            0 => (LbPolicy::RingHash, Some(ring(1024))),
            size => (LbPolicy::RingHash, Some(ring(size))),
        },
    }
}

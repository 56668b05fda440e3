//! Dynamic forward proxy clusters: resolution of the client's host by a filter.
//!
//! Such a cluster only reads a DNS cache, which a filter with the same cache fills; without the filter Envoy has no host to connect to.

use pilot_proto::envoy::config::cluster::v3::cluster::CustomClusterType;
use pilot_proto::envoy::config::listener::v3::Filter;
use pilot_proto::envoy::extensions::clusters::dynamic_forward_proxy::v3::{
    ClusterConfig, cluster_config::ClusterImplementationSpecifier,
};
use pilot_proto::envoy::extensions::filters::http::dynamic_forward_proxy::v3::{
    FilterConfig as HttpConfig, filter_config::ImplementationSpecifier,
};
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_filter,
};
use pilot_proto::envoy::extensions::filters::network::sni_dynamic_forward_proxy::v3::FilterConfig as SniConfig;

use super::proxy_config_view::{message, unpack};
use super::trace::Verdict;
use super::upstream_types::Upstream;

/// Returns the DNS cache of a dynamic forward proxy cluster.
pub(super) fn read_by(custom: &CustomClusterType) -> Option<String> {
    match unpack::<ClusterConfig>(custom.typed_config.as_ref()?)?.cluster_implementation_specifier? {
        ClusterImplementationSpecifier::DnsCacheConfig(cache) => Some(cache.name),
        ClusterImplementationSpecifier::SubClustersConfig(_) => None,
    }
}

/// Returns the DNS caches that the filters of a connection manager fill.
pub(super) fn filled_by(manager: &HttpConnectionManager) -> Vec<String> {
    let filters = manager.http_filters.iter().filter_map(|filter| match &filter.config_type {
        Some(http_filter::ConfigType::TypedConfig(config)) => unpack::<HttpConfig>(config),
        _ => None,
    });
    let caches = filters.filter_map(|config| match config.implementation_specifier {
        Some(ImplementationSpecifier::DnsCacheConfig(cache)) => Some(cache.name),
        _ => None,
    });
    caches.collect()
}

/// Returns the DNS cache that a network filter fills.
pub(super) fn filled_by_sni(filter: &Filter) -> Option<String> {
    message::<SniConfig>(filter)?.dns_cache_config.map(|cache| cache.name)
}

/// Marks clusters without a filter for their DNS cache as unresolved.
pub(super) fn looked_up(mut verdict: Verdict, filled: &[String]) -> Verdict {
    if let Verdict::Forwarded(shares) = &mut verdict {
        for share in shares {
            if let Upstream::ByName(cache) = &share.upstream
                && !filled.contains(cache)
            {
                share.upstream = Upstream::Unresolved;
            }
        }
    }
    verdict
}

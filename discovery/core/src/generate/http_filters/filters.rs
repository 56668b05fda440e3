//! Configuration of each HTTP filter.

use pilot_proto::envoy::extensions::filters::http::{
    cors::v3::Cors,
    dynamic_forward_proxy::v3::{
        FilterConfig as DynamicForwardProxy, filter_config::ImplementationSpecifier,
    },
    fault::v3::HttpFault,
    grpc_stats::v3::{FilterConfig as GrpcStats, filter_config},
    grpc_web::v3::GrpcWeb,
    router::v3::Router,
};
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpFilter, http_filter,
};
use pilot_proto::google::protobuf::BoolValue;
use pilot_proto::mesh::proxy_config::ProxyHeaders;
use prost::{Message, Name};

use crate::generate::IpFamilies;
use crate::generate::cluster::dns_cache;
use crate::generate::proto::any;

pub(super) fn grpc_web() -> HttpFilter {
    filter("envoy.filters.http.grpc_web", &GrpcWeb::default())
}

pub(super) fn grpc_stats() -> HttpFilter {
    let all_methods = BoolValue { value: false };
    let config = GrpcStats {
        emit_filter_state: true,
        per_method_stat_specifier: Some(filter_config::PerMethodStatSpecifier::StatsForAllMethods(
            all_methods,
        )),
        ..GrpcStats::default()
    };
    filter("envoy.filters.http.grpc_stats", &config)
}

pub(in crate::generate) fn fault() -> HttpFilter {
    filter("envoy.filters.http.fault", &HttpFault::default())
}

pub(super) fn cors() -> HttpFilter {
    filter("envoy.filters.http.cors", &Cors::default())
}

pub(super) fn dynamic_forward_proxy(families: IpFamilies) -> HttpFilter {
    let cache = ImplementationSpecifier::DnsCacheConfig(dns_cache(families));
    let config =
        DynamicForwardProxy { implementation_specifier: Some(cache), ..DynamicForwardProxy::default() };
    filter("envoy.filters.http.dynamic_forward_proxy", &config)
}

pub(in crate::generate) fn router(headers: &ProxyHeaders) -> HttpFilter {
    let suppress_envoy_headers = headers.envoy_debug_headers.disabled == Some(true);
    filter("envoy.filters.http.router", &Router { suppress_envoy_headers, ..Router::default() })
}

fn filter<M: Message + Name>(name: &str, config: &M) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: any(config).map(http_filter::ConfigType::TypedConfig),
        ..HttpFilter::default()
    }
}

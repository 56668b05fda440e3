//! Overload manager: limits on connections and heap.

use std::num::NonZeroU64;

use serde_json::{Value, json};

use crate::config::Config;

/// `overload_manager`.
pub(super) fn render(config: &Config) -> Value {
    let mut monitors = vec![connections(config)];
    let Some(max_heap) = config.envoy.max_heap else {
        return json!({"resource_monitors": monitors});
    };
    monitors.push(heap(max_heap));
    // The thresholds of Envoy's own advice for the edge: at 95 % of the heap it gives freed pages back to the
    // kernel, and at 98 % it answers new requests with 503 until there is room again. Those under way go on, and
    // all are lost if the kernel kills it instead. Requests can fill a heap within the usual second between two looks.
    let at = |threshold: f64| json!([{"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": threshold}}]);
    json!({
        "refresh_interval": "0.25s",
        "resource_monitors": monitors,
        "actions": [
            {"name": "envoy.overload_actions.shrink_heap", "triggers": at(0.95)},
            {"name": "envoy.overload_actions.stop_accepting_requests", "triggers": at(0.98)},
        ],
    })
}

/// The limit on downstream connections, from the newest of three ways to set it down to none.
fn connections(config: &Config) -> Value {
    let proxy = &config.proxy;
    let settings = proxy.connection_settings.as_ref();
    let limit = settings.and_then(|settings| settings.global_downstream_connection_limit);
    let number = |text: Option<&String>| text.and_then(|text| text.parse::<i32>().ok());
    let limit = limit
        .filter(|limit| *limit > 0)
        .or_else(|| number(proxy.proxy_metadata.get("ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS")))
        .or_else(|| number(proxy.runtime_values.get("overload.global_downstream_max_connections")))
        .unwrap_or(i32::MAX);
    json!({
        "name": "envoy.resource_monitors.global_downstream_max_connections",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
            "max_active_downstream_connections": limit,
        },
    })
}

fn heap(max_heap: NonZeroU64) -> Value {
    json!({
        "name": "envoy.resource_monitors.fixed_heap",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
            "max_heap_size_bytes": max_heap,
        },
    })
}

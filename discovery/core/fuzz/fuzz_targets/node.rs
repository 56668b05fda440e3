//! Fuzzes the node of a proxy, and everything that is generated for it.
//!
//! The first byte selects the format of the rest: a whole node, the metadata of a valid node, or the same as JSON.

#![no_main]
#![allow(clippy::unwrap_used, clippy::panic, reason = "the fixture is the tests'")]

#[path = "../../tests/fixture/mod.rs"]
mod fixture;

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use pilot_core::cache::{Cache, resources};
use pilot_core::model::Proxy;
use pilot_core::push::PushContext;
use pilot_core::scope::{Scope, ScopeKey};
use pilot_proto::ResourceType;
use pilot_proto::envoy::config::core::v3::Node;
use pilot_proto::google::protobuf::{Struct, value::Kind};
use pilot_proto::node::from_json;
use prost::Message;

/// A little of everything that listeners, clusters and routes differ for.
static MESH: LazyLock<PushContext> = LazyLock::new(|| {
    fixture::mesh([
        fixture::kubernetes("web.default").port("http", 80).vip("10.0.0.1").on("10.0.1.1").on("10.0.1.2"),
        fixture::kubernetes("db.default").port("tcp-db", 3306).vip("10.0.0.2").on("10.0.1.3"),
        fixture::kubernetes("peers.default").port("tcp", 7000).headless().on("10.0.1.1").on("10.0.1.4"),
        fixture::entry("out.example").port("https", 443),
    ])
});

fuzz_target!(|data: &[u8]| {
    let Some((form, rest)) = data.split_first() else { return };
    let id = "sidecar~10.0.1.1~web-1.default~default.svc.cluster.local".to_owned();
    let node = match form % 3 {
        0 => Node::decode(rest).ok(),
        1 => {
            Struct::decode(rest).ok().map(|metadata| Node { id, metadata: Some(metadata), ..Node::default() })
        }
        _ => serde_json::from_slice(rest).ok().and_then(|json| match from_json(&json).kind {
            Some(Kind::StructValue(metadata)) => {
                Some(Node { id, metadata: Some(metadata), ..Node::default() })
            }
            _ => None,
        }),
    };
    let Some(Ok(proxy)) = node.as_ref().map(Proxy::from_node) else { return };
    let scope = Scope::of(&MESH, ScopeKey::of(&MESH, &proxy), None);
    let cache = Cache::default();
    let names = fixture::names([
        "outbound|80||web.default.svc.cluster.local",
        "outbound|7000||peers.default.svc.cluster.local",
        "80",
        "web.default.svc.cluster.local:80",
        "http_proxy",
    ]);
    for kind in ResourceType::ALL {
        for asked in [None, Some(&names)] {
            let generated = resources(&cache, &MESH, &scope, &proxy, kind, asked);
            let panicked = format!("{:?}", generated.report);
            assert!(!panicked.contains("Panicked"), "{panicked}");
        }
    }
    // Debug pages show the metadata.
    let told = proxy.metadata.to_struct();
    assert!(pilot_proto::node::NodeMetadata::from_struct(&told).is_ok(), "{told:?}");
});

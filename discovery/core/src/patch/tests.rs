//! Patches as users write them, applied to hand-made resources and compared as JSON.

mod http_filters;
mod inside_clusters;
mod inside_listeners;
mod inside_routes;
mod parsing;
mod properties;
mod selecting;

use std::collections::BTreeMap;

use pilot_proto::proto3_json::{from_value, to_value};
use prost::{Message, Name};
use serde_json::{Value, json};

use super::*;
use crate::api::EnvoyFilter;
use crate::model::{ConfigMeta, Proxy};
use crate::validate::{Finding, Severity};

const MANAGER: &str = "envoy.filters.network.http_connection_manager";

fn meta(namespace: &str, name: &str, created: i64) -> ConfigMeta {
    let (labels, annotations) = (BTreeMap::new(), BTreeMap::new());
    ConfigMeta { namespace: namespace.into(), name: name.into(), labels, annotations, created }
}

/// A proxy of this type in the namespace `shop`.
fn proxy(node_type: &str, metadata: &Value) -> Proxy {
    let id = format!("{node_type}~10.1.1.1~pod.shop~shop.svc.cluster.local");
    Proxy {
        id: id.parse().unwrap(),
        ips: vec!["10.1.1.1".parse().unwrap()],
        namespace: "shop".into(),
        metadata: serde_json::from_value(metadata.clone()).unwrap(),
        locality: crate::model::Locality::default(),
        service_cluster: String::new(),
    }
}

/// An `EnvoyFilter` of the namespace `shop`, none of it rejected.
fn parsed(config_patches: &Value) -> Patches {
    let spec: EnvoyFilter = serde_json::from_value(json!({"configPatches": config_patches})).unwrap();
    let (patches, findings) = Patches::parse(&meta("shop", "f", 0), &spec);
    let rejected: Vec<&Finding> =
        findings.iter().filter(|finding| finding.severity == Severity::Error).collect();
    assert!(rejected.is_empty(), "{rejected:?}");
    patches
}

/// These changes of a proxy in this context.
fn set(context: Context, config_patches: &Value) -> PatchSet {
    let node_type = if context == Context::Gateway { "router" } else { "sidecar" };
    let patches = parsed(config_patches);
    PatchSet::select([&patches], &"istio-system".into(), &proxy(node_type, &json!({})), &BTreeMap::new())
}

/// The message that this JSON is, as JSON with the spelling of messages.
fn normal<M: Message + Name + Default>(value: &Value) -> Value {
    to_value(&from_value::<M>(value).unwrap()).unwrap()
}

fn verdicts(set: &PatchSet, outcomes: &Outcomes) -> Vec<Verdict> {
    set.iter().map(|patch| outcomes.verdict(patch)).collect()
}

/// One change of one thing.
fn change(apply_to: &str, matching: &Value, operation: &str, value: &Value) -> Value {
    let mut patch = json!({"operation": operation});
    if !value.is_null() {
        patch["value"] = value.clone();
    }
    json!([{"applyTo": apply_to, "match": matching, "patch": patch}])
}

fn chains(filters: &Value) -> Value {
    json!([{"filters": filters}])
}

/// Wraps a configuration that every test may use: an Envoy message of one text.
fn text(value: &str) -> Value {
    json!({"@type": "type.googleapis.com/google.protobuf.StringValue", "value": value})
}

/// Filters of these names.
fn named(names: &str) -> Value {
    names.split_whitespace().map(|name| json!({"name": name, "typed_config": text(name)})).collect()
}

/// The names of these.
fn names<'a>(named: impl IntoIterator<Item = &'a String>) -> String {
    named.into_iter().map(String::as_str).collect::<Vec<_>>().join(" ")
}

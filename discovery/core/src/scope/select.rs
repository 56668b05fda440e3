//! Selection of the `Sidecar` and the `Gateway`s of a class of proxies.

use std::collections::BTreeSet;
use std::sync::Arc;

use pilot_proto::node::NodeType;

use super::{ScopeKey, egress, spec_of};
use crate::api::Gateway;
use crate::api::values::Map;
use crate::model::{ConfigKind, ConfigObject, ConfigSpec, Namespace, Shared};
use crate::push::{PushContext, Routing};

/// Returns the `Sidecar` of a class: one whose selector matches, else one for the whole namespace, else that of the root
/// namespace; of several the oldest.
pub(super) fn sidecar(push: &PushContext, key: &ScopeKey) -> Option<Shared<ConfigObject>> {
    if key.node_type != NodeType::Sidecar {
        return None;
    }
    let root = Namespace::from(&*push.mesh.root_namespace);
    let oldest = |namespace: &Namespace, selected: fn(&ScopeKey, Option<&Map>) -> bool| {
        let holding = push.configs_in(ConfigKind::Sidecar, namespace).filter(|object| {
            let selector = spec_of(object).and_then(|spec| spec.workload_selector.as_ref());
            selected(key, selector.map(|selector| &selector.labels))
        });
        holding.min_by_key(|object| (object.meta.created, object.meta.name.clone())).cloned()
    };
    let selects =
        |key: &ScopeKey, selector: Option<&Map>| selector.is_some_and(|labels| key.is_selected(labels));
    let for_all = |_: &ScopeKey, selector: Option<&Map>| selector.is_none();
    let found = oldest(&key.namespace, selects)
        .or_else(|| oldest(&key.namespace, for_all))
        .or_else(|| oldest(&root, for_all));
    found.map(Shared::from)
}

/// Returns the `Gateway`s whose selector matches a class, oldest first. An empty selector matches all gateways.
pub(super) fn gateways(push: &PushContext, key: &ScopeKey) -> Arc<[Shared<ConfigObject>]> {
    if key.node_type != NodeType::Router {
        return Arc::default();
    }
    let selects = |object: &&Arc<ConfigObject>| match &object.spec {
        ConfigSpec::Gateway(Gateway { selector, .. }) => key.is_selected(selector),
        _ => false,
    };
    let mut found: Vec<&Arc<ConfigObject>> = push.configs_of(ConfigKind::Gateway).filter(selects).collect();
    found.sort_by_key(|object| (object.meta.created, &object.meta.name, &object.meta.namespace));
    found.into_iter().map(|object| object.clone().into()).collect()
}

/// Returns the `VirtualService`s for these `Gateway`s.
pub(super) fn gateway_routings(
    push: &PushContext,
    key: &ScopeKey,
    gateways: &[Shared<ConfigObject>],
) -> Arc<[Shared<Routing>]> {
    let names: BTreeSet<String> =
        gateways.iter().map(|gateway| format!("{}/{}", gateway.meta.namespace, gateway.meta.name)).collect();
    if names.is_empty() {
        return Arc::default();
    }
    let bound =
        push.routings.iter().filter(|routing| routing.gateways.iter().any(|name| names.contains(name)));
    egress::ordered(bound.filter(|routing| routing.is_visible_from(&key.namespace)), &key.namespace)
}

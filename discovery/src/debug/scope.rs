//! `/debug/sidecarz`: services that a proxy sees, and reasons for those that it does not. `/debug/instancesz`: services of its
//! workload.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::response::Response;
use pilot_core::model::{ExportTo, Namespace, Resolution, Service};
use pilot_core::push::PushContext;
use pilot_core::scope::{Scope, ScopeKey};
use serde_json::{Value, json};

use super::page::{Params, named, page};
use super::registry::service_json;
use super::{Arc, RunningState};

/// `/debug/sidecarz?proxyID=`: a subset of Istio's fields, and `hidden`.
pub(super) async fn sidecarz(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    let client = match named(&state, &params) {
        Ok(client) => client,
        Err(answer) => return *answer,
    };
    let snapshot = state.ads.snapshot();
    let scope = Scope::of(&snapshot, ScopeKey::of(&snapshot, &client.proxy), None);
    let services: Vec<Value> = scope.services().iter().map(|seen| service_json(&seen.service)).collect();
    let by_host: BTreeMap<&str, &Value> =
        scope.services().iter().map(|seen| seen.service.hostname.as_str()).zip(&services).collect();
    let hidden: Vec<Value> = snapshot
        .services
        .values()
        .filter_map(|service| {
            let why = hidden(&snapshot, &scope, service)?;
            Some(json!({"hostname": service.hostname, "namespace": service.namespace, "why": why}))
        })
        .collect();
    let scope = json!({
        "version": *state.ads.generation.version(&snapshot),
        "name": "default-sidecar",
        "namespace": client.proxy.namespace,
        "services": services,
        "servicesByHostname": by_host,
        "hidden": hidden,
    });
    page(&params, &scope)
}

/// Returns the reason why a class of proxies does not see a service; `None` if it does.
fn hidden(snapshot: &PushContext, scope: &Scope, service: &Service) -> Option<String> {
    let viewer = &scope.key().namespace;
    if !is_exported(snapshot, service, viewer) {
        return Some(format!("exportTo does not include namespace {viewer}"));
    }
    if let Resolution::Alias(target) = &service.resolution {
        return Some(format!("is only another name for {target}"));
    }
    match scope.by_host(service.hostname.as_str()) {
        Some(seen) if seen.service.namespace == service.namespace => None,
        Some(seen) => {
            Some(format!("the declaration of the same host in namespace {} counts", seen.service.namespace))
        }
        None => Some("another declaration of the same host counts".to_owned()),
    }
}

fn is_exported(snapshot: &PushContext, service: &Service, viewer: &Namespace) -> bool {
    let default: Vec<ExportTo> =
        snapshot.mesh.default_service_export_to.iter().map(|text| ExportTo::parse(text)).collect();
    let list = if service.export_to.is_empty() { &default } else { &service.export_to };
    ExportTo::allows(list, &service.namespace, viewer)
}

/// `/debug/instancesz`: ports of the services of each proxy's workload.
pub(super) async fn instancesz(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    let snapshot = state.ads.snapshot();
    let instances: BTreeMap<String, Vec<Value>> = state
        .ads
        .hub
        .clients()
        .iter()
        .map(|client| {
            let targets = snapshot.service_targets(&client.proxy);
            let target = |target: &pilot_core::push::ServiceTarget| {
                let port = &target.port;
                json!({
                    "Service": service_json(&target.service),
                    "Port": {
                        "name": port.name, "port": port.port, "protocol": port.protocol.as_str(),
                        "TargetPort": target.target_port,
                    },
                })
            };
            (client.proxy.id.id.clone(), targets.iter().map(target).collect())
        })
        .collect();
    page(&params, &instances)
}

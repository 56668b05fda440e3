//! `/debug/config_dump?proxyID=`: what a proxy should have now, in the form of Envoy's own `/config_dump`.

use std::collections::BTreeSet;

use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use pilot_core::model::Resource;
use pilot_proto::ResourceType;
use pilot_proto::google::protobuf::Any;
use pilot_proto::json::encoded_to_value;
use prost::Message as _;

use super::{Arc, Client, Params, Shared, State, Value, json, named, page};

/// `/debug/config_dump?proxyID=[&types=cds,lds,rds,eds]`
pub(super) async fn config_dump(State(shared): State<Arc<Shared>>, params: Params) -> Response {
    let client = match named(&shared, &params) {
        Ok(client) => client,
        Err(answer) => return *answer,
    };
    let types = params.0.get("types").map(|types| types.split(',').collect::<BTreeSet<_>>());
    let wanted = |kind: ResourceType| types.as_ref().is_none_or(|types| types.contains(kind.short()));
    let mut configs = Vec::new();
    for (kind, known) in client.types().into_iter().filter(|(kind, _)| wanted(*kind)) {
        match section(&shared, &client, kind, known.names).await {
            Ok(config) => configs.extend(config),
            Err(error) => return (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response(),
        }
    }
    page(&json!({"configs": configs}))
}

async fn section(
    shared: &Shared,
    client: &Client,
    kind: ResourceType,
    names: Option<Arc<BTreeSet<Arc<str>>>>,
) -> anyhow::Result<Option<Value>> {
    let snapshot = shared.snapshot();
    let version = shared.generation.version(&snapshot);
    let generated = shared
        .generation
        .generate(snapshot, client.proxy.clone(), kind, names.map(Arc::unwrap_or_clone))
        .await?;
    let resources: Vec<Value> = generated
        .resources
        .into_values()
        .map(|resource| to_json(&resource))
        .collect::<anyhow::Result<_>>()?;
    let dump = |message: &str| format!("type.googleapis.com/envoy.admin.v3.{message}");
    let listed = |field: &str| -> Vec<Value> {
        resources.iter().map(|resource| json!({"version_info": *version, field: resource})).collect()
    };
    Ok(match kind {
        ResourceType::Cluster => Some(json!({
            "@type": dump("ClustersConfigDump"), "version_info": *version, "dynamic_active_clusters": listed("cluster"),
        })),
        ResourceType::Listener => {
            let listener = |resource: &Value| {
                let state = json!({"version_info": *version, "listener": resource});
                json!({"name": resource.get("name"), "active_state": state})
            };
            let listeners: Vec<Value> = resources.iter().map(listener).collect();
            Some(json!({
                "@type": dump("ListenersConfigDump"), "version_info": *version, "dynamic_listeners": listeners,
            }))
        }
        ResourceType::Route => Some(json!({
            "@type": dump("RoutesConfigDump"), "dynamic_route_configs": listed("route_config"),
        })),
        ResourceType::Endpoint => Some(json!({
            "@type": dump("EndpointsConfigDump"), "dynamic_endpoint_configs": listed("endpoint_config"),
        })),
        ResourceType::Secret | ResourceType::Extension => None,
    })
}

/// A resource as JSON, with its `@type`.
fn to_json(resource: &Resource) -> anyhow::Result<Value> {
    let any = Any::decode(resource.body.clone())?;
    let name = any.type_url.rsplit('/').next().unwrap_or_default();
    let mut value = encoded_to_value(name, &any.value)?;
    if let Value::Object(fields) = &mut value {
        fields.insert("@type".into(), any.type_url.clone().into());
    }
    Ok(value)
}

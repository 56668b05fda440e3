//! Pages about services, endpoints and configuration objects.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, SystemTime};

use axum::extract::State;
use axum::response::Response;
use pilot_core::model::{ConfigObject, Endpoint, ExportTo, Health, Location, Resolution, Service};
use serde_json::{Map, Value, json};

use super::page::{Params, page, time};
use super::{Arc, RunningState};
use crate::source::objects::{SCHEMAS, Schema};

/// `/debug/registryz`: all services.
pub(super) async fn registryz(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    page(
        &params,
        &state.ads.snapshot().services.values().map(|service| service_json(service)).collect::<Vec<_>>(),
    )
}

pub(super) fn service_json(service: &Service) -> Value {
    let ports: Vec<Value> = service
        .ports
        .iter()
        .map(|port| json!({"name": port.name, "port": port.port, "protocol": port.protocol.as_str()}))
        .collect();
    let vips: Vec<String> = service.addresses.iter().map(ToString::to_string).collect();
    let export_to: BTreeMap<String, Value> = service
        .export_to
        .iter()
        .map(|target| match target {
            ExportTo::Public => "*".to_owned(),
            ExportTo::Private => ".".to_owned(),
            ExportTo::Nobody => "~".to_owned(),
            ExportTo::To(namespace) => namespace.to_string(),
        })
        .map(|target| (target, json!({})))
        .collect();
    // Istio prints the numbers of its enum.
    let resolution = match service.resolution {
        Resolution::ClientSideLb => 0,
        Resolution::Dns => 1,
        Resolution::Passthrough => 2,
        Resolution::DnsRoundRobin => 3,
        Resolution::Alias(_) => 4,
        Resolution::DynamicDns => 5,
    };
    json!({
        "Attributes": {
            "ServiceRegistry": service.registry.as_str(),
            "Name": service.name,
            "Namespace": service.namespace,
            "Labels": service.labels,
            "ExportTo": export_to,
            "LabelSelectors": service.selector,
        },
        "ports": ports,
        "creationTime": created(service.created),
        "hostname": service.hostname,
        "clusterVIPs": {"Addresses": vips},
        "defaultAddress": vips.first().map_or("0.0.0.0", String::as_str),
        "Resolution": resolution,
        "MeshExternal": service.location == Location::MeshExternal,
    })
}

fn created(seconds: i64) -> Option<String> {
    let seconds = u64::try_from(seconds).ok().filter(|seconds| *seconds > 0)?;
    Some(time(SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)))
}

/// `/debug/endpointz`: endpoints of each port of each service.
pub(super) async fn endpointz(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    let snapshot = state.ads.snapshot();
    let mut ports = Vec::new();
    for service in snapshot.services.values() {
        let endpoints = snapshot.endpoints_of(service);
        for port in &service.ports {
            let served: Vec<Value> = endpoints
                .iter()
                .filter(|endpoint| endpoint.port_name == port.name)
                .map(endpoint_json)
                .collect();
            ports.push(json!({"svc": format!("{}:{}", service.hostname, port.name), "ep": served}));
        }
    }
    page(&params, &ports)
}

fn endpoint_json(endpoint: &Endpoint) -> Value {
    // Istio prints the numbers of its enum, from 1.
    let health = match endpoint.health {
        Health::Healthy => 1,
        Health::Unhealthy => 2,
        Health::Draining => 3,
        Health::Terminating => 4,
    };
    json!({
        "Addresses": [endpoint.address.to_string()],
        "EndpointPort": endpoint.port,
        "ServicePortName": endpoint.port_name,
        "Labels": *endpoint.labels,
        "ServiceAccount": endpoint.service_account,
        "Network": endpoint.network,
        "Locality": {"Label": endpoint.locality.to_string()},
        "LbWeight": endpoint.weight,
        "HealthStatus": health,
        "TLSMode": endpoint.tls_mode.as_str(),
        "Namespace": endpoint.namespace,
        "WorkloadName": endpoint.workload,
        "NodeName": endpoint.node,
    })
}

/// `/debug/endpointShardz`: endpoints by host, namespace and registry. A snapshot has the endpoints of all sources together, so a
/// service has one shard, that of its own registry.
pub(super) async fn endpoint_shardz(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    let snapshot = state.ads.snapshot();
    let mut hosts: BTreeMap<&str, BTreeMap<&str, Value>> = BTreeMap::new();
    for service in snapshot.services.values() {
        let endpoints = snapshot.endpoints_of(service);
        let accounts: BTreeSet<&str> = endpoints
            .iter()
            .map(|endpoint| &*endpoint.service_account)
            .filter(|account| !account.is_empty())
            .collect();
        let registry = format!("{}/{}", service.registry.as_str(), state.cluster_id);
        let shards = json!({
            "Shards": {registry: endpoints.iter().map(endpoint_json).collect::<Vec<_>>()},
            // Istio prints a set as Go does.
            "ServiceAccounts": accounts.into_iter().map(|name| (name, json!({}))).collect::<BTreeMap<_, _>>(),
        });
        hosts.entry(service.hostname.as_str()).or_default().insert(service.namespace.as_str(), shards);
    }
    page(&params, &hosts)
}

/// `/debug/resourcesz`: the kinds of configuration objects that are read.
pub(super) async fn resourcesz(params: Params) -> Response {
    let kinds = SCHEMAS.iter().map(
        |schema| json!({"group": schema.group, "version": schema.version, "kind": schema.kind.as_str()}),
    );
    page(&params, &kinds.collect::<Vec<_>>())
}

/// `/debug/configz`: all configuration objects, in the form of `kubectl`.
pub(super) async fn configz(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    page(
        &params,
        &state.ads.snapshot().configs.values().map(|object| config_json(object)).collect::<Vec<_>>(),
    )
}

fn config_json(object: &ConfigObject) -> Value {
    let meta = &object.meta;
    let mut metadata = Map::from_iter([
        ("name".to_owned(), json!(meta.name)),
        ("namespace".to_owned(), json!(meta.namespace)),
    ]);
    let texts = [("labels", &meta.labels), ("annotations", &meta.annotations)];
    metadata.extend(
        texts.iter().filter(|(_, map)| !map.is_empty()).map(|(name, map)| ((*name).into(), json!(map))),
    );
    metadata.extend(created(meta.created).map(|time| ("creationTimestamp".to_owned(), json!(time))));
    let api_version =
        Schema::of(object.spec.kind()).map(|schema| format!("{}/{}", schema.group, schema.version));
    json!({
        "apiVersion": api_version,
        "kind": object.spec.kind().as_str(),
        "metadata": metadata,
        // The text of an object is always valid JSON.
        "spec": object.spec.written().unwrap_or_default(),
    })
}

/// `/debug/mesh`: the mesh configuration.
pub(super) async fn mesh(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    page(&params, &*state.ads.snapshot().mesh)
}

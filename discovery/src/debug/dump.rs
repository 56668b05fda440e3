//! Configuration that a proxy should have now, in the form of Envoy's `/config_dump`: `config_dump`, `edsz`, and the same over
//! xDS.
//!
//! Resources are generated as in a push and not cached. Fields have the spelling of Envoy's admin (`version_info`), which
//! protobuf's JSON readers accept as well as Istio's `versionInfo`.

use std::collections::BTreeSet;

use anyhow::Context as _;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use pilot_core::model::Resource;
use pilot_proto::envoy::admin::v3::{
    BootstrapConfigDump, ClustersConfigDump, ConfigDump, EcdsConfigDump, EndpointsConfigDump,
    ListenersConfigDump, RoutesConfigDump, ScopedRoutesConfigDump, SecretsConfigDump,
    clusters_config_dump::DynamicCluster,
    ecds_config_dump::EcdsFilterConfig,
    endpoints_config_dump::DynamicEndpointConfig,
    listeners_config_dump::{DynamicListener, DynamicListenerState},
    routes_config_dump::DynamicRouteConfig,
    secrets_config_dump::DynamicSecret,
};
use pilot_proto::envoy::config::core::v3::{DataSource, data_source::Specifier};
use pilot_proto::envoy::extensions::transport_sockets::tls::v3::{Secret, secret::Type};
use pilot_proto::google::protobuf::Any;
use pilot_proto::{ResourceType, any, proto3_json};
use prost::Message as _;

use super::page::{Params, given, named, page, refuse};
use super::{Arc, RunningState};
use crate::ads::Client;

/// Endpoints in a dump; as in Envoy, only on request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Endpoints {
    With,
    Without,
}

/// `/debug/config_dump?proxyID=[&types=cds,lds][&include_eds]`: with types only their resources, as in Istio.
pub(super) async fn config_dump(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    let types: Option<BTreeSet<String>> =
        given(&params, "types").map(|types| types.split(',').map(str::to_lowercase).collect());
    let endpoints = if params.contains_key("include_eds") { Endpoints::With } else { Endpoints::Without };
    dump(&state, &params, types, endpoints).await
}

/// `/debug/edsz?proxyID=`
pub(super) async fn edsz(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    dump(&state, &params, Some(["eds".to_owned()].into()), Endpoints::Without).await
}

async fn dump(
    state: &RunningState,
    params: &Params,
    types: Option<BTreeSet<String>>,
    endpoints: Endpoints,
) -> Response {
    let client = match named(state, params) {
        Ok(client) => client,
        Err(answer) => return *answer,
    };
    let configs = match types {
        Some(types) => bare(state, &client, &types).await,
        None => sections(state, &client, endpoints).await,
    };
    let value = configs.and_then(|configs| Ok(proto3_json::to_value(&ConfigDump { configs })?));
    match value {
        Ok(value) => page(params, &value),
        Err(error) => refuse(StatusCode::INTERNAL_SERVER_ERROR, &format!("{error:#}\n")),
    }
}

async fn bare(state: &RunningState, client: &Client, types: &BTreeSet<String>) -> anyhow::Result<Vec<Any>> {
    let mut configs = Vec::new();
    for kind in ResourceType::ALL.into_iter().filter(|kind| types.contains(kind.short())) {
        configs.extend(resources(state, client, kind).await?.into_iter().map(|(_, any)| any));
    }
    Ok(configs)
}

/// Returns the sections of a dump, in Envoy's order.
pub(super) async fn sections(
    state: &RunningState,
    client: &Client,
    endpoints: Endpoints,
) -> anyhow::Result<Vec<Any>> {
    let version = state.ads.generation.version(&state.ads.snapshot()).to_string();
    let version = || version.clone();
    let of = async |kind| resources(state, client, kind).await;

    let mut sections = vec![any(&BootstrapConfigDump::default())];
    let cluster = |(_, cluster)| DynamicCluster { cluster: Some(cluster), ..DynamicCluster::default() };
    sections.push(any(&ClustersConfigDump {
        version_info: version(),
        dynamic_active_clusters: of(ResourceType::Cluster).await?.into_iter().map(cluster).collect(),
        ..ClustersConfigDump::default()
    }));
    if endpoints == Endpoints::With {
        let endpoint = |(_, assignment)| DynamicEndpointConfig {
            version_info: version(),
            endpoint_config: Some(assignment),
            ..DynamicEndpointConfig::default()
        };
        sections.push(any(&EndpointsConfigDump {
            dynamic_endpoint_configs: of(ResourceType::Endpoint).await?.into_iter().map(endpoint).collect(),
            ..EndpointsConfigDump::default()
        }));
    }
    let listener = |(name, listener): (Arc<str>, Any)| DynamicListener {
        name: name.to_string(),
        active_state: Some(DynamicListenerState {
            version_info: version(),
            listener: Some(listener),
            ..DynamicListenerState::default()
        }),
        ..DynamicListener::default()
    };
    sections.push(any(&ListenersConfigDump {
        version_info: version(),
        dynamic_listeners: of(ResourceType::Listener).await?.into_iter().map(listener).collect(),
        ..ListenersConfigDump::default()
    }));
    sections.push(any(&ScopedRoutesConfigDump::default()));
    let route = |(_, route)| DynamicRouteConfig {
        version_info: version(),
        route_config: Some(route),
        ..DynamicRouteConfig::default()
    };
    sections.push(any(&RoutesConfigDump {
        dynamic_route_configs: of(ResourceType::Route).await?.into_iter().map(route).collect(),
        ..RoutesConfigDump::default()
    }));
    let secret = |(name, secret): (Arc<str>, Any)| DynamicSecret {
        name: name.to_string(),
        version_info: version(),
        secret: Some(secret),
        ..DynamicSecret::default()
    };
    sections.push(any(&SecretsConfigDump {
        dynamic_active_secrets: of(ResourceType::Secret).await?.into_iter().map(secret).collect(),
        ..SecretsConfigDump::default()
    }));
    let filter = |(_, filter)| EcdsFilterConfig {
        version_info: version(),
        ecds_filter: Some(filter),
        ..EcdsFilterConfig::default()
    };
    sections.push(any(&EcdsConfigDump {
        ecds_filters: of(ResourceType::Extension).await?.into_iter().map(filter).collect(),
    }));
    Ok(sections)
}

/// Returns the resources of a type by name; none if the proxy does not subscribe to it.
async fn resources(
    state: &RunningState,
    client: &Client,
    kind: ResourceType,
) -> anyhow::Result<Vec<(Arc<str>, Any)>> {
    let made = generated(state, client, kind).await?;
    made.iter().map(|resource| Ok((resource.name.clone(), readable(resource)?))).collect()
}

/// Returns the resources of a type with their findings; none if the proxy does not subscribe to it.
pub(super) async fn generated(
    state: &RunningState,
    client: &Client,
    kind: ResourceType,
) -> anyhow::Result<Vec<Resource>> {
    let Some(known) = client.types().remove(&kind) else { return Ok(Vec::new()) };
    let generation = &state.ads.generation;
    let generated = generation.generate(state.ads.snapshot(), client.proxy.clone(), kind, known.names).await;
    let generated = generated.with_context(|| format!("generate {kind} for {}", client.id))?;
    Ok(generated.resources.iter().cloned().collect())
}

/// Decodes a resource and redacts its secrets.
pub(super) fn readable(resource: &Resource) -> anyhow::Result<Any> {
    let any = Any::decode(resource.body.clone()).with_context(|| format!("decode {}", resource.name))?;
    if any.type_url != ResourceType::Secret.type_url() {
        return Ok(any);
    }
    let secret = Secret::decode(any.value).with_context(|| format!("decode {}", resource.name))?;
    Ok(pilot_proto::any(&redacted(secret)))
}

/// Redacts private keys as Istio and Envoy do; certificates stay.
fn redacted(mut secret: Secret) -> Secret {
    let blot = |source: &mut Option<DataSource>| {
        if let Some(source) = source {
            *source = DataSource {
                specifier: Some(Specifier::InlineBytes("[redacted]".into())),
                ..DataSource::default()
            };
        }
    };
    match &mut secret.r#type {
        Some(Type::TlsCertificate(certificate)) => {
            blot(&mut certificate.private_key);
            blot(&mut certificate.pkcs12);
            blot(&mut certificate.password);
        }
        Some(Type::SessionTicketKeys(tickets)) => tickets.keys.clear(),
        Some(Type::GenericSecret(generic)) => {
            blot(&mut generic.secret);
            generic.secrets.clear();
        }
        Some(Type::ValidationContext(_)) | None => {}
    }
    secret
}

#[cfg(test)]
mod tests {
    use pilot_proto::envoy::extensions::transport_sockets::tls::v3::{
        GenericSecret, TlsCertificate, TlsSessionTicketKeys,
    };

    use super::*;

    #[test]
    fn keys_are_blotted_out_and_certificates_are_not() {
        let source = |text: &'static str| DataSource {
            specifier: Some(Specifier::InlineBytes(text.into())),
            ..DataSource::default()
        };
        let hidden = || Some(source("CANARY"));
        for kind in [
            Type::TlsCertificate(TlsCertificate {
                certificate_chain: Some(source("CHAIN")),
                private_key: hidden(),
                pkcs12: hidden(),
                password: hidden(),
                ..TlsCertificate::default()
            }),
            Type::SessionTicketKeys(TlsSessionTicketKeys { keys: vec![source("CANARY")] }),
            Type::GenericSecret(GenericSecret {
                secret: hidden(),
                secrets: [("a".to_owned(), source("CANARY"))].into(),
            }),
        ] {
            let secret = Secret { name: "s".into(), r#type: Some(kind) };
            let resource = Resource::new("s".into(), "1".into(), any(&secret).encode_to_vec().into());
            assert!(String::from_utf8_lossy(&resource.body).contains("CANARY"));
            let shown = readable(&resource).unwrap().encode_to_vec();
            let shown = String::from_utf8_lossy(&shown);
            assert!(!shown.contains("CANARY"), "{shown}");
            if matches!(secret.r#type, Some(Type::TlsCertificate(_))) {
                assert!(shown.contains("CHAIN") && shown.contains("[redacted]"), "{shown}");
            }
        }
    }
}

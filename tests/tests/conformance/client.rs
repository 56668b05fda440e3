//! The suite's client: subscribes and acknowledges every response, in any of the four variants.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use pilot_proto::ResourceType;
use pilot_proto::envoy::config::core::v3::Node;
use pilot_proto::envoy::config::{cluster, endpoint, listener, route};
use pilot_tests::ads::{Delta, Service, Sotw};
use prost::Message;

use crate::Variant;
use crate::mesh::Mesh;

/// A client with its stream, or its streams of one type each.
pub(crate) struct Client {
    variant: Variant,
    streams: BTreeMap<Option<ResourceType>, XdsStream>,
    subscriptions: BTreeMap<ResourceType, BTreeSet<String>>,
    nonces: BTreeSet<String>,
}

enum XdsStream {
    Sotw(Sotw),
    Delta(Delta),
}

/// Content of one response.
#[derive(Debug)]
pub(crate) struct ReceivedResponse {
    pub(crate) kind: ResourceType,
    /// Encoded resources by name.
    pub(crate) resources: BTreeMap<String, Vec<u8>>,
    pub(crate) removed: Vec<String>,
    /// Versions of the resources in delta.
    pub(crate) versions: BTreeSet<String>,
}

// === impl Client ===

impl Client {
    pub(crate) const fn new(variant: Variant) -> Self {
        Self { variant, streams: BTreeMap::new(), subscriptions: BTreeMap::new(), nonces: BTreeSet::new() }
    }

    /// Returns the stream of a type, and opens it if necessary.
    async fn stream(&mut self, mesh: &Mesh, kind: ResourceType) -> Result<&mut XdsStream> {
        use Variant::{DeltaAggregated, DeltaSeparate, SotwAggregated, SotwSeparate};
        let separate = matches!(self.variant, SotwSeparate | DeltaSeparate);
        let (key, service) =
            if separate { (Some(kind), Service::Of(kind)) } else { (None, Service::Aggregated) };
        if !self.streams.contains_key(&key) {
            let namespace = mesh.namespace();
            let id = format!("sidecar~127.0.0.1~test-id.{namespace}~{namespace}.svc.cluster.local");
            let node = Node { id, ..Node::default() };
            let wire = match self.variant {
                SotwAggregated | SotwSeparate => {
                    XdsStream::Sotw(Sotw::open_on(service, mesh.xds, node).await?)
                }
                DeltaAggregated | DeltaSeparate => {
                    XdsStream::Delta(Delta::open_on(service, mesh.xds, node).await?)
                }
            };
            self.streams.insert(key, wire);
        }
        self.streams.get_mut(&key).context("the stream was inserted above")
    }

    /// Subscribes to resources: in delta additionally, in `SotW` instead of the previous names. No names: to all resources.
    pub(crate) async fn subscribe(
        &mut self,
        mesh: &Mesh,
        kind: ResourceType,
        names: &[String],
    ) -> Result<()> {
        self.subscriptions.entry(kind).or_default().extend(names.iter().cloned());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        match self.stream(mesh, kind).await? {
            XdsStream::Sotw(stream) => stream.subscribe(kind, &names).await,
            XdsStream::Delta(stream) => stream.subscribe(kind, &names, &[]).await,
        }
    }

    /// Replaces the subscription, in `SotW`: with an ACK of the last response.
    pub(crate) async fn set_subscription(
        &mut self,
        mesh: &Mesh,
        kind: ResourceType,
        names: &[String],
    ) -> Result<()> {
        self.subscriptions.insert(kind, names.iter().cloned().collect());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let XdsStream::Sotw(stream) = self.stream(mesh, kind).await? else {
            bail!("only SotW replaces subscriptions")
        };
        let last = stream.received.iter().rfind(|response| response.type_url == kind.type_url());
        let last = last.context("no response so far")?.clone();
        stream.ack(&last, &names).await
    }

    /// Adds a name to the subscription, in `SotW`.
    pub(crate) async fn add_to_subscription(
        &mut self,
        mesh: &Mesh,
        kind: ResourceType,
        name: &str,
    ) -> Result<()> {
        let mut names: Vec<String> = self.subscriptions.get(&kind).into_iter().flatten().cloned().collect();
        names.push(name.to_owned());
        self.set_subscription(mesh, kind, &names).await
    }

    /// Unsubscribes from a resource, in delta.
    pub(crate) async fn unsubscribe(&mut self, mesh: &Mesh, kind: ResourceType, name: &str) -> Result<()> {
        self.subscriptions.entry(kind).or_default().remove(name);
        let XdsStream::Delta(stream) = self.stream(mesh, kind).await? else {
            bail!("only delta unsubscribes")
        };
        stream.subscribe(kind, &[], &[name]).await
    }

    /// Returns the next response on the stream of a type after its ACK, or `None` if there is none within this time.
    pub(crate) async fn next_response(
        &mut self,
        mesh: &Mesh,
        kind: ResourceType,
        within: Duration,
    ) -> Result<Option<ReceivedResponse>> {
        let subscriptions = self.subscriptions.clone();
        let names = |kind: ResourceType| -> Vec<&str> {
            subscriptions.get(&kind).into_iter().flatten().map(String::as_str).collect()
        };
        let (response, nonce) = match self.stream(mesh, kind).await? {
            XdsStream::Sotw(stream) => {
                let Some(response) = stream.next_within(within).await? else { return Ok(None) };
                let kind = ResourceType::from_type_url(&response.type_url).context("a type of ours")?;
                stream.ack(&response, &names(kind)).await?;
                let mut resources = BTreeMap::new();
                for any in &response.resources {
                    ensure!(any.type_url == kind.type_url(), "{} among {kind}", any.type_url);
                    resources.insert(name_of(kind, &any.value)?, any.value.to_vec());
                }
                ensure!(resources.len() == response.resources.len(), "duplicate resource names");
                let versions = BTreeSet::new();
                (ReceivedResponse { kind, resources, removed: Vec::new(), versions }, response.nonce)
            }
            XdsStream::Delta(stream) => {
                let Some(response) = stream.next_within(within).await? else { return Ok(None) };
                let kind = ResourceType::from_type_url(&response.type_url).context("a type of ours")?;
                stream.ack(&response).await?;
                let mut resources = BTreeMap::new();
                for resource in &response.resources {
                    let any = resource.resource.as_ref().context("a resource without a body")?;
                    ensure!(
                        name_of(kind, &any.value)? == resource.name,
                        "{} has another name in its body",
                        resource.name
                    );
                    resources.insert(resource.name.clone(), any.value.to_vec());
                }
                ensure!(resources.len() == response.resources.len(), "duplicate resource names");
                let versions = response.resources.iter().map(|resource| resource.version.clone()).collect();
                (
                    ReceivedResponse { kind, resources, removed: response.removed_resources, versions },
                    response.nonce,
                )
            }
        };
        ensure!(
            !nonce.is_empty() && self.nonces.insert(format!("{kind} {nonce}")),
            "nonce {nonce:?} was used before"
        );
        Ok(Some(response))
    }
}

/// Returns the name in the body of a resource.
fn name_of(kind: ResourceType, body: &prost::bytes::Bytes) -> Result<String> {
    Ok(match kind {
        ResourceType::Cluster => cluster::v3::Cluster::decode(body.clone())?.name,
        ResourceType::Endpoint => endpoint::v3::ClusterLoadAssignment::decode(body.clone())?.cluster_name,
        ResourceType::Listener => listener::v3::Listener::decode(body.clone())?.name,
        ResourceType::Route => route::v3::RouteConfiguration::decode(body.clone())?.name,
        ResourceType::Secret | ResourceType::Extension => bail!("{kind} is not asked for"),
    })
}

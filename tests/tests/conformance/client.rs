//! The suite's client: asks, accepts whatever it is sent, in any of the four variants.

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

/// One client, with the stream that it has or the streams, one for each type.
pub(crate) struct Client {
    variant: Variant,
    streams: BTreeMap<Option<ResourceType>, Wire>,
    wants: BTreeMap<ResourceType, BTreeSet<String>>,
    nonces: BTreeSet<String>,
}

enum Wire {
    Sotw(Sotw),
    Delta(Delta),
}

/// What one response says.
#[derive(Debug)]
pub(crate) struct Heard {
    pub(crate) kind: ResourceType,
    /// Name to body.
    pub(crate) resources: BTreeMap<String, Vec<u8>>,
    pub(crate) removed: Vec<String>,
    /// Versions of the resources, in delta.
    pub(crate) versions: BTreeSet<String>,
}

// === impl Client ===

impl Client {
    pub(crate) const fn new(variant: Variant) -> Self {
        Self { variant, streams: BTreeMap::new(), wants: BTreeMap::new(), nonces: BTreeSet::new() }
    }

    /// The stream of a type, opened when it is first needed.
    async fn stream(&mut self, mesh: &Mesh, kind: ResourceType) -> Result<&mut Wire> {
        use Variant::{DeltaAggregated, DeltaSeparate, SotwAggregated, SotwSeparate};
        let separate = matches!(self.variant, SotwSeparate | DeltaSeparate);
        let (key, service) =
            if separate { (Some(kind), Service::Of(kind)) } else { (None, Service::Aggregated) };
        if !self.streams.contains_key(&key) {
            let namespace = mesh.namespace();
            let id = format!("sidecar~127.0.0.1~test-id.{namespace}~{namespace}.svc.cluster.local");
            let node = Node { id, ..Node::default() };
            let wire = match self.variant {
                SotwAggregated | SotwSeparate => Wire::Sotw(Sotw::open_on(service, mesh.xds, node).await?),
                DeltaAggregated | DeltaSeparate => {
                    Wire::Delta(Delta::open_on(service, mesh.xds, node).await?)
                }
            };
            self.streams.insert(key, wire);
        }
        self.streams.get_mut(&key).context("it was just put there")
    }

    /// Asks for resources, besides those that it has in delta, and instead of them in `SotW`; none at all: for everything.
    pub(crate) async fn subscribe(
        &mut self,
        mesh: &Mesh,
        kind: ResourceType,
        names: &[String],
    ) -> Result<()> {
        self.wants.entry(kind).or_default().extend(names.iter().cloned());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        match self.stream(mesh, kind).await? {
            Wire::Sotw(stream) => stream.subscribe(kind, &names).await,
            Wire::Delta(stream) => stream.subscribe(kind, &names, &[]).await,
        }
    }

    /// Wants only these from now on: a `SotW` client says so with the nonce that it heard last.
    pub(crate) async fn narrow(&mut self, mesh: &Mesh, kind: ResourceType, names: &[String]) -> Result<()> {
        self.wants.insert(kind, names.iter().cloned().collect());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let Wire::Sotw(stream) = self.stream(mesh, kind).await? else { bail!("only SotW has whole lists") };
        let last = stream.seen.iter().rfind(|seen| seen.type_url == kind.type_url());
        let last = last.context("nothing was heard yet")?.clone();
        stream.ack(&last, &names).await
    }

    /// Wants one more, in `SotW`.
    pub(crate) async fn widen(&mut self, mesh: &Mesh, kind: ResourceType, name: &str) -> Result<()> {
        let mut names: Vec<String> = self.wants.get(&kind).into_iter().flatten().cloned().collect();
        names.push(name.to_owned());
        self.narrow(mesh, kind, &names).await
    }

    /// Wants these no longer, in delta.
    pub(crate) async fn unsubscribe(&mut self, mesh: &Mesh, kind: ResourceType, name: &str) -> Result<()> {
        self.wants.entry(kind).or_default().remove(name);
        let Wire::Delta(stream) = self.stream(mesh, kind).await? else {
            bail!("only delta takes back names")
        };
        stream.subscribe(kind, &[], &[name]).await
    }

    /// The next response on the stream of a type, accepted; none if the server keeps still for so long.
    pub(crate) async fn hear(
        &mut self,
        mesh: &Mesh,
        kind: ResourceType,
        within: Duration,
    ) -> Result<Option<Heard>> {
        let wants = self.wants.clone();
        let names = |kind: ResourceType| -> Vec<&str> {
            wants.get(&kind).into_iter().flatten().map(String::as_str).collect()
        };
        let (heard, nonce) = match self.stream(mesh, kind).await? {
            Wire::Sotw(stream) => {
                let Some(response) = stream.next_within(within).await? else { return Ok(None) };
                let kind = ResourceType::from_type_url(&response.type_url).context("a type of ours")?;
                stream.ack(&response, &names(kind)).await?;
                let mut resources = BTreeMap::new();
                for any in &response.resources {
                    ensure!(any.type_url == kind.type_url(), "{} among {kind}", any.type_url);
                    resources.insert(name_of(kind, &any.value)?, any.value.to_vec());
                }
                ensure!(resources.len() == response.resources.len(), "the same name twice");
                let versions = BTreeSet::new();
                (Heard { kind, resources, removed: Vec::new(), versions }, response.nonce)
            }
            Wire::Delta(stream) => {
                let Some(response) = stream.next_within(within).await? else { return Ok(None) };
                let kind = ResourceType::from_type_url(&response.type_url).context("a type of ours")?;
                stream.ack(&response).await?;
                let mut resources = BTreeMap::new();
                for resource in &response.resources {
                    let any = resource.resource.as_ref().context("a resource without a body")?;
                    ensure!(
                        name_of(kind, &any.value)? == resource.name,
                        "{} has another name inside",
                        resource.name
                    );
                    resources.insert(resource.name.clone(), any.value.to_vec());
                }
                ensure!(resources.len() == response.resources.len(), "the same name twice");
                let versions = response.resources.iter().map(|resource| resource.version.clone()).collect();
                (Heard { kind, resources, removed: response.removed_resources, versions }, response.nonce)
            }
        };
        ensure!(
            !nonce.is_empty() && self.nonces.insert(format!("{kind} {nonce}")),
            "nonce {nonce:?} once more"
        );
        Ok(Some(heard))
    }
}

/// The name inside a resource.
fn name_of(kind: ResourceType, body: &prost::bytes::Bytes) -> Result<String> {
    Ok(match kind {
        ResourceType::Cluster => cluster::v3::Cluster::decode(body.clone())?.name,
        ResourceType::Endpoint => endpoint::v3::ClusterLoadAssignment::decode(body.clone())?.cluster_name,
        ResourceType::Listener => listener::v3::Listener::decode(body.clone())?.name,
        ResourceType::Route => route::v3::RouteConfiguration::decode(body.clone())?.name,
        ResourceType::Secret | ResourceType::Extension => bail!("{kind} is not asked for"),
    })
}

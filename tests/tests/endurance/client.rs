//! A client of xDS that stays: asks for all clusters and for their endpoints, accepts what it is sent, and connects again when its
//! stream ends, saying what it has if its variant of the protocol can.
//!
//! It keeps names and versions, not content.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Result;
use pilot_proto::ResourceType::{self, Cluster, Endpoint};
use pilot_proto::envoy::config::cluster::v3;
use pilot_proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use pilot_tests::ads::{Delta, Sotw, sidecar};
use prost::Message as _;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::sleep;

/// How long it waits before it connects again.
const AGAIN: Duration = Duration::from_millis(100);

/// How long it waits for news before it looks whether it still has a stream.
const LISTEN: Duration = Duration::from_mins(1);

/// The variant of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// State of the world.
    Sotw,
    /// Incremental.
    Delta,
}

/// What a client knows.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    /// How many streams it has had answers on.
    pub(crate) streams: usize,
    /// What it has: versions by name. With `SotW` the version is that of the response.
    pub(crate) has: BTreeMap<ResourceType, BTreeMap<String, String>>,
    /// What it was sent or told to drop on the stream it has now.
    pub(crate) told: BTreeSet<String>,
}

/// A client at work. Dropping it ends it.
pub(crate) struct Client {
    known: watch::Receiver<Known>,
    task: JoinHandle<()>,
}

// === impl Client ===

impl Client {
    /// One that connects to this address by this name until it is dropped.
    pub(crate) fn start(variant: Variant, to: SocketAddr, pod: String) -> Self {
        let (known, told) = watch::channel(Known::default());
        let task = tokio::spawn(async move {
            loop {
                // Why a stream has ended is the control plane's business; that there is another one is ours.
                let _ended: Result<()> = match variant {
                    Variant::Sotw => sotw(to, &pod, &known).await,
                    Variant::Delta => delta(to, &pod, &known).await,
                };
                sleep(AGAIN).await;
            }
        });
        Self { known: told, task }
    }

    /// What it knows now.
    pub(crate) fn known(&self) -> Known {
        self.known.borrow().clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Known ===

impl Known {
    /// A stream begins to tell it.
    fn begin(&mut self) {
        self.streams += 1;
        self.told.clear();
    }

    /// Names of what it has of a type.
    pub(crate) fn names(&self, kind: ResourceType) -> BTreeSet<&str> {
        self.has.get(&kind).into_iter().flatten().map(|(name, _)| name.as_str()).collect()
    }

    fn drops(&mut self, kind: ResourceType, name: &str) {
        self.has.entry(kind).or_default().remove(name);
        self.told.insert(name.to_owned());
    }

    fn takes(&mut self, kind: ResourceType, name: String, version: String) {
        self.told.insert(name.clone());
        self.has.entry(kind).or_default().insert(name, version);
    }
}

/// Clusters that have endpoints of their own to ask for.
fn has_endpoints(name: &str) -> bool {
    name.starts_with("outbound|")
}

async fn delta(to: SocketAddr, pod: &str, known: &watch::Sender<Known>) -> Result<()> {
    let mut stream = Delta::open(to, sidecar(pod)).await?;
    let before = known.borrow().clone();
    let versions = |kind| -> Vec<(&str, &str)> {
        before.has.get(&kind).into_iter().flatten().map(|(name, version)| (&**name, &**version)).collect()
    };
    let endpoints = before.names(Endpoint).into_iter().collect::<Vec<_>>();
    stream.resume(Cluster, &["*"], &[], &versions(Cluster)).await?;
    if !endpoints.is_empty() {
        stream.resume(Endpoint, &endpoints, &[], &versions(Endpoint)).await?;
    }
    let mut first = true;
    loop {
        let Some(response) = stream.next_within(LISTEN).await? else { continue };
        stream.seen.clear();
        if std::mem::take(&mut first) {
            known.send_modify(Known::begin);
        }
        stream.ack(&response).await?;
        let (new, gone) = take_delta(known, response);
        let names = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>();
        let (new, gone) = (names(&new), names(&gone));
        if !new.is_empty() || !gone.is_empty() {
            let (new, gone): (Vec<&str>, Vec<&str>) =
                (new.iter().map(String::as_str).collect(), gone.iter().map(String::as_str).collect());
            stream.subscribe(Endpoint, &new, &gone).await?;
        }
    }
}

/// Notes a response; what endpoints are to be asked for, and no longer to be asked for.
fn take_delta(
    known: &watch::Sender<Known>,
    response: DeltaDiscoveryResponse,
) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut new, mut gone) = (BTreeSet::new(), BTreeSet::new());
    let Some(kind) = ResourceType::from_type_url(&response.type_url) else { return (new, gone) };
    known.send_modify(|known| {
        for resource in response.resources {
            let is_new = !known.names(kind).contains(resource.name.as_str());
            if kind == Cluster && is_new && has_endpoints(&resource.name) {
                new.insert(resource.name.clone());
            }
            if kind == Endpoint && !known.names(Cluster).contains(resource.name.as_str()) {
                // An answer that was on its way when the cluster went.
                known.told.insert(resource.name);
                continue;
            }
            known.takes(kind, resource.name, resource.version);
        }
        for name in response.removed_resources {
            known.drops(kind, &name);
            if kind == Cluster && has_endpoints(&name) {
                known.drops(Endpoint, &name);
                gone.insert(name);
            }
        }
    });
    (new, gone)
}

async fn sotw(to: SocketAddr, pod: &str, known: &watch::Sender<Known>) -> Result<()> {
    let mut stream = Sotw::open(to, sidecar(pod)).await?;
    stream.subscribe(Cluster, &[]).await?;
    let (mut first, mut endpoints) = (true, None::<DiscoveryResponse>);
    loop {
        let Some(response) = stream.next_within(LISTEN).await? else { continue };
        stream.seen.clear();
        if std::mem::take(&mut first) {
            known.send_modify(Known::begin);
        }
        let before: Vec<String> = known.borrow().names(Endpoint).into_iter().map(str::to_owned).collect();
        take_sotw(known, &response)?;
        let clusters: Vec<String> = known
            .borrow()
            .names(Cluster)
            .into_iter()
            .filter(|name| has_endpoints(name))
            .map(str::to_owned)
            .collect();
        let wanted: Vec<&str> = clusters.iter().map(String::as_str).collect();
        if response.type_url == Cluster.type_url() {
            stream.ack(&response, &[]).await?;
            match &endpoints {
                None if wanted.is_empty() => {}
                None => stream.subscribe(Endpoint, &wanted).await?,
                Some(last) if before != clusters => stream.ack(last, &wanted).await?,
                Some(_) => {}
            }
        } else {
            stream.ack(&response, &wanted).await?;
            endpoints = Some(response);
        }
    }
}

fn take_sotw(known: &watch::Sender<Known>, response: &DiscoveryResponse) -> Result<()> {
    use pilot_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
    let mut names = BTreeSet::new();
    for any in &response.resources {
        names.insert(if response.type_url == Cluster.type_url() {
            v3::Cluster::decode(any.value.clone())?.name
        } else {
            ClusterLoadAssignment::decode(any.value.clone())?.cluster_name
        });
    }
    known.send_modify(|known| {
        if response.type_url == Cluster.type_url() {
            // What is missing from it is gone.
            let gone: Vec<String> = known.names(Cluster).into_iter().map(str::to_owned).collect();
            for name in gone.iter().filter(|name| !names.contains(*name)) {
                known.drops(Cluster, name);
                known.drops(Endpoint, name);
            }
        }
        let kind = if response.type_url == Cluster.type_url() { Cluster } else { Endpoint };
        for name in names {
            if kind == Endpoint && !known.names(Cluster).contains(name.as_str()) {
                continue;
            }
            known.takes(kind, name, response.version_info.clone());
        }
    });
    Ok(())
}

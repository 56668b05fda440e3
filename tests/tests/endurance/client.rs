//! A long-lived xDS client: subscribes to all clusters and to their endpoints, acknowledges every response, and reconnects when
//! its stream ends, with the versions it has if the variant supports that.
//!
//! It keeps names and versions only.

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

/// Delay before a reconnect.
const RECONNECT_DELAY: Duration = Duration::from_millis(100);

/// Time limit of one wait for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_mins(1);

/// Variant of the protocol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Variant {
    /// State of the world.
    Sotw,
    /// Incremental.
    Delta,
}

/// State of a client.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientState {
    /// Number of streams with at least one response.
    pub(crate) streams: usize,
    /// Versions by name and type. In `SotW` the version is that of the response.
    pub(crate) has: BTreeMap<ResourceType, BTreeMap<String, String>>,
    /// Names of resources sent or removed on the current stream.
    pub(crate) received: BTreeSet<String>,
}

/// A running client. Dropping it stops it.
pub(crate) struct Client {
    state: watch::Receiver<ClientState>,
    task: JoinHandle<()>,
}

// === impl Client ===

impl Client {
    /// Starts a client that stays connected to this address until it is dropped.
    pub(crate) fn start(variant: Variant, to: SocketAddr, pod: String) -> Self {
        let (state, states) = watch::channel(ClientState::default());
        let task = tokio::spawn(async move {
            loop {
                // The reason for the end of a stream does not matter here, only the reconnect.
                let _ended: Result<()> = match variant {
                    Variant::Sotw => sotw(to, &pod, &state).await,
                    Variant::Delta => delta(to, &pod, &state).await,
                };
                sleep(RECONNECT_DELAY).await;
            }
        });
        Self { state: states, task }
    }

    /// Returns the current state.
    pub(crate) fn state(&self) -> ClientState {
        self.state.borrow().clone()
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl ClientState ===

impl ClientState {
    /// Starts a new stream.
    fn begin(&mut self) {
        self.streams += 1;
        self.received.clear();
    }

    /// Returns the names of the resources of a type.
    pub(crate) fn names(&self, kind: ResourceType) -> BTreeSet<&str> {
        self.has.get(&kind).into_iter().flatten().map(|(name, _)| name.as_str()).collect()
    }

    fn remove(&mut self, kind: ResourceType, name: &str) {
        self.has.entry(kind).or_default().remove(name);
        self.received.insert(name.to_owned());
    }

    fn insert(&mut self, kind: ResourceType, name: String, version: String) {
        self.received.insert(name.clone());
        self.has.entry(kind).or_default().insert(name, version);
    }
}

/// Returns true for clusters with EDS endpoints.
fn has_endpoints(name: &str) -> bool {
    name.starts_with("outbound|")
}

async fn delta(to: SocketAddr, pod: &str, state: &watch::Sender<ClientState>) -> Result<()> {
    let mut stream = Delta::open(to, sidecar(pod)).await?;
    let before = state.borrow().clone();
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
        let Some(response) = stream.next_within(RESPONSE_TIMEOUT).await? else { continue };
        stream.received.clear();
        if std::mem::take(&mut first) {
            state.send_modify(ClientState::begin);
        }
        stream.ack(&response).await?;
        let (new, gone) = take_delta(state, response);
        let names = |names: &BTreeSet<String>| names.iter().cloned().collect::<Vec<_>>();
        let (new, gone) = (names(&new), names(&gone));
        if !new.is_empty() || !gone.is_empty() {
            let (new, gone): (Vec<&str>, Vec<&str>) =
                (new.iter().map(String::as_str).collect(), gone.iter().map(String::as_str).collect());
            stream.subscribe(Endpoint, &new, &gone).await?;
        }
    }
}

/// Records a response. Returns the endpoints to subscribe to and to unsubscribe from.
fn take_delta(
    state: &watch::Sender<ClientState>,
    response: DeltaDiscoveryResponse,
) -> (BTreeSet<String>, BTreeSet<String>) {
    let (mut new, mut gone) = (BTreeSet::new(), BTreeSet::new());
    let Some(kind) = ResourceType::from_type_url(&response.type_url) else { return (new, gone) };
    state.send_modify(|state| {
        for resource in response.resources {
            let is_new = !state.names(kind).contains(resource.name.as_str());
            if kind == Cluster && is_new && has_endpoints(&resource.name) {
                new.insert(resource.name.clone());
            }
            if kind == Endpoint && !state.names(Cluster).contains(resource.name.as_str()) {
                // A response that was in flight when the cluster was removed.
                state.received.insert(resource.name);
                continue;
            }
            state.insert(kind, resource.name, resource.version);
        }
        for name in response.removed_resources {
            state.remove(kind, &name);
            if kind == Cluster && has_endpoints(&name) {
                state.remove(Endpoint, &name);
                gone.insert(name);
            }
        }
    });
    (new, gone)
}

async fn sotw(to: SocketAddr, pod: &str, state: &watch::Sender<ClientState>) -> Result<()> {
    let mut stream = Sotw::open(to, sidecar(pod)).await?;
    stream.subscribe(Cluster, &[]).await?;
    let (mut first, mut endpoints) = (true, None::<DiscoveryResponse>);
    loop {
        let Some(response) = stream.next_within(RESPONSE_TIMEOUT).await? else { continue };
        stream.received.clear();
        if std::mem::take(&mut first) {
            state.send_modify(ClientState::begin);
        }
        let before: Vec<String> = state.borrow().names(Endpoint).into_iter().map(str::to_owned).collect();
        take_sotw(state, &response)?;
        let clusters: Vec<String> = state
            .borrow()
            .names(Cluster)
            .into_iter()
            .filter(|name| has_endpoints(name))
            .map(str::to_owned)
            .collect();
        let names: Vec<&str> = clusters.iter().map(String::as_str).collect();
        if response.type_url == Cluster.type_url() {
            stream.ack(&response, &[]).await?;
            match &endpoints {
                None if names.is_empty() => {}
                None => stream.subscribe(Endpoint, &names).await?,
                Some(last) if before != clusters => stream.ack(last, &names).await?,
                Some(_) => {}
            }
        } else {
            stream.ack(&response, &names).await?;
            endpoints = Some(response);
        }
    }
}

fn take_sotw(state: &watch::Sender<ClientState>, response: &DiscoveryResponse) -> Result<()> {
    use pilot_proto::envoy::config::endpoint::v3::ClusterLoadAssignment;
    let mut names = BTreeSet::new();
    for any in &response.resources {
        names.insert(if response.type_url == Cluster.type_url() {
            v3::Cluster::decode(any.value.clone())?.name
        } else {
            ClusterLoadAssignment::decode(any.value.clone())?.cluster_name
        });
    }
    state.send_modify(|state| {
        if response.type_url == Cluster.type_url() {
            // A resource missing in the response is removed.
            let gone: Vec<String> = state.names(Cluster).into_iter().map(str::to_owned).collect();
            for name in gone.iter().filter(|name| !names.contains(*name)) {
                state.remove(Cluster, name);
                state.remove(Endpoint, name);
            }
        }
        let kind = if response.type_url == Cluster.type_url() { Cluster } else { Endpoint };
        for name in names {
            if kind == Endpoint && !state.names(Cluster).contains(name.as_str()) {
                continue;
            }
            state.insert(kind, name, response.version_info.clone());
        }
    });
    Ok(())
}

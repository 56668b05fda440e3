//! A control plane and an Envoy for each workload, through which one set after the other is run.
//!
//! A set is one file that is replaced as a whole. It ends with a service that has the set's number: an Envoy with that
//! service's cluster has received the set.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pilot_tests::load::Identity;
use pilot_tests::manifest::{Folder, Port, service};
use pilot_tests::mesh::{Discovery, Interception, Options, Sidecar};
use pilot_tests::net::{get_ok, loopback};
use pilot_tests::wait::eventually;
use serde_json::Value;

use crate::cluster::{Cluster, GATEWAY, ProxiedPod};
use crate::sds::SdsServer;

/// Time limit until every Envoy uses a set.
const IN_USE: Duration = Duration::from_mins(1);

/// Period after which the state must be unchanged: routes are requested after listeners.
const STILL: Duration = Duration::from_millis(500);

/// Lists of resources from the control plane in Envoy's config dump.
const SENT: [&str; 4] =
    ["dynamic_active_clusters", "dynamic_listeners", "dynamic_route_configs", "dynamic_endpoint_configs"];

/// A mesh. Fields are dropped from the top.
pub(crate) struct SampleMesh {
    proxies: BTreeMap<ProxiedPod, (Sidecar, SdsServer)>,
    identity: Identity,
    discovery: Discovery,
    folder: Folder,
    /// Number of the current set.
    set: u8,
    dir: tempfile::TempDir,
}

/// Outcome of a set.
pub(crate) struct Outcome {
    /// Number of Envoys.
    pub(crate) proxies: usize,
    /// Number of resources that all Envoys hold.
    pub(crate) resources: usize,
    /// Number of rejected responses.
    pub(crate) rejected: usize,
    /// Other problems.
    pub(crate) problems: Vec<String>,
}

/// State of the Envoys.
enum State {
    /// All Envoys hold the set: total number of resources.
    Held(usize),
    /// One Envoy rejected a response, with its error.
    Refused(String),
}

// === impl SampleMesh ===

impl SampleMesh {
    pub(crate) async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let folder = Folder::create(dir.path().join("config"))?;
        let discovery = Discovery::start(dir.path(), &folder).await?;
        Ok(Self { proxies: BTreeMap::new(), identity: Identity::new(&[])?, discovery, folder, set: 0, dir })
    }

    /// Runs a set.
    pub(crate) async fn of(&mut self, cluster: &Cluster) -> Result<Outcome> {
        let refused = self.refused().await?;
        self.set += 1;
        let mark = format!("set-{}", self.set);
        let mut manifests = cluster.manifests();
        manifests.push(service(&mark, &format!("10.96.1.{}", self.set), &[Port::new("tcp", 9, 9)]));
        self.folder.write("set.yaml", &manifests)?;
        let mut problems = self.reconcile_proxies(&cluster.workloads).await?;
        let state = async || self.state(&mark).await;
        let held = async {
            eventually(IN_USE, "every Envoy has the set", state).await?;
            tokio::time::sleep(STILL).await;
            eventually(IN_USE, "every Envoy has all of the set", state).await
        };
        let (resources, problem) = match held.await {
            Ok(State::Held(resources)) => (resources, None),
            Ok(State::Refused(why)) => (0, Some(why)),
            Err(error) => (0, Some(format!("{error:#}"))),
        };
        problems.extend(problem);
        problems.extend(self.unusable().await?);
        let rejected = self.refused().await? - refused;
        Ok(Outcome { proxies: self.proxies.len(), resources, rejected, problems })
    }

    /// Stops all proxies and returns what Envoys rejected, by their own counters.
    pub(crate) async fn end(mut self) -> Result<Vec<String>> {
        self.reconcile_proxies(&[]).await
    }

    /// Runs a proxy for each of these workloads and no other. Returns the rejections of stopped proxies.
    async fn reconcile_proxies(&mut self, workloads: &[ProxiedPod]) -> Result<Vec<String>> {
        let (stay, go): (BTreeMap<_, _>, BTreeMap<_, _>) = std::mem::take(&mut self.proxies)
            .into_iter()
            .partition(|(workload, _)| workloads.contains(workload));
        self.proxies = stay;
        let mut refused = Vec::new();
        for (proxy, _) in go.into_values() {
            refused.extend(proxy.ensure_no_rejection().await.err().map(|error| format!("{error:#}")));
        }
        let missing: Vec<&ProxiedPod> =
            workloads.iter().filter(|workload| !self.proxies.contains_key(workload)).collect();
        for workload in missing {
            let dir = tempfile::tempdir_in(self.dir.path())?.keep();
            let is_gateway = (workload.namespace.as_str(), workload.name.as_str()) == GATEWAY;
            let options = Options {
                interception: Interception::Redirect,
                role: if is_gateway { "router" } else { "sidecar" },
                // Leaked: a few names until the program ends.
                pod: workload.name.clone().leak(),
                namespace: workload.namespace.clone().leak(),
                ip: loopback(workload.last_byte()),
                ..Options::new()?
            };
            let issuer = SdsServer::start(&dir, &self.identity)?;
            let proxy = Sidecar::start(&dir, self.discovery.grpc, &options)?;
            self.proxies.insert(workload.clone(), (proxy, issuer));
        }
        for (proxy, _) in self.proxies.values_mut() {
            proxy.ready().await?;
        }
        Ok(refused)
    }

    /// Returns the state of the Envoys, or an error while one of them lacks a resource or an ACK.
    async fn state(&self, mark: &str) -> Result<State> {
        let status: Value = serde_json::from_str(&get_ok(self.discovery.http, "/debug/syncz").await?)?;
        let proxies = status.as_array().context("a list of proxies")?;
        ensure!(proxies.len() == self.proxies.len(), "{} proxies are connected", proxies.len());
        for proxy in proxies {
            let types = proxy.get("resources").and_then(Value::as_object).context("types of resources")?;
            if let Some(why) = types.values().find_map(|status| status.get("lastError")) {
                return Ok(State::Refused(format!("{}: {why}", proxy.get("proxy").unwrap_or(proxy))));
            }
            let open = types.values().find(|status| status.get("sent") != status.get("acked"));
            ensure!(open.is_none(), "not acknowledged: {open:?} of {proxy}");
        }
        let mut resources = 0;
        for (workload, (proxy, _)) in &self.proxies {
            proxy.ensure_warmed().await?;
            let dump: Value = serde_json::from_str(&get_ok(proxy.admin, "/config_dump?include_eds").await?)?;
            let held = held(&dump);
            let own = |resource: &&&Value| !resource.to_string().contains(&format!("{mark}.default"));
            let others = held.iter().filter(own).count();
            ensure!(others < held.len(), "{workload:?} has no cluster of {mark}");
            resources += others;
        }
        Ok(State::Held(resources))
    }

    /// Returns the errors that the control plane reports for the configuration.
    async fn unusable(&self) -> Result<Vec<String>> {
        let page = get_ok(self.discovery.http, "/debug/rejectedz").await?;
        let errors: Vec<String> = serde_json::from_str(&page).context("parse /debug/rejectedz")?;
        Ok(errors.into_iter().filter(|problem| !problem.contains(": warning: ")).collect())
    }

    /// Returns the number of rejected responses so far.
    async fn refused(&self) -> Result<usize> {
        let metrics = get_ok(self.discovery.monitoring, "/metrics").await?;
        let counts = metrics.lines().filter_map(|line| {
            let line = line.strip_prefix("pilot_total_xds_rejects{")?;
            line.rsplit_once(' ')?.1.parse::<usize>().ok()
        });
        Ok(counts.sum())
    }
}

/// Returns every resource in a dump that came from the control plane and is in use. A removed listener stays in the dump
/// while it drains.
fn held(dump: &Value) -> Vec<&Value> {
    let sections = dump.get("configs").and_then(Value::as_array).into_iter().flatten();
    let lists = sections.flat_map(|section| SENT.iter().filter_map(|name| section.get(name)?.as_array()));
    let in_use = |resource: &&Value| {
        resource.get("draining_state").is_none() || resource.get("active_state").is_some()
    };
    lists.flatten().filter(in_use).collect()
}

//! One change in a mesh of a thousand services makes anew what depends on it, and nothing else: by the control plane's own
//! count of generated resources, and by what its clients were sent.
//!
//! ```text
//! ns-0, ns-1      sidecars; each namespace sees services of its own, and so each is a class of its own
//! edge            gateways; a class too
//! ```

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use pilot_tests::fleet::{Codec, Fleet, FleetConfig, Goal, Kind, Visibility};
use pilot_tests::net::get_ok;
use pilot_tests::wait::eventually;

use super::{PATIENCE, STILL, Scene, configured};

/// As many as a sidecar sees.
const SERVICES: u32 = 1000;

/// Sidecars, half of them of each namespace.
const SIDECARS: u32 = 8;

const GATEWAYS: u32 = 3;

/// So many of each type.
type Counts = BTreeMap<Kind, u64>;

/// A mesh, and clients of three classes.
struct Classes {
    scene: Scene,
    sidecars: Fleet,
    gateways: Fleet,
    /// What was generated until the last change.
    generated: Counts,
}

/// What a change costs, by type; what is not named costs nothing.
#[derive(Debug, PartialEq, Eq)]
struct ResourceUsage {
    /// Resources that were made.
    generated: Counts,
    /// Resources that all sidecars were sent.
    sidecars: Counts,
    /// Resources that all gateways were sent.
    gateways: Counts,
}

// === impl Classes ===

impl Classes {
    async fn start() -> Result<Self> {
        let scene = Scene::start(SERVICES, Visibility::Namespaces(2)).await?;
        scene.mesh.folder.write_text("edge.yaml", &entrance())?;
        let sidecars = scene.fleet(SIDECARS, Codec::Delta, 0)?;
        let mut setup = FleetConfig::new(scene.pilot.grpc, GATEWAYS, Codec::Delta);
        setup.first = SIDECARS;
        setup.node_id = Some("router~{ip}~edge-{n}.{ns}~{ns}.svc.cluster.local".to_owned());
        let gateways = configured(setup)?;
        let mut classes = Self { scene, sidecars, gateways, generated: Counts::new() };
        classes.generated = classes.generated().await?;
        Ok(classes)
    }

    /// Every resource that was ever made, by type.
    async fn generated(&self) -> Result<Counts> {
        let page = get_ok(self.scene.pilot.monitoring, "/metrics").await?;
        let count = |kind: Kind| {
            let name = format!("pilot_xds_generated_resources{{type=\"{}\"}} ", kind.resource_type().short());
            let value = page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok());
            Ok((kind, value.with_context(|| format!("there is no {name}"))?))
        };
        Kind::ALL.into_iter().map(count).collect()
    }

    /// What was made and sent since the last change.
    async fn cost(&mut self) -> Result<ResourceUsage> {
        let mut grown = self.generated().await?;
        for (kind, now) in &mut grown {
            *now -= self.generated.get(kind).copied().unwrap_or(0);
        }
        Ok(ResourceUsage {
            generated: something(grown),
            sidecars: something(self.sidecars.totals()?.resources),
            gateways: something(self.gateways.totals()?.resources),
        })
    }

    /// Makes these the rules. An error unless they cost that much, and nothing more in a while.
    async fn change(&mut self, rules: &str, expected: ResourceUsage) -> Result<()> {
        self.sidecars.mark(Goal::Configured)?;
        self.gateways.mark(Goal::Configured)?;
        self.scene.mesh.folder.write_text("rules.yaml", rules)?;
        eventually(PATIENCE, "the change costs what depends on it", async || {
            let cost = self.cost().await?;
            ensure!(cost == expected, "{cost:?}, not {expected:?}, for {rules}");
            Ok(())
        })
        .await?;
        tokio::time::sleep(STILL).await;
        let cost = self.cost().await?;
        ensure!(cost == expected, "later {cost:?}, not {expected:?}, for {rules}");
        self.generated = self.generated().await?;
        Ok(())
    }
}

/// Without what is none.
fn something(mut counts: Counts) -> Counts {
    counts.retain(|_, count| *count > 0);
    counts
}

/// An entrance, and the pods that are it.
fn entrance() -> String {
    let pods = (SIDECARS..SIDECARS + GATEWAYS).map(|client| {
        let ip = format!("10.0.0.{}", client + 1);
        format!(
            "
apiVersion: v1
kind: Pod
metadata: {{name: edge-{client}, namespace: ns-0, labels: {{app: edge}}}}
status: {{phase: Running, podIP: {ip}, podIPs: [{{ip: {ip}}}], conditions: [{{type: Ready, status: 'True'}}]}}
---"
        )
    });
    let gateway = "
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: edge, namespace: ns-0}
spec: {selector: {app: edge}, servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ['*']}]}
";
    pods.chain([gateway.to_owned()]).collect()
}

/// A rule for the service, in the mesh and at the entrance.
fn virtual_service(timeout: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: seventh, namespace: ns-1}}
spec:
  hosts: [service-0007.ns-1.svc.cluster.local]
  gateways: [mesh, ns-0/edge]
  http: [{{timeout: {timeout}, route: [{{destination: {{host: service-0007}}}}]}}]
"
    )
}

/// A rule for another service of the same port, for its own namespace alone.
fn own(timeout: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: own, namespace: ns-1}}
spec:
  hosts: [service-0017]
  exportTo: ['.']
  http: [{{timeout: {timeout}, route: [{{destination: {{host: service-0017}}}}]}}]
"
    )
}

/// A policy for the service.
fn destination_rule(policy: &str, subsets: &str) -> String {
    format!(
        "---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: seventh, namespace: ns-1}}
spec: {{host: service-0007, trafficPolicy: {{{policy}}}, subsets: [{subsets}]}}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn a_virtual_service_costs_the_routes_that_hold_its_host() -> Result<()> {
    let mut classes = Classes::start().await?;
    // Routes of its port, once for each namespace; and those of the entrance.
    for timeout in ["1s", "2s", "3s"] {
        let cost = ResourceUsage {
            generated: [(Kind::Rds, 3)].into(),
            sidecars: [(Kind::Rds, SIDECARS.into())].into(),
            gateways: [(Kind::Rds, GATEWAYS.into())].into(),
        };
        classes.change(&virtual_service(timeout), cost).await?;
    }
    let common = virtual_service("3s");
    for timeout in ["1s", "2s"] {
        let cost = ResourceUsage {
            generated: [(Kind::Rds, 1)].into(),
            sidecars: [(Kind::Rds, u64::from(SIDECARS) / 2)].into(),
            gateways: Counts::new(),
        };
        classes.change(&(common.clone() + &own(timeout)), cost).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_destination_rule_costs_the_clusters_of_its_host() -> Result<()> {
    let mut classes = Classes::start().await?;
    let everybody = |kinds: &[Kind], clients: u32| kinds.iter().map(|kind| (*kind, clients.into())).collect();
    // One cluster for all sidecars, one for all gateways; an Envoy whose cluster changes wants its endpoints again, which
    // nobody makes again.
    let clusters = |generated: &[(Kind, u64)], sidecars: &[Kind]| ResourceUsage {
        generated: generated.iter().copied().collect(),
        sidecars: everybody(sidecars, SIDECARS),
        gateways: everybody(&[Kind::Cds, Kind::Eds], GATEWAYS),
    };
    let (cluster, endpoints) = ((Kind::Cds, 2), (Kind::Eds, 1));
    let limit = |connections: u32| format!("connectionPool: {{tcp: {{maxConnections: {connections}}}}}");
    for connections in [100, 200] {
        let cost = clusters(&[cluster], &[Kind::Cds, Kind::Eds]);
        classes.change(&destination_rule(&limit(connections), ""), cost).await?;
    }
    // Which endpoint a header means is said in the routes too: of its port, once for each namespace. No route of the entrance
    // leads there.
    let rule = format!("{}, loadBalancer: {{consistentHash: {{httpHeaderName: x-user}}}}", limit(200));
    let cost = clusters(&[cluster, (Kind::Rds, 2)], &[Kind::Cds, Kind::Eds, Kind::Rds]);
    classes.change(&destination_rule(&rule, ""), cost).await?;
    // A subset is a cluster with endpoints of its own; the one of all endpoints is what it was.
    let cost = clusters(&[cluster, endpoints], &[Kind::Cds, Kind::Eds]);
    classes.change(&destination_rule(&rule, "{name: v1, labels: {version: v1}}"), cost).await
}

//! Cost of one change in a mesh of a thousand services: only resources that depend on it are generated, by the control plane's own
//! count and by the resources that clients receive.
//!
//! ```text
//! ns-0, ns-1      sidecars; each namespace has services of its own and is therefore a proxy class of its own
//! edge            gateways; also a class of its own
//! ```

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use pilot_tests::fleet::{Codec, Fleet, FleetConfig, Goal, Kind, Visibility};
use pilot_tests::net::get_ok;
use pilot_tests::wait::eventually;

use super::{FleetTest, SILENCE, TIMEOUT, configured};

/// Number of services visible to a sidecar.
const SERVICES: u32 = 1000;

/// Number of sidecars, half of them in each namespace.
const SIDECARS: u32 = 8;

const GATEWAYS: u32 = 3;

/// Number of resources by type.
type Counts = BTreeMap<Kind, u64>;

/// A mesh, and clients of three classes.
struct Classes {
    test: FleetTest,
    sidecars: Fleet,
    gateways: Fleet,
    /// Number of generated resources before the last change.
    generated: Counts,
}

/// Resources generated and sent for a change. Types without any are left out.
#[derive(Debug, PartialEq, Eq)]
struct ResourceUsage {
    /// Generated resources.
    generated: Counts,
    /// Resources sent to all sidecars.
    sidecars: Counts,
    /// Resources sent to all gateways.
    gateways: Counts,
}

// === impl Classes ===

impl Classes {
    async fn start() -> Result<Self> {
        let test = FleetTest::start(SERVICES, Visibility::Namespaces(2)).await?;
        test.mesh.folder.write_text("edge.yaml", &gateway_manifests())?;
        let sidecars = test.fleet(SIDECARS, Codec::Delta, 0)?;
        let mut config = FleetConfig::new(test.discovery.grpc, GATEWAYS, Codec::Delta);
        config.first = SIDECARS;
        config.node_id = Some("router~{ip}~edge-{n}.{ns}~{ns}.svc.cluster.local".to_owned());
        let gateways = configured(config)?;
        let mut classes = Self { test, sidecars, gateways, generated: Counts::new() };
        classes.generated = classes.generated().await?;
        Ok(classes)
    }

    /// Returns the number of resources generated so far, by type.
    async fn generated(&self) -> Result<Counts> {
        let page = get_ok(self.test.discovery.monitoring, "/metrics").await?;
        let count = |kind: Kind| {
            let name = format!("pilot_xds_generated_resources{{type=\"{}\"}} ", kind.resource_type().short());
            let value = page.lines().find_map(|line| line.strip_prefix(&name)?.parse().ok());
            Ok((kind, value.with_context(|| format!("no metric {name}"))?))
        };
        Kind::ALL.into_iter().map(count).collect()
    }

    /// Returns the resources generated and sent since the last change.
    async fn cost(&mut self) -> Result<ResourceUsage> {
        let mut grown = self.generated().await?;
        for (kind, now) in &mut grown {
            *now -= self.generated.get(kind).copied().unwrap_or(0);
        }
        Ok(ResourceUsage {
            generated: nonzero(grown),
            sidecars: nonzero(self.sidecars.totals()?.resources),
            gateways: nonzero(self.gateways.totals()?.resources),
        })
    }

    /// Replaces the rules. It is an error if the cost differs, then or later.
    async fn change(&mut self, rules: &str, expected: ResourceUsage) -> Result<()> {
        self.sidecars.mark(Goal::Configured)?;
        self.gateways.mark(Goal::Configured)?;
        self.test.mesh.folder.write_text("rules.yaml", rules)?;
        eventually(TIMEOUT, "the change costs what depends on it", async || {
            let cost = self.cost().await?;
            ensure!(cost == expected, "{cost:?}, not {expected:?}, for {rules}");
            Ok(())
        })
        .await?;
        tokio::time::sleep(SILENCE).await;
        let cost = self.cost().await?;
        ensure!(cost == expected, "later {cost:?}, not {expected:?}, for {rules}");
        self.generated = self.generated().await?;
        Ok(())
    }
}

/// Removes zero counts.
fn nonzero(mut counts: Counts) -> Counts {
    counts.retain(|_, count| *count > 0);
    counts
}

/// Returns a `Gateway` and its pods.
fn gateway_manifests() -> String {
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

/// Returns a `VirtualService` for one service, bound to the mesh and to the gateway.
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

/// Returns a `VirtualService` for another service of the same port, exported to its own namespace only.
fn namespace_local_virtual_service(timeout: &str) -> String {
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

/// Returns a `DestinationRule` for the service.
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
async fn virtual_service_change_generates_only_routes_of_its_host() -> Result<()> {
    let mut classes = Classes::start().await?;
    // Route configurations of its port, one for each namespace, and those of the gateway.
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
        classes.change(&(common.clone() + &namespace_local_virtual_service(timeout)), cost).await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn destination_rule_change_generates_only_clusters_of_its_host() -> Result<()> {
    let mut classes = Classes::start().await?;
    let every_client =
        |kinds: &[Kind], clients: u32| kinds.iter().map(|kind| (*kind, clients.into())).collect();
    // One cluster for all sidecars, one for all gateways. An Envoy whose cluster changes requests its endpoints again; they are sent
    // from the cache.
    let clusters = |generated: &[(Kind, u64)], sidecars: &[Kind]| ResourceUsage {
        generated: generated.iter().copied().collect(),
        sidecars: every_client(sidecars, SIDECARS),
        gateways: every_client(&[Kind::Cds, Kind::Eds], GATEWAYS),
    };
    let (cluster, endpoints) = ((Kind::Cds, 2), (Kind::Eds, 1));
    let limit = |connections: u32| format!("connectionPool: {{tcp: {{maxConnections: {connections}}}}}");
    for connections in [100, 200] {
        let cost = clusters(&[cluster], &[Kind::Cds, Kind::Eds]);
        classes.change(&destination_rule(&limit(connections), ""), cost).await?;
    }
    // The hash policy is part of the routes of the service's port, one for each namespace. No route of the gateway leads to the
    // service.
    let rule = format!("{}, loadBalancer: {{consistentHash: {{httpHeaderName: x-user}}}}", limit(200));
    let cost = clusters(&[cluster, (Kind::Rds, 2)], &[Kind::Cds, Kind::Eds, Kind::Rds]);
    classes.change(&destination_rule(&rule, ""), cost).await?;
    // A subset is a cluster with endpoints of its own; the cluster of all endpoints does not change.
    let cost = clusters(&[cluster, endpoints], &[Kind::Cds, Kind::Eds]);
    classes.change(&destination_rule(&rule, "{name: v1, labels: {version: v1}}"), cost).await
}

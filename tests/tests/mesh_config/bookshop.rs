//! Three versions of `web`, a client with a sidecar, and rules that change.
//!
//! Without interception the sidecar serves every service on loopback, at the service's port.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Result, ensure};
use pilot_tests::http_request::{HttpRequest, HttpResponse};
use pilot_tests::mesh::{Mesh, Options};
use pilot_tests::net::{free_port, local, loopback};
use pilot_tests::wait::eventually;
use pilot_tests::workload::Workload;

/// Time limit for a rule to take effect on a busy machine.
pub(crate) const CHANGE: Duration = Duration::from_secs(20);

/// A mesh of three versions of `web`.
pub(crate) struct BookshopMesh {
    pub(crate) mesh: Mesh,
    pub(crate) v1: Workload,
    pub(crate) v2: Workload,
    pub(crate) v3: Workload,
    pub(crate) port: u16,
}

/// The subsets of `web`.
pub(crate) const SUBSETS: &str = "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web}
spec:
  host: web
  subsets:
  - {name: v1, labels: {version: v1}}
  - {name: v2, labels: {version: v2}}
  - {name: v3, labels: {version: v3}}
";

// === impl BookshopMesh ===

impl BookshopMesh {
    /// Starts the mesh with these rules.
    pub(crate) async fn open(rules: &str) -> Result<Self> {
        Self::open_with(rules, &BTreeMap::new()).await
    }

    /// Starts the mesh with additional labels for some versions.
    pub(crate) async fn open_with(rules: &str, labels: &BTreeMap<&str, &str>) -> Result<Self> {
        let (port, target) = (free_port()?, free_port()?);
        let at = |last: u8| SocketAddr::new(loopback(last), target);
        let (v1, v2, v3) = (
            Workload::start("v1", at(2)).await?,
            Workload::start("v2", at(3)).await?,
            Workload::start("v3", at(4)).await?,
        );
        let mesh = Mesh::start(&[], &Options::new()?).await?;
        let shop = Self { mesh, v1, v2, v3, port };
        shop.mesh.folder.write_text("web.yaml", &manifests(port, target, labels))?;
        shop.set_rules(rules)?;
        eventually(CHANGE, "web answers", async || {
            let answer = shop.get("/").send().await?;
            ensure!(answer.status != 404 && answer.status != 503, "{answer:?}");
            Ok(())
        })
        .await?;
        Ok(shop)
    }

    /// Replaces the rules.
    pub(crate) fn set_rules(&self, rules: &str) -> Result<()> {
        self.mesh.folder.write_text("rules.yaml", &format!("# rules\n{rules}"))
    }

    /// Returns a request `GET <path>` to `web` through the client's sidecar.
    pub(crate) fn get(&self, path: &str) -> HttpRequest {
        HttpRequest::get(local(self.port), "web", path)
    }

    /// Repeats the request until its response fulfils the condition.
    pub(crate) async fn wait_for(
        &self,
        request: &HttpRequest,
        what: &str,
        is: impl Fn(&HttpResponse) -> bool,
    ) -> Result<HttpResponse> {
        eventually(CHANGE, what, async || {
            let answer = request.send().await?;
            ensure!(is(&answer), "{answer:?}");
            Ok(answer)
        })
        .await
    }

    /// Sends the request so many times and counts the answers of each version.
    pub(crate) async fn count_answers(
        &self,
        request: &HttpRequest,
        times: u32,
    ) -> Result<BTreeMap<String, u32>> {
        let mut counts = BTreeMap::new();
        for _ in 0..times {
            let answer = request.send().await?;
            ensure!(answer.status == 200, "{answer:?}");
            *counts.entry(answer.server().to_owned()).or_default() += 1;
        }
        Ok(counts)
    }

    /// Returns an error if any configuration was rejected. Every test ends with this check.
    pub(crate) async fn close(mut self) -> Result<()> {
        self.mesh.ensure_healthy().await
    }
}

fn manifests(port: u16, target: u16, labels: &BTreeMap<&str, &str>) -> String {
    let pods = (1..=3).map(|version| {
        let more = labels.get(format!("v{version}").as_str()).copied().unwrap_or_default();
        let ip = version + 1;
        format!(
            "
---
apiVersion: v1
kind: Pod
metadata: {{name: web-v{version}, namespace: default, labels: {{app: web, version: v{version}{more}}}}}
status: {{phase: Running, podIP: 127.0.0.{ip}, podIPs: [{{ip: 127.0.0.{ip}}}], conditions: [{{type: Ready, status: 'True'}}]}}
"
        )
    });
    let endpoints = (1..=3).map(|version| {
        format!(
            "{{addresses: [127.0.0.{}], conditions: {{ready: true}}, targetRef: {{kind: Pod, name: web-v{version}, namespace: default}}}}",
            version + 1
        )
    });
    let client = labels.get("client").copied().unwrap_or_default();
    format!(
        "
apiVersion: v1
kind: Service
metadata: {{name: web, namespace: default}}
spec: {{clusterIP: 10.0.0.1, selector: {{app: web}}, ports: [{{name: http, port: {port}, targetPort: {target}}}]}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: web-1, namespace: default, labels: {{kubernetes.io/service-name: web}}}}
addressType: IPv4
ports: [{{name: http, port: {target}}}]
endpoints: [{}]
---
apiVersion: v1
kind: Pod
metadata: {{name: client, namespace: default, labels: {{app: client{client}}}}}
status: {{phase: Running, podIP: 127.0.0.1, podIPs: [{{ip: 127.0.0.1}}], conditions: [{{type: Ready, status: 'True'}}]}}
{}",
        endpoints.collect::<Vec<_>>().join(", "),
        pods.collect::<String>(),
    )
}

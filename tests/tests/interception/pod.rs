//! A mesh with a control plane outside and pods in network namespaces, each with a sidecar.

use anyhow::Result;
use pilot_tests::envoy::envoy;
use pilot_tests::http_request::{HttpRequest, HttpResponse};
use pilot_tests::manifest::Folder;
use pilot_tests::mesh::{Discovery, Interception, Options, Sidecar};
use pilot_tests::pod_network::{NamespaceGuard, NetworkNamespace, PROXY_GID, PodNetwork, address};
use pilot_tests::programs::programs;

/// The mesh. The test's thread stays in the outside namespace.
pub(crate) struct PodMesh {
    pub(crate) discovery: Discovery,
    pub(crate) folder: Folder,
    _outside: NamespaceGuard,
    network: PodNetwork,
    dir: tempfile::TempDir,
}

/// A pod. The test acts as its workload.
pub(crate) struct Pod {
    sidecar: Sidecar,
    namespace: NetworkNamespace,
}

// === impl PodMesh ===

impl PodMesh {
    pub(crate) async fn open() -> Result<Self> {
        // Both may need the network for a download, which is not available in the namespace.
        let _ready = (programs()?, envoy()?);
        let network = PodNetwork::new()?;
        let _outside = network.outside().enter()?;
        let dir = tempfile::tempdir()?;
        let folder = Folder::create(dir.path().join("config"))?;
        let discovery = Discovery::start_at(PodNetwork::OUTSIDE, dir.path(), &folder, &[]).await?;
        Ok(Self { discovery, folder, _outside, network, dir })
    }

    /// Starts a pod of the namespace `default` at `10.77.0.<last>` and waits until its sidecar is ready.
    pub(crate) async fn pod(&self, name: &'static str, last: u8) -> Result<Pod> {
        let ip = address(last);
        self.folder.write_text(
            &format!("{name}.yaml"),
            &format!(
                "
apiVersion: v1
kind: Pod
metadata: {{name: {name}, namespace: default, labels: {{app: {name}}}}}
status: {{phase: Running, podIP: {ip}, podIPs: [{{ip: {ip}}}], conditions: [{{type: Ready, status: 'True'}}]}}
"
            ),
        )?;
        let namespace = self.network.pod(last)?;
        namespace.intercept(self.discovery.listen)?;
        let dir = self.dir.path().join(name);
        std::fs::create_dir(&dir)?;
        let options = Options {
            interception: Interception::Redirect,
            pod: name,
            ip,
            group: Some(PROXY_GID),
            ..Options::new()?
        };
        let inside = namespace.enter()?;
        let mut sidecar = Sidecar::start(&dir, self.discovery.grpc, &options)?;
        sidecar.ready().await?;
        drop(inside);
        Ok(Pod { sidecar, namespace })
    }

    /// Returns an error if any configuration was rejected. Every test ends with this check.
    pub(crate) async fn close(self, pods: &[&Pod]) -> Result<()> {
        for pod in pods {
            let _inside = pod.namespace.enter()?;
            pod.sidecar.ensure_no_rejection().await?;
        }
        self.discovery.ensure_no_rejection().await
    }
}

// === impl Pod ===

impl Pod {
    /// Sends a request from inside the pod.
    pub(crate) async fn send(&self, request: &HttpRequest) -> Result<HttpResponse> {
        let _inside = self.namespace.enter()?;
        request.send().await
    }

    /// Returns a counter of one of its Envoy's clusters; a missing counter is 0.
    pub(crate) async fn count(&self, cluster: &str, counter: &str) -> Result<u64> {
        let _inside = self.namespace.enter()?;
        // The cluster name in a stat ends with a semicolon, as in Istio.
        let name = format!("cluster.{cluster};.{counter}");
        Ok(self.sidecar.stats(&format!("{counter}$")).await?.get(&name).copied().unwrap_or(0))
    }

    /// Enters the pod's network namespace.
    pub(crate) fn enter(&self) -> Result<NamespaceGuard> {
        self.namespace.enter()
    }
}

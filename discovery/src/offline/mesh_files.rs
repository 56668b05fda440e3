//! Reads a mesh from files once, with the file source of the server.

use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use pilot_core::model::SourceEvent;
use pilot_core::push::PushContext;
use pilot_core::world::World;
use tokio::sync::mpsc;

use crate::mesh;
use crate::source::file::{self, FileSourceConfig};
use crate::source::{Problem, RegistryKind, SourceSender, SourceStatus};

/// Mesh in files.
#[derive(Debug)]
pub(super) struct MeshFiles {
    /// Snapshot of the mesh.
    pub(super) push: PushContext,
    /// Problems of the files.
    pub(super) problems: Vec<Problem>,
}

/// Default of the server.
const SYSTEM_NAMESPACE: &str = "istio-system";
/// Default of the server.
const CLUSTER: &str = "Kubernetes";

// === impl MeshFiles ===

impl MeshFiles {
    /// Reads a directory and a mesh configuration file, which need not exist.
    pub(super) fn read(directory: &Path, mesh_file: &Path, domain: &str) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        runtime.block_on(Self::read_once(directory, mesh_file, domain))
    }

    async fn read_once(directory: &Path, mesh_file: &Path, domain: &str) -> anyhow::Result<Self> {
        let mesh = mesh::watch(mesh_file)?;
        let id = RegistryKind::File.source_id();
        let mut world = World::new(domain, [id.clone()]);
        drop(world.set_mesh(mesh.borrow().clone()));
        let settings = FileSourceConfig {
            directory: directory.to_owned(),
            domain_suffix: domain.to_owned(),
            mesh,
            cluster_id: CLUSTER.to_owned(),
            system_namespace: SYSTEM_NAMESPACE.to_owned(),
        };
        let (sender, mut events) = mpsc::channel(256);
        let status = Arc::new(SourceStatus::new(id));
        let source = file::run(settings, SourceSender::new(status.clone(), sender));
        let synced = async {
            while let Some((source, event)) = events.recv().await {
                let is_synced = event == SourceEvent::Synced;
                drop(world.apply(&source, event));
                if is_synced {
                    break;
                }
            }
            world
        };
        let world = tokio::select! {
            ended = source => {
                ended.with_context(|| format!("read {}", directory.display()))?;
                anyhow::bail!("reading {} ended early", directory.display());
            }
            world = synced => world,
        };
        Ok(Self { push: PushContext::default().next(&world), problems: status.problems() })
    }
}

//! A mesh as files declare it, read once, by the server's own file source.

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

/// A mesh as files declare it.
#[derive(Debug)]
pub(super) struct Folder {
    /// The mesh.
    pub(super) push: PushContext,
    /// What of the files could not be used.
    pub(super) problems: Vec<Problem>,
}

/// The server's default.
const SYSTEM_NAMESPACE: &str = "istio-system";
/// The server's default.
const CLUSTER: &str = "Kubernetes";

// === impl Folder ===

impl Folder {
    /// Reads a folder and a mesh configuration, which need not exist.
    pub(super) fn read(directory: &Path, mesh_file: &Path, domain: &str) -> anyhow::Result<Self> {
        let runtime =
            tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
        runtime.block_on(Self::take(directory, mesh_file, domain))
    }

    async fn take(directory: &Path, mesh_file: &Path, domain: &str) -> anyhow::Result<Self> {
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
        let told = async {
            while let Some((source, event)) = events.recv().await {
                let is_all = event == SourceEvent::Synced;
                drop(world.apply(&source, event));
                if is_all {
                    break;
                }
            }
            world
        };
        let world = tokio::select! {
            ended = source => {
                ended.with_context(|| format!("read {}", directory.display()))?;
                anyhow::bail!("the files of {} were not read to the end", directory.display());
            }
            world = told => world,
        };
        Ok(Self { push: PushContext::default().next(&world), problems: status.problems() })
    }
}

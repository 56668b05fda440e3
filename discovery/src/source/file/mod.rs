//! File source: watches a directory of Kubernetes and Istio manifests.
//!
//! ```text
//!  pilot-watch ─stable files─▶ reader ─contents─▶ declarations ─▶ object store ─objects─▶ registry ─changes─▶ world
//!  (inotify, stability rule)                      (pure: last good               (pure)
//!                                                  version)
//! ```
//!
//! The manifests are those that `kubectl apply` takes. A manifest that cannot be used is a [`Problem`] in the [`SourceStatus`]
//! and affects nothing else: its last good version stays active. A manifest that is used but not in all its parts is a
//! warning. An object is removed when its file is deleted or, complete and readable, no longer contains it.

pub(crate) mod check;
mod declarations;
pub(crate) mod documents;
mod reader;
pub(crate) mod single_file;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use pilot_core::model::Change;
use pilot_core::validate::Severity;
use pilot_proto::mesh::MeshConfig;
use pilot_watch::{Scanner, TreeError, Watcher};
use tokio::sync::watch;
use tracing::{info, warn};

use self::declarations::{Declarations, IgnoredKind};
use self::reader::{FileReader, FileUpdate};
use super::kubernetes::{PendingPods, Registry, RegistryOptions};
use super::objects::{ObjectChange, ObjectKind, ObjectStore};
use super::{Problem, SourceSender, SourceStatus};

/// Settings of the file source.
#[derive(Clone, Debug)]
pub(crate) struct FileSourceConfig {
    /// Directory of the manifests. Must exist at start.
    pub(crate) directory: PathBuf,
    /// `cluster.local` in `reviews.default.svc.cluster.local`.
    pub(crate) domain_suffix: String,
    /// Mesh configuration; its trust domain is the first part of every identity.
    pub(crate) mesh: watch::Receiver<Arc<MeshConfig>>,
    /// Id of the cluster that the manifests belong to; empty if there is only one.
    pub(crate) cluster_id: String,
    /// Namespace with the `topology.istio.io/network` label that applies to all.
    pub(crate) system_namespace: String,
}

/// State between two scans: everything between the files and the changes.
struct FileSource {
    directory: PathBuf,
    reader: FileReader,
    declarations: Declarations,
    store: ObjectStore,
    registry: Registry,
    status: Arc<SourceStatus>,
}

/// Reads the directory and sends its content, first as a whole, then as it changes. Returns when the receiver of the events
/// is dropped, or with an error if the directory does not exist at start.
pub(crate) async fn run(config: FileSourceConfig, sender: SourceSender) -> anyhow::Result<()> {
    tokio::select! {
        result = watch_directory(config, &sender) => result,
        () = sender.closed() => Ok(()),
    }
}

async fn watch_directory(config: FileSourceConfig, sender: &SourceSender) -> anyhow::Result<()> {
    let tree = reader::manifest_tree(&config.directory);
    let mut mesh = config.mesh.clone();
    let source = FileSource::new(config, &mesh.borrow_and_update().trust_domain, sender.status().clone());
    let mut watcher = Watcher::of_tree(source, reader::WATCH_SETTINGS, tree);
    let initial = watcher.next(FileSource::read_initial).await.context(SCAN_FAILED)?;
    sender.resync(initial.context("read the configuration files")?).await;
    loop {
        let changes = tokio::select! {
            due = watcher.due() => {
                due.context(SCAN_FAILED)?;
                watcher.next(FileSource::read).await.context(SCAN_FAILED)?
            }
            trust_domain = trust_domain_change(&mut mesh) => {
                let (source, _) = watcher.parts().context(SCAN_FAILED)?;
                source.registry.set_trust_domain(&trust_domain)
            }
        };
        sender.changes(changes).await;
    }
}

/// Waits until the mesh configuration changes, and returns its trust domain. Never returns if the sender is dropped.
async fn trust_domain_change(mesh: &mut watch::Receiver<Arc<MeshConfig>>) -> String {
    if mesh.changed().await.is_err() {
        std::future::pending::<()>().await;
    }
    mesh.borrow_and_update().trust_domain.clone()
}

/// Reason for the end of the source after a panic.
const SCAN_FAILED: &str = "the thread that reads the configuration files has failed";

// === impl FileSource ===

impl FileSource {
    fn new(config: FileSourceConfig, trust_domain: &str, status: Arc<SourceStatus>) -> Self {
        Self {
            directory: config.directory,
            reader: FileReader::default(),
            declarations: Declarations::default(),
            store: ObjectStore::default(),
            registry: Registry::new(RegistryOptions {
                domain_suffix: config.domain_suffix,
                trust_domain: trust_domain.to_owned(),
                cluster_id: config.cluster_id,
                system_namespace: config.system_namespace,
                pending_pods: PendingPods::Pass,
            }),
            status,
        }
    }

    fn read_initial(&mut self, scanner: &mut Scanner) -> Result<Vec<Change>, TreeError> {
        let initial = self.reader.read_initial(scanner)?;
        ObjectKind::all().for_each(|kind| self.store.begin(kind));
        let mut changes = self.apply(initial);
        for kind in ObjectKind::all() {
            let deleted = self.store.end(kind);
            changes.extend(self.apply_objects(deleted));
        }
        info!(directory = %self.directory.display(), objects = self.store.len(), "configuration files read");
        Ok(changes)
    }

    fn read(&mut self, scanner: &mut Scanner) -> Vec<Change> {
        let update = self.reader.read(scanner);
        update.map(|update| self.apply(update)).unwrap_or_default()
    }

    /// Translates changed files to objects and objects to changes.
    fn apply(&mut self, update: FileUpdate) -> Vec<Change> {
        let (objects, ignored) = self.declarations.apply(update.changes, &mut self.store);
        for kind in ignored {
            match kind {
                IgnoredKind::Unsupported(api, kind) => {
                    info!(%api, %kind, "kind is not supported; ignoring its objects");
                }
                IgnoredKind::Unknown(api, kind) => warn!(%api, %kind, "unknown kind; ignoring its objects"),
            }
        }
        self.report(update.unreadable);
        self.apply_objects(objects)
    }

    fn apply_objects(&mut self, objects: Vec<ObjectChange>) -> Vec<Change> {
        self.status.count_changes(&objects);
        self.registry.apply(objects)
    }

    /// Logs each problem once when it appears and once when it is resolved.
    fn report(&self, unreadable: Vec<(PathBuf, String)>) {
        if let Some((path, error)) = unreadable.first() {
            self.status.record_error(format!("{}: {error}", path.display()));
        }
        let unreadable = unreadable.into_iter().map(|(path, error)| Problem::of_file(&path, error));
        let problems = self.declarations.problems().cloned().chain(unreadable).collect();
        let (new, resolved) = self.status.set_problems(problems);
        for problem in new {
            match problem.severity {
                Severity::Error => warn!("{problem}; keeping previous version"),
                Severity::Warning => warn!("{problem}"),
            }
        }
        for problem in resolved {
            info!("resolved: {problem}");
        }
    }
}

#[cfg(test)]
mod tests;

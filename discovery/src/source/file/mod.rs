//! The file source: a directory of Kubernetes and Istio manifests, watched.
//!
//! ```text
//!  notices ─hints─▶ tree ─looks─▶ settle ─beliefs─▶ read ──▶ store ─objects─▶ registry ─changes─▶ world
//!  (inotify)        (stat)        (pure)            └ observer     (pure: last    (pure)
//!                                                                 good version)
//! ```
//!
//! The manifests are those that `kubectl apply` takes. What cannot be used is a [`Problem`] in the
//! [`FileStatus`] and changes nothing else: its last good version serves on. So is what is used and does not mean all that
//! was written, as a warning. An object ends when its file is
//! deleted or, whole and readable, no longer has it.

pub(crate) mod check;
pub(crate) mod documents;
mod notices;
mod observer;
mod settle;
mod status;
mod store;
mod tree;
pub(crate) mod watch;

use std::path::PathBuf;
use std::sync::Arc;

use anyhow::Context;
use pilot_core::model::{SourceEvent, SourceId};
use pilot_core::validate::Severity;
use tokio::sync::{mpsc, oneshot};
use tracing::{info, warn};

use self::observer::{Observation, Observer};
pub(crate) use self::status::{FileStatus, Problem};
use self::store::{Foreign, Store};
use self::tree::Root;
use super::kubernetes::{ObjectEvent, PendingPods, Registry, RegistryOptions};

/// What the file source needs to know.
#[derive(Clone, Debug)]
pub(crate) struct FileSourceConfig {
    /// Where the manifests are; must be there at start.
    pub(crate) directory: PathBuf,
    /// `cluster.local` in `reviews.default.svc.cluster.local`.
    pub(crate) domain_suffix: String,
    /// First part of every identity.
    pub(crate) trust_domain: String,
    /// Which cluster the manifests are of; empty when there is but one.
    pub(crate) cluster_id: String,
    /// The namespace whose `topology.istio.io/network` label counts for all.
    pub(crate) system_namespace: String,
}

/// The source's own thread: everything between the files and the events.
struct Reader {
    id: SourceId,
    directory: PathBuf,
    observer: Observer,
    store: Store,
    registry: Registry,
    status: Arc<FileStatus>,
    events: mpsc::Sender<(SourceId, SourceEvent)>,
}

/// Nobody listens any more.
struct Unheard;

/// Reads the directory and tells what it says, first as a whole, then as it changes. Ends when nobody listens, or
/// with an error when there is no such directory at start.
pub(crate) async fn run(
    config: FileSourceConfig,
    events: mpsc::Sender<(SourceId, SourceEvent)>,
    status: Arc<FileStatus>,
) -> anyhow::Result<()> {
    // Dropped with this future, it ends the thread.
    let (observer, _stop) = Observer::new(Root::Directory(config.directory.clone()));
    let reader = Reader {
        id: SourceId("File".into()),
        directory: config.directory,
        observer,
        store: Store::default(),
        registry: Registry::new(RegistryOptions {
            domain_suffix: config.domain_suffix,
            trust_domain: config.trust_domain,
            cluster_id: config.cluster_id,
            system_namespace: config.system_namespace,
            pending_pods: PendingPods::Pass,
        }),
        status,
        events: events.clone(),
    };
    let (done, ended) = oneshot::channel();
    std::thread::Builder::new()
        .name("config-files".into())
        .spawn(move || drop(done.send(reader.run())))
        .context("start the thread that reads configuration files")?;
    tokio::select! {
        result = ended => result.context("the thread that reads configuration files has died")?,
        () = events.closed() => Ok(()),
    }
}

// === impl Reader ===

impl Reader {
    fn run(mut self) -> anyhow::Result<()> {
        let first = self.observer.first().context("read the configuration files")?;
        let told = first.is_some_and(|first| {
            self.tell(SourceEvent::Resync)
                .and_then(|()| self.take(first))
                .and_then(|()| self.tell(SourceEvent::Synced))
                .is_ok()
        });
        info!(directory = %self.directory.display(), objects = self.store.len(), "configuration files are read");
        if told {
            while let Some(news) = self.observer.next() {
                if self.take(news).is_err() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// What was seen becomes objects, changes, events.
    fn take(&mut self, seen: Observation) -> Result<(), Unheard> {
        let (objects, met) = self.store.take(seen.sightings);
        for foreign in met {
            match foreign {
                Foreign::NotRead(api, kind) => info!(%api, %kind, "objects of this kind are not read"),
                Foreign::Unknown(api, kind) => warn!(%api, %kind, "nothing is known of this kind"),
            }
        }
        self.report(seen.trouble);
        for (fate, event) in &objects {
            let kind = match event {
                ObjectEvent::Upsert(object) => object.key().kind,
                ObjectEvent::Delete(key) => key.kind,
            };
            self.status.count(kind, *fate);
        }
        for change in self.registry.apply(objects.into_iter().map(|(_, event)| event)) {
            self.tell(SourceEvent::Change(change))?;
        }
        Ok(())
    }

    /// Every problem is told once when it comes and once when it goes.
    fn report(&self, trouble: Vec<(PathBuf, String)>) {
        let places = trouble.into_iter().map(|(path, why)| Problem::of_file(&path, why));
        let (new, solved) = self.status.set_problems(self.store.problems().cloned().chain(places).collect());
        for problem in new {
            match problem.severity {
                Severity::Error => warn!("{problem}; what was there before stays"),
                Severity::Warning => warn!("{problem}"),
            }
        }
        for problem in solved {
            info!("solved: {problem}");
        }
    }

    fn tell(&self, event: SourceEvent) -> Result<(), Unheard> {
        self.events.blocking_send((self.id.clone(), event)).map_err(|_| Unheard)
    }
}

#[cfg(test)]
mod tests;

//! What sources tell the world.
//!
//! A source translates what it watches into these and nothing else; it never reads the world. After a
//! (re)connect it sends `Resync`, everything it sees, then `Synced`: what was not mentioned in between is
//! removed, so nothing that vanished meanwhile survives and nothing is dropped while the source is away.

use std::sync::Arc;

use super::{ConfigKind, ConfigObject, Endpoint, Hostname, Namespace, Service, Workload, WorkloadKind};

/// Which source speaks: a shard of the world, for example `Kubernetes/cluster-1` or `File`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub Arc<str>);

impl std::fmt::Display for SourceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// One statement of a source.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceEvent {
    /// Everything the source sees follows, up to `Synced`.
    Resync,
    /// The end of what the source sees; gates readiness the first time.
    Synced,
    /// One thing is now like this, or is gone.
    Change(Change),
}

/// One thing as it now is.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A service is now this.
    Service(Arc<Service>),
    /// A service is gone.
    ServiceGone(Namespace, Hostname),
    /// All endpoints that this source has for a service, of all its ports. An empty list is a statement too.
    Endpoints(Namespace, Hostname, Vec<Endpoint>),
    /// A pod is now this. (`WorkloadEntry`s come as configuration.)
    Workload(Arc<Workload>),
    /// A pod is gone.
    WorkloadGone(WorkloadKind, Namespace, Arc<str>),
    /// A configuration object is now this.
    Config(Arc<ConfigObject>),
    /// A configuration object is gone.
    ConfigGone(ConfigKind, Namespace, Arc<str>),
}

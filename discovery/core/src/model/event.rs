//! Events from sources to the world.
//!
//! A source translates its objects to events and never reads the world. After a (re)connect it sends `Resync`, its complete
//! state, then `Synced`: declarations that were not restated in between are removed. So nothing survives that vanished during a
//! disconnect, and nothing is removed while the source is away.

use std::sync::Arc;

use super::{ConfigKind, ConfigObject, Endpoint, Hostname, Namespace, Service, Workload, WorkloadKind};

/// Identifier of a source, for example `Kubernetes/cluster-1` or `File`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SourceId(pub Arc<str>);

impl std::fmt::Display for SourceId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Event of a source.
#[derive(Clone, Debug, PartialEq)]
pub enum SourceEvent {
    /// The complete state follows, up to `Synced`.
    Resync,
    /// End of the complete state. The first one of every source makes the world ready.
    Synced,
    /// A declaration was added, changed or removed.
    Change(Change),
}

/// Change of one declaration.
#[derive(Clone, Debug, PartialEq)]
pub enum Change {
    /// A service was added or changed.
    Service(Arc<Service>),
    /// A service was removed.
    ServiceGone(Namespace, Hostname),
    /// All endpoints of a service from this source, of all ports; may be empty.
    Endpoints(Namespace, Hostname, Vec<Endpoint>),
    /// A pod was added or changed. `WorkloadEntry`s are configuration objects.
    Workload(Arc<Workload>),
    /// A pod was removed.
    WorkloadGone(WorkloadKind, Namespace, Arc<str>),
    /// A configuration object was added or changed.
    Config(Arc<ConfigObject>),
    /// A configuration object was removed.
    ConfigGone(ConfigKind, Namespace, Arc<str>),
}

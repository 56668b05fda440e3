//! Istio's configuration objects as they were written, and the keys that changes are tracked by.

use std::collections::BTreeMap;
use std::sync::Arc;

use pilot_proto::read::{self, Read, Wrong};
use pilot_proto::write;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Namespace;
use crate::api::{
    DestinationRule, EnvoyFilter, Gateway, ProxyConfig, ServiceEntry, Sidecar, Telemetry, VirtualService,
    WorkloadEntry, WorkloadGroup,
};

/// What kind of thing changed. Every service change, whatever the registry, is a `ServiceEntry` change of
/// its host name (as in Istio).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// A service appeared, changed or went.
    ServiceEntry,
    /// Only endpoints of a service changed.
    Endpoints,
    /// A `WorkloadEntry` changed.
    WorkloadEntry,
    /// A `WorkloadGroup` changed.
    WorkloadGroup,
    /// A `VirtualService` changed.
    VirtualService,
    /// A `DestinationRule` changed.
    DestinationRule,
    /// A `Gateway` changed.
    Gateway,
    /// A `Sidecar` changed.
    Sidecar,
    /// An `EnvoyFilter` changed.
    EnvoyFilter,
    /// A `ProxyConfig` changed.
    ProxyConfig,
    /// A `Telemetry` changed.
    Telemetry,
    /// The mesh configuration changed.
    MeshConfig,
    /// One proxy's own workload changed.
    Proxy,
}

impl Kind {
    /// As logs and debug pages spell it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceEntry => "ServiceEntry",
            Self::Endpoints => "Endpoints",
            Self::WorkloadEntry => "WorkloadEntry",
            Self::WorkloadGroup => "WorkloadGroup",
            Self::VirtualService => "VirtualService",
            Self::DestinationRule => "DestinationRule",
            Self::Gateway => "Gateway",
            Self::Sidecar => "Sidecar",
            Self::EnvoyFilter => "EnvoyFilter",
            Self::ProxyConfig => "ProxyConfig",
            Self::Telemetry => "Telemetry",
            Self::MeshConfig => "MeshConfig",
            Self::Proxy => "Proxy",
        }
    }
}

impl Kind {
    /// As paths of Istio's metadata spell it: `virtual-service`.
    pub const fn resource(self) -> &'static str {
        match self {
            Self::ServiceEntry => "service-entry",
            Self::WorkloadEntry => "workload-entry",
            Self::WorkloadGroup => "workload-group",
            Self::VirtualService => "virtual-service",
            Self::DestinationRule => "destination-rule",
            Self::Gateway => "gateway",
            Self::Sidecar => "sidecar",
            Self::EnvoyFilter => "envoy-filter",
            Self::ProxyConfig => "proxy-config",
            Self::Telemetry => "telemetry",
            Self::Endpoints | Self::MeshConfig | Self::Proxy => self.as_str(),
        }
    }
}

/// Names one thing that can change. For services and endpoints the name is the host name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigKey {
    /// What it is.
    pub kind: Kind,
    /// Its namespace; empty for what has none.
    pub namespace: Namespace,
    /// Its name.
    pub name: Arc<str>,
}

impl std::fmt::Display for ConfigKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

/// What every configuration object has.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMeta {
    /// Its namespace.
    pub namespace: Namespace,
    /// Its name.
    pub name: Arc<str>,
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// Its annotations.
    pub annotations: BTreeMap<String, String>,
    /// Seconds since 1970, 0 when unknown.
    pub created: i64,
}

/// A configuration object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigObject {
    /// Who it is.
    pub meta: ConfigMeta,
    /// What it says.
    pub spec: ConfigSpec,
}

/// The kinds of configuration we read.
#[expect(clippy::large_enum_variant, reason = "objects are shared behind an Arc, and never moved")]
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ConfigSpec {
    /// `networking.istio.io ServiceEntry`
    ServiceEntry(ServiceEntry),
    /// `networking.istio.io WorkloadEntry`
    WorkloadEntry(WorkloadEntry),
    /// `networking.istio.io WorkloadGroup`
    WorkloadGroup(WorkloadGroup),
    /// `networking.istio.io VirtualService`
    VirtualService(VirtualService),
    /// `networking.istio.io DestinationRule`
    DestinationRule(DestinationRule),
    /// `networking.istio.io Gateway`
    Gateway(Gateway),
    /// `networking.istio.io Sidecar`
    Sidecar(Sidecar),
    /// `networking.istio.io EnvoyFilter`
    EnvoyFilter(EnvoyFilter),
    /// `networking.istio.io ProxyConfig`
    ProxyConfig(ProxyConfig),
    /// `telemetry.istio.io Telemetry`
    Telemetry(Telemetry),
}

impl ConfigSpec {
    /// Reads the `spec` of an object of this kind.
    ///
    /// # Errors
    ///
    /// A field that does not fit, or a kind of which there are no objects.
    pub fn read(kind: Kind, spec: &Value) -> Result<Read<Self>, Wrong> {
        fn typed<T: DeserializeOwned>(
            spec: &Value,
            config: fn(T) -> ConfigSpec,
        ) -> Result<Read<ConfigSpec>, Wrong> {
            let Read { value, unknown } = read::message("spec", spec)?;
            Ok(Read { value: config(value), unknown })
        }
        match kind {
            Kind::ServiceEntry => typed(spec, Self::ServiceEntry),
            Kind::WorkloadEntry => typed(spec, Self::WorkloadEntry),
            Kind::WorkloadGroup => typed(spec, Self::WorkloadGroup),
            Kind::VirtualService => typed(spec, Self::VirtualService),
            Kind::DestinationRule => typed(spec, Self::DestinationRule),
            Kind::Gateway => typed(spec, Self::Gateway),
            Kind::Sidecar => typed(spec, Self::Sidecar),
            Kind::EnvoyFilter => typed(spec, Self::EnvoyFilter),
            Kind::ProxyConfig => typed(spec, Self::ProxyConfig),
            Kind::Telemetry => typed(spec, Self::Telemetry),
            Kind::Endpoints | Kind::MeshConfig | Kind::Proxy => {
                let message = format!("there are no objects of kind {}", kind.as_str());
                Err(Wrong { field: "kind".to_owned(), message })
            }
        }
    }

    /// As users write it.
    ///
    /// # Errors
    ///
    /// None is known: all of it are texts, numbers, lists, and maps by text.
    pub fn written(&self) -> serde_json::Result<Value> {
        match self {
            Self::ServiceEntry(spec) => write::message(spec),
            Self::WorkloadEntry(spec) => write::message(spec),
            Self::WorkloadGroup(spec) => write::message(spec),
            Self::VirtualService(spec) => write::message(spec),
            Self::DestinationRule(spec) => write::message(spec),
            Self::Gateway(spec) => write::message(spec),
            Self::Sidecar(spec) => write::message(spec),
            Self::EnvoyFilter(spec) => write::message(spec),
            Self::ProxyConfig(spec) => write::message(spec),
            Self::Telemetry(spec) => write::message(spec),
        }
    }

    /// Which kind.
    pub const fn kind(&self) -> Kind {
        match self {
            Self::ServiceEntry(_) => Kind::ServiceEntry,
            Self::WorkloadEntry(_) => Kind::WorkloadEntry,
            Self::WorkloadGroup(_) => Kind::WorkloadGroup,
            Self::VirtualService(_) => Kind::VirtualService,
            Self::DestinationRule(_) => Kind::DestinationRule,
            Self::Gateway(_) => Kind::Gateway,
            Self::Sidecar(_) => Kind::Sidecar,
            Self::EnvoyFilter(_) => Kind::EnvoyFilter,
            Self::ProxyConfig(_) => Kind::ProxyConfig,
            Self::Telemetry(_) => Kind::Telemetry,
        }
    }
}

//! Istio's configuration objects, and the keys of changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use pilot_proto::proto3_json::de::{self, InvalidField, Read};
use pilot_proto::proto3_json::ser;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::Namespace;
use crate::api::{
    DestinationRule, EnvoyFilter, Gateway, ProxyConfig, ServiceEntry, Sidecar, Telemetry, VirtualService,
    WorkloadEntry, WorkloadGroup,
};

/// Kind of a configuration object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ConfigKind {
    /// `ServiceEntry`
    ServiceEntry,
    /// `WorkloadEntry`
    WorkloadEntry,
    /// `WorkloadGroup`
    WorkloadGroup,
    /// `VirtualService`
    VirtualService,
    /// `DestinationRule`
    DestinationRule,
    /// `Gateway`
    Gateway,
    /// `Sidecar`
    Sidecar,
    /// `EnvoyFilter`
    EnvoyFilter,
    /// `ProxyConfig`
    ProxyConfig,
    /// `Telemetry`
    Telemetry,
}

/// Kind of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ChangeKind {
    /// A service was added, changed or removed, in any registry; a changed `ServiceEntry` is a change of each service that it
    /// declares.
    Service,
    /// Only endpoints of a service changed.
    Endpoints,
    /// A configuration object other than a `ServiceEntry` changed.
    Config(ConfigKind),
    /// The mesh configuration or the networks changed.
    MeshConfig,
    /// The workload of one proxy changed.
    Proxy,
}

// === impl ConfigKind ===

impl ConfigKind {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::ServiceEntry,
        Self::WorkloadEntry,
        Self::WorkloadGroup,
        Self::VirtualService,
        Self::DestinationRule,
        Self::Gateway,
        Self::Sidecar,
        Self::EnvoyFilter,
        Self::ProxyConfig,
        Self::Telemetry,
    ];

    /// Returns the name in manifests, logs and debug pages: `VirtualService`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::ServiceEntry => "ServiceEntry",
            Self::WorkloadEntry => "WorkloadEntry",
            Self::WorkloadGroup => "WorkloadGroup",
            Self::VirtualService => "VirtualService",
            Self::DestinationRule => "DestinationRule",
            Self::Gateway => "Gateway",
            Self::Sidecar => "Sidecar",
            Self::EnvoyFilter => "EnvoyFilter",
            Self::ProxyConfig => "ProxyConfig",
            Self::Telemetry => "Telemetry",
        }
    }

    /// Returns the kind of this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Returns the name in Istio's metadata paths: `virtual-service`.
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
        }
    }
}

// === impl ChangeKind ===

impl ChangeKind {
    /// Returns the name in logs and debug pages. A service is a `ServiceEntry`, as in Istio.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Service => "ServiceEntry",
            Self::Endpoints => "Endpoints",
            Self::Config(kind) => kind.as_str(),
            Self::MeshConfig => "MeshConfig",
            Self::Proxy => "Proxy",
        }
    }
}

/// Key of a changed object. For services and endpoints the name is the host.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ConfigKey {
    /// Kind of the change.
    pub kind: ChangeKind,
    /// Namespace; empty if it has none.
    pub namespace: Namespace,
    /// Name of the object.
    pub name: Arc<str>,
}

impl std::fmt::Display for ConfigKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.kind.as_str(), self.namespace, self.name)
    }
}

/// Metadata of a configuration object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigMeta {
    /// Namespace.
    pub namespace: Namespace,
    /// Name.
    pub name: Arc<str>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations.
    pub annotations: BTreeMap<String, String>,
    /// Creation time in seconds since 1970; 0 if unknown.
    pub created: i64,
}

/// A configuration object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConfigObject {
    /// Metadata.
    pub meta: ConfigMeta,
    /// Specification.
    pub spec: ConfigSpec,
}

/// Specification of a configuration object.
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
    /// Decodes the `spec` of an object of this kind.
    ///
    /// # Errors
    ///
    /// The first field with an invalid value.
    pub fn read(kind: ConfigKind, spec: &Value) -> Result<Read<Self>, InvalidField> {
        fn typed<T: DeserializeOwned>(
            spec: &Value,
            config: fn(T) -> ConfigSpec,
        ) -> Result<Read<ConfigSpec>, InvalidField> {
            let Read { value, unknown } = de::message("spec", spec)?;
            Ok(Read { value: config(value), unknown })
        }
        match kind {
            ConfigKind::ServiceEntry => typed(spec, Self::ServiceEntry),
            ConfigKind::WorkloadEntry => typed(spec, Self::WorkloadEntry),
            ConfigKind::WorkloadGroup => typed(spec, Self::WorkloadGroup),
            ConfigKind::VirtualService => typed(spec, Self::VirtualService),
            ConfigKind::DestinationRule => typed(spec, Self::DestinationRule),
            ConfigKind::Gateway => typed(spec, Self::Gateway),
            ConfigKind::Sidecar => typed(spec, Self::Sidecar),
            ConfigKind::EnvoyFilter => typed(spec, Self::EnvoyFilter),
            ConfigKind::ProxyConfig => typed(spec, Self::ProxyConfig),
            ConfigKind::Telemetry => typed(spec, Self::Telemetry),
        }
    }

    /// Encodes the specification as in a manifest.
    ///
    /// # Errors
    ///
    /// Only if the encoder fails; all values are texts, numbers, lists, and maps by text.
    pub fn written(&self) -> serde_json::Result<Value> {
        match self {
            Self::ServiceEntry(spec) => ser::message(spec),
            Self::WorkloadEntry(spec) => ser::message(spec),
            Self::WorkloadGroup(spec) => ser::message(spec),
            Self::VirtualService(spec) => ser::message(spec),
            Self::DestinationRule(spec) => ser::message(spec),
            Self::Gateway(spec) => ser::message(spec),
            Self::Sidecar(spec) => ser::message(spec),
            Self::EnvoyFilter(spec) => ser::message(spec),
            Self::ProxyConfig(spec) => ser::message(spec),
            Self::Telemetry(spec) => ser::message(spec),
        }
    }

    /// Returns the kind.
    pub const fn kind(&self) -> ConfigKind {
        match self {
            Self::ServiceEntry(_) => ConfigKind::ServiceEntry,
            Self::WorkloadEntry(_) => ConfigKind::WorkloadEntry,
            Self::WorkloadGroup(_) => ConfigKind::WorkloadGroup,
            Self::VirtualService(_) => ConfigKind::VirtualService,
            Self::DestinationRule(_) => ConfigKind::DestinationRule,
            Self::Gateway(_) => ConfigKind::Gateway,
            Self::Sidecar(_) => ConfigKind::Sidecar,
            Self::EnvoyFilter(_) => ConfigKind::EnvoyFilter,
            Self::ProxyConfig(_) => ConfigKind::ProxyConfig,
            Self::Telemetry(_) => ConfigKind::Telemetry,
        }
    }
}

//! The kinds of Istio's configuration: where in the API each lives.

use pilot_core::model::ConfigKind;

/// One kind.
#[derive(Debug)]
pub(crate) struct Schema {
    /// Which.
    pub(crate) kind: ConfigKind,
    /// API group.
    pub(crate) group: &'static str,
    /// The version that it is shown in; those that it may also be written in.
    pub(crate) version: &'static str,
    aliases: &'static [&'static str],
}

const NETWORKING: &str = "networking.istio.io";
/// Versions of what has become `v1`.
const OLDER: &[&str] = &["v1beta1", "v1alpha3"];

/// Every kind, as the CRDs have them.
pub(crate) static SCHEMAS: [Schema; 10] = [
    networking(ConfigKind::ServiceEntry),
    networking(ConfigKind::WorkloadEntry),
    networking(ConfigKind::WorkloadGroup),
    networking(ConfigKind::VirtualService),
    networking(ConfigKind::DestinationRule),
    networking(ConfigKind::Gateway),
    networking(ConfigKind::Sidecar),
    Schema { version: "v1alpha3", aliases: &[], ..networking(ConfigKind::EnvoyFilter) },
    Schema { version: "v1beta1", aliases: &[], ..networking(ConfigKind::ProxyConfig) },
    Schema { group: "telemetry.istio.io", aliases: &["v1alpha1"], ..networking(ConfigKind::Telemetry) },
];

const fn networking(kind: ConfigKind) -> Schema {
    Schema { kind, group: NETWORKING, version: "v1", aliases: OLDER }
}

// === impl Schema ===

impl Schema {
    /// The kind of this name in this group.
    pub(super) fn named(group: &str, kind: &str) -> Option<&'static Self> {
        SCHEMAS.iter().find(|schema| schema.group == group && schema.kind.as_str() == kind)
    }

    /// This kind, if it is one of configuration.
    pub(crate) fn of(kind: ConfigKind) -> Option<&'static Self> {
        SCHEMAS.iter().find(|schema| schema.kind == kind)
    }

    /// Whether objects may be written in this version.
    pub(super) fn has(&self, version: &str) -> bool {
        self.versions().any(|known| known == version)
    }

    /// All versions, the one that it is shown in first.
    pub(super) fn versions(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.version).chain(self.aliases.iter().copied())
    }
}

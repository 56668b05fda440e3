//! API group and versions of each kind of Istio configuration.

use pilot_core::model::ConfigKind;

/// Group and versions of a kind.
#[derive(Debug)]
pub(crate) struct Schema {
    /// Kind.
    pub(crate) kind: ConfigKind,
    /// API group.
    pub(crate) group: &'static str,
    /// Version of printed objects. Objects in `aliases` are accepted too.
    pub(crate) version: &'static str,
    aliases: &'static [&'static str],
}

const NETWORKING: &str = "networking.istio.io";
/// Versions before `v1`.
const OLDER: &[&str] = &["v1beta1", "v1alpha3"];

/// Every kind, as in Istio's CRDs.
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
    /// Returns the schema of a kind, by group and name.
    pub(super) fn named(group: &str, kind: &str) -> Option<&'static Self> {
        SCHEMAS.iter().find(|schema| schema.group == group && schema.kind.as_str() == kind)
    }

    /// Returns the schema of a kind.
    pub(crate) fn of(kind: ConfigKind) -> Option<&'static Self> {
        SCHEMAS.iter().find(|schema| schema.kind == kind)
    }

    /// Returns true if objects are accepted in this version.
    pub(super) fn has(&self, version: &str) -> bool {
        self.versions().any(|known| known == version)
    }

    /// Returns all versions, the printed one first.
    pub(super) fn versions(&self) -> impl Iterator<Item = &'static str> {
        std::iter::once(self.version).chain(self.aliases.iter().copied())
    }
}

//! The kinds of Istio's configuration: where in the API each lives.

use pilot_core::model::Kind;

/// One kind.
#[derive(Debug)]
pub(crate) struct Schema {
    /// Which.
    pub(crate) kind: Kind,
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
    networking(Kind::ServiceEntry),
    networking(Kind::WorkloadEntry),
    networking(Kind::WorkloadGroup),
    networking(Kind::VirtualService),
    networking(Kind::DestinationRule),
    networking(Kind::Gateway),
    networking(Kind::Sidecar),
    Schema { version: "v1alpha3", aliases: &[], ..networking(Kind::EnvoyFilter) },
    Schema { version: "v1beta1", aliases: &[], ..networking(Kind::ProxyConfig) },
    Schema { group: "telemetry.istio.io", aliases: &["v1alpha1"], ..networking(Kind::Telemetry) },
];

const fn networking(kind: Kind) -> Schema {
    Schema { kind, group: NETWORKING, version: "v1", aliases: OLDER }
}

// === impl Schema ===

impl Schema {
    /// The kind of this name in this group.
    pub(super) fn named(group: &str, kind: &str) -> Option<&'static Self> {
        SCHEMAS.iter().find(|schema| schema.group == group && schema.kind.as_str() == kind)
    }

    /// This kind, if it is one of configuration.
    pub(crate) fn of(kind: Kind) -> Option<&'static Self> {
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

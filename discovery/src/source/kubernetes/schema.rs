//! The kinds of Istio's configuration: where in the API each lives, and how its `spec` is read.

use pilot_core::api::read::{self, Read, Wrong};
use pilot_core::model::{ConfigSpec, Kind};
use serde::de::DeserializeOwned;
use serde_json::Value;

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
    read: fn(&Value) -> Result<Read<ConfigSpec>, Wrong>,
}

const NETWORKING: &str = "networking.istio.io";
/// Versions of what has become `v1`.
const OLDER: &[&str] = &["v1beta1", "v1alpha3"];

/// Every kind, as the CRDs have them.
pub(crate) static SCHEMAS: [Schema; 10] = [
    networking(Kind::ServiceEntry, |spec| typed(spec, ConfigSpec::ServiceEntry)),
    networking(Kind::WorkloadEntry, |spec| typed(spec, ConfigSpec::WorkloadEntry)),
    networking(Kind::WorkloadGroup, |spec| typed(spec, ConfigSpec::WorkloadGroup)),
    networking(Kind::VirtualService, |spec| typed(spec, ConfigSpec::VirtualService)),
    networking(Kind::DestinationRule, |spec| typed(spec, ConfigSpec::DestinationRule)),
    networking(Kind::Gateway, |spec| typed(spec, ConfigSpec::Gateway)),
    networking(Kind::Sidecar, |spec| typed(spec, ConfigSpec::Sidecar)),
    Schema {
        version: "v1alpha3",
        aliases: &[],
        ..networking(Kind::EnvoyFilter, |spec| typed(spec, ConfigSpec::EnvoyFilter))
    },
    Schema {
        version: "v1beta1",
        aliases: &[],
        ..networking(Kind::ProxyConfig, |spec| typed(spec, ConfigSpec::ProxyConfig))
    },
    Schema {
        group: "telemetry.istio.io",
        aliases: &["v1alpha1"],
        ..networking(Kind::Telemetry, |spec| typed(spec, ConfigSpec::Telemetry))
    },
];

const fn networking(kind: Kind, read: fn(&Value) -> Result<Read<ConfigSpec>, Wrong>) -> Schema {
    Schema { kind, group: NETWORKING, version: "v1", aliases: OLDER, read }
}

fn typed<T: DeserializeOwned>(
    spec: &Value,
    config: impl FnOnce(T) -> ConfigSpec,
) -> Result<Read<ConfigSpec>, Wrong> {
    let Read { value, unknown } = read::message("spec", spec)?;
    Ok(Read { value: config(value), unknown })
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

    /// Reads a `spec`.
    pub(super) fn read(&self, spec: &Value) -> Result<Read<ConfigSpec>, Wrong> {
        (self.read)(spec)
    }
}

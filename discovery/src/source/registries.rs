//! Registries that `--registries` can name, and the source that reads each.

use pilot_core::model::SourceId;

/// Registry that has a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum RegistryKind {
    /// Directory of manifests.
    File,
}

/// Registries of Istio that have no source yet.
const NOT_IMPLEMENTED: [&str; 3] = ["Kubernetes", "Consul", "Nacos"];

// === impl RegistryKind ===

impl RegistryKind {
    const ALL: [Self; 1] = [Self::File];

    /// Parses a name, in any case. Returns the reason if there is no source for it.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        if let Some(kind) = Self::ALL.into_iter().find(|kind| kind.as_str().eq_ignore_ascii_case(name)) {
            return Ok(kind);
        }
        let implemented = Self::ALL.map(Self::as_str).join(", ");
        match NOT_IMPLEMENTED.into_iter().find(|known| known.eq_ignore_ascii_case(name)) {
            Some(known) => {
                Err(format!("registry {known} is not implemented yet; implemented: {implemented}"))
            }
            None => Err(format!("unknown registry {name:?}; implemented: {implemented}")),
        }
    }

    /// Returns the name, in Istio's spelling.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::File => "File",
        }
    }

    /// Returns the id of the registry's source.
    pub(crate) fn source_id(self) -> SourceId {
        SourceId(self.as_str().into())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn registry_names_are_case_insensitive_and_missing_sources_are_an_error() {
        for name in ["File", "file", "FILE"] {
            assert_eq!(RegistryKind::parse(name), Ok(RegistryKind::File), "{name}");
        }
        for (name, reason) in [
            ("kubernetes", "registry Kubernetes is not implemented yet; implemented: File"),
            ("CONSUL", "registry Consul is not implemented yet; implemented: File"),
            ("Nacos", "registry Nacos is not implemented yet; implemented: File"),
            ("Zookeeper", "unknown registry \"Zookeeper\"; implemented: File"),
        ] {
            assert_eq!(RegistryKind::parse(name), Err(reason.to_owned()), "{name}");
        }
    }
}

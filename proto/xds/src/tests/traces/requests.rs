//! Requests in either variant, in as few words as a model has for them.

use super::*;

/// Fields of a request, before it is put into one variant or the other.
#[derive(Clone, Debug, Default)]
pub(super) struct RequestFields<'a> {
    pub(super) nonce: &'a str,
    /// All names in `SotW`, new ones in delta.
    pub(super) names: Vec<String>,
    pub(super) unsubscribe: Vec<String>,
    /// Versions that a delta client holds.
    pub(super) holds: BTreeMap<String, String>,
    pub(super) rejects: bool,
}

impl RequestFields<'_> {
    pub(super) fn sotw(self, type_url: &str) -> DiscoveryRequest {
        DiscoveryRequest {
            type_url: type_url.into(),
            response_nonce: self.nonce.into(),
            resource_names: self.names,
            error_detail: self.rejects.then(|| error("bad")),
            ..DiscoveryRequest::default()
        }
    }

    pub(super) fn delta(self, type_url: &str) -> DeltaDiscoveryRequest {
        DeltaDiscoveryRequest {
            type_url: type_url.into(),
            response_nonce: self.nonce.into(),
            resource_names_subscribe: self.names,
            resource_names_unsubscribe: self.unsubscribe,
            initial_resource_versions: self.holds,
            error_detail: self.rejects.then(|| error("bad")),
            ..DeltaDiscoveryRequest::default()
        }
    }
}

/// Returns the names with a set flag.
pub(super) fn spelt(flags: [bool; NAMES.len()]) -> Vec<String> {
    NAMES.iter().zip(flags).filter(|(_, set)| *set).map(|(name, _)| (*name).to_owned()).collect()
}

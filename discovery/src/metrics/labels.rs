//! Label sets, in Istio's spelling.

use prometheus_client::encoding::EncodeLabelSet;

/// One label, `type`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(crate) struct Type {
    /// `cds`, `eds`, ...
    pub(crate) r#type: String,
}

/// Labels of a rejected resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Reject {
    /// Node id of the proxy.
    pub(super) node: String,
    /// Code of the error detail.
    pub(super) err: String,
}

/// Labels of configuration that could not be used.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct RejectedConfig {
    /// Kind of the object.
    pub(super) r#type: String,
    /// `<namespace>/<name>`
    pub(super) name: String,
}

/// Of a proxy, or of ours.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Version {
    /// As it says itself.
    pub(super) version: String,
}

/// What `istio_build` tells.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Build {
    /// `pilot`
    pub(super) component: String,
    /// The version.
    pub(super) tag: String,
}

/// What happened to an object that a source reads.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SourceEvent {
    /// Kind of the object.
    pub(super) r#type: String,
    /// `add`, `update`, `delete`
    pub(super) event: String,
}

/// Labels of what a proxy rejected.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Quarantined {
    /// `cds`, `eds`, ...
    pub(super) r#type: String,
    /// The object it was made from, `<kind>/<namespace>/<name>`; of several the first, of none the resource.
    pub(super) object: String,
}

/// The label set `{type="..."}`.
pub(crate) fn by_type(kind: &str) -> Type {
    Type { r#type: kind.to_owned() }
}

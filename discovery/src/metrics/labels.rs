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

/// Label of a version.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Version {
    /// The version as its program reports it.
    pub(super) version: String,
}

/// Labels of `istio_build`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Build {
    /// `pilot`
    pub(super) component: String,
    /// The version.
    pub(super) tag: String,
}

/// Labels of an event of a source.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct SourceEvent {
    /// Kind of the object.
    pub(super) r#type: String,
    /// `add`, `update`, `delete`
    pub(super) event: String,
}

/// Labels of a rejected resource.
#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct Quarantined {
    /// `cds`, `eds`, ...
    pub(super) r#type: String,
    /// Object that it is made from, `<kind>/<namespace>/<name>`: the first of several, or the resource if there is none.
    pub(super) object: String,
}

/// Returns the label set `{type="..."}`.
pub(crate) fn by_type(kind: &str) -> Type {
    Type { r#type: kind.to_owned() }
}

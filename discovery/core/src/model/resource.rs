//! What travels to proxies: a named resource, encoded once and shared by every stream that needs it.

use std::sync::Arc;

use bytes::Bytes;

/// An xDS resource as streams carry it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Unique within its type.
    pub name: Arc<str>,
    /// Changes exactly when the content does.
    pub version: Arc<str>,
    /// The encoded `google.protobuf.Any`.
    pub body: Bytes,
}

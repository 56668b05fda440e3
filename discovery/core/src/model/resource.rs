//! One encoded resource, as every stream that needs it shares it.

use std::sync::Arc;

use bytes::Bytes;

/// A resource of xDS, encoded once.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Its name, unique within its type.
    pub name: Arc<str>,
    /// Hash of its content: equal versions are equal bytes.
    pub version: Arc<str>,
    /// An encoded `google.protobuf.Any`.
    pub body: Bytes,
}

//! Where services come from. A source translates what it watches into `SourceEvent`s and knows nothing of
//! who listens: no world, no push, no Envoy.

pub(crate) mod file;
pub(crate) mod kubernetes;

//! Limits on the content of one request. A violation ends the stream with a status that names the field.
//!
//! Nesting of metadata needs no rule here: prost rejects messages nested deeper than 100.

use pilot_proto::ResourceType;
use tonic::Status;

use super::request::Request;
use crate::config::Limits;
use crate::transport::{Crowded, TooMany};

/// Maximum bytes of the name of a resource, a type or a node.
const NAME: usize = 4 << 10;

/// Maximum bytes of a node's metadata. Istio's agent sends about 5 KiB, with all labels and annotations of a pod.
const METADATA: usize = 256 << 10;

/// Maximum bytes that are kept of an error detail. Envoy names every resource that it rejects.
const REASON: usize = 16 << 10;

/// Reason to refuse a stream or a request.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    /// Too many streams from one address.
    #[error(transparent)]
    Address(TooMany),
    /// Too many new streams in a second.
    #[error(transparent)]
    Crowded(Crowded),
    /// Too many requests on one stream; holds the rate per second.
    #[error("more than {0} requests in a second on one stream")]
    Flood(f64),
    /// Message too long.
    #[error("{0}")]
    Message(String),
    /// Too many names in one field.
    #[error("{field}: {count} names, {most} at most")]
    Names {
        /// Field of the request.
        field: &'static str,
        /// Number of names.
        count: usize,
        /// Maximum number of names.
        most: usize,
    },
    /// Name too long.
    #[error("{field}: a name of {length} bytes, {NAME} at most")]
    Name {
        /// Field of the request.
        field: &'static str,
        /// Length of the name in bytes.
        length: usize,
    },
    /// Metadata too long; holds the size in bytes.
    #[error("node.metadata: {0} bytes, {METADATA} at most")]
    Metadata(usize),
    /// Another type on a stream of one type.
    #[error("type_url: {got:?} on a stream of {only}")]
    Type {
        /// Requested type.
        got: String,
        /// Type of the stream.
        only: &'static str,
    },
}

// === impl Refusal ===

impl Refusal {
    /// Returns the label of the metric.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Address(_) => "streams_per_address",
            Self::Crowded(_) => "streams_per_second",
            Self::Flood(_) => "requests_per_second",
            Self::Message(_) => "message_size",
            Self::Names { .. } => "names",
            Self::Name { .. } => "name_length",
            Self::Metadata(_) => "node_metadata",
            Self::Type { .. } => "type_url",
        }
    }
}

impl From<Refusal> for Status {
    fn from(refusal: Refusal) -> Self {
        let text = refusal.to_string();
        match refusal {
            Refusal::Address(_) | Refusal::Crowded(_) | Refusal::Flood(_) | Refusal::Message(_) => {
                Self::resource_exhausted(text)
            }
            Refusal::Names { .. } | Refusal::Name { .. } | Refusal::Metadata(_) | Refusal::Type { .. } => {
                Self::invalid_argument(text)
            }
        }
    }
}

// === impl Request ===

impl Request {
    /// Checks the limits, and truncates an error detail that is too long.
    pub(super) fn check(&mut self, limits: &Limits) -> Result<(), Refusal> {
        let most = limits.names;
        let (node, type_url, error) = match self {
            Self::Sotw(request) => {
                names("resource_names", most, request.resource_names.iter())?;
                (&request.node, &request.type_url, &mut request.error_detail)
            }
            Self::Delta(request) => {
                names("resource_names_subscribe", most, request.resource_names_subscribe.iter())?;
                names("resource_names_unsubscribe", most, request.resource_names_unsubscribe.iter())?;
                names("initial_resource_versions", most, request.initial_resource_versions.keys())?;
                (&request.node, &request.type_url, &mut request.error_detail)
            }
        };
        name("type_url", type_url)?;
        if let Some(node) = node {
            name("node.id", &node.id)?;
            let length = node.metadata.as_ref().map_or(0, prost::Message::encoded_len);
            if length > METADATA {
                return Err(Refusal::Metadata(length));
            }
        }
        if let Some(error) = error {
            error.message.truncate(error.message.floor_char_boundary(REASON));
            error.details.clear();
        }
        Ok(())
    }

    /// Checks the type on a stream of one type: its URL may be left out, and no other is allowed.
    /// <https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/discovery/v3/discovery.proto>
    pub(super) fn restrict(&mut self, only: ResourceType) -> Result<(), Refusal> {
        let type_url = match self {
            Self::Sotw(request) => &mut request.type_url,
            Self::Delta(request) => &mut request.type_url,
        };
        if type_url.is_empty() {
            only.type_url().clone_into(type_url);
        }
        if type_url == only.type_url() {
            Ok(())
        } else {
            Err(Refusal::Type { got: type_url.clone(), only: only.type_url() })
        }
    }
}

fn names<'a>(
    field: &'static str,
    most: usize,
    mut names: impl ExactSizeIterator<Item = &'a String>,
) -> Result<(), Refusal> {
    let count = names.len();
    if count > most {
        return Err(Refusal::Names { field, count, most });
    }
    names.try_for_each(|text| name(field, text))
}

fn name(field: &'static str, text: &str) -> Result<(), Refusal> {
    match text.len() {
        length if length > NAME => Err(Refusal::Name { field, length }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests;

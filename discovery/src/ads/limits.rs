//! How much one request may hold. What is too much ends the stream with a status that names the field.
//!
//! How deep metadata may nest needs no rule here: prost refuses messages within more than 100 others.

use pilot_proto::ResourceType;
use tonic::Status;

use super::request::Request;
use crate::config::Limits;
use crate::transport::{Crowded, TooMany};

/// Bytes of a name: of a resource, a type or a node.
const NAME: usize = 4 << 10;

/// Bytes of a node's metadata. Istio's agent sends some 5 KiB, with every label and annotation of a pod.
const METADATA: usize = 256 << 10;

/// Bytes that are kept of a proxy's reason to reject. Envoy names every resource that it cannot use.
const REASON: usize = 16 << 10;

/// Why a stream or a request is refused.
#[derive(Debug, PartialEq, thiserror::Error)]
pub(super) enum Refusal {
    /// Streams of one address.
    #[error(transparent)]
    Address(TooMany),
    /// Streams opened in a second.
    #[error(transparent)]
    Crowded(Crowded),
    /// Requests of one stream in a second.
    #[error("more than {0} requests in a second on one stream")]
    Flood(f64),
    /// Bytes of a request.
    #[error("{0}")]
    Message(String),
    /// Names in one field.
    #[error("{field}: {count} names, {most} at most")]
    Names {
        /// Of the request.
        field: &'static str,
        /// How many it has.
        count: usize,
        /// How many it may have.
        most: usize,
    },
    /// Bytes of one name.
    #[error("{field}: a name of {length} bytes, {NAME} at most")]
    Name {
        /// Of the request.
        field: &'static str,
        /// Bytes of the name.
        length: usize,
    },
    /// Bytes of the metadata.
    #[error("node.metadata: {0} bytes, {METADATA} at most")]
    Metadata(usize),
    /// Another type on a stream of one.
    #[error("type_url: {got:?} on a stream of {only}")]
    Type {
        /// What was asked for.
        got: String,
        /// What may be asked for.
        only: &'static str,
    },
}

// === impl Refusal ===

impl Refusal {
    /// As the metric spells it.
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
    /// Refuses what is too much, and cuts a reason that is too long: it is for people.
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

    /// On a stream of one type its URL may be left out; no other may be there.
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

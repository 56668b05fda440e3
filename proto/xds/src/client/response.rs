//! Resources of a response, with their names and versions.

use std::collections::BTreeSet;
use std::sync::Arc;

use bytes::Bytes;
use pilot_proto::ResourceType;
use pilot_proto::envoy::service::discovery::v3 as discovery;
use pilot_proto::google::protobuf::Any;
use prost::Message;

use super::super::resource::Resource;

/// Reason why a response cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ResponseError {
    /// The type is unknown or was never subscribed.
    #[error("response of type {type_url:?}, which is not subscribed")]
    UnexpectedType {
        /// Type URL of the response.
        type_url: String,
    },
    /// A resource is of another type than its response.
    #[error("{kind}: resource {name:?} is of type {type_url:?}")]
    WrongType {
        /// Type of the response.
        kind: ResourceType,
        /// Name of the resource; empty if it is not known.
        name: String,
        /// Type URL of the resource.
        type_url: String,
    },
    /// A resource has no name or no content, or is not a message.
    #[error("{kind}: resource {name:?}: {problem}")]
    Resource {
        /// Type of the response.
        kind: ResourceType,
        /// Name of the resource; empty if it has none.
        name: String,
        /// The violation.
        problem: String,
    },
    /// A name occurs twice among resources and removals.
    #[error("{kind}: resource {name:?} occurs twice")]
    Duplicate {
        /// Type of the response.
        kind: ResourceType,
        /// The name.
        name: String,
    },
}

/// First field of all resource types of xDS: `name`, or `cluster_name` of a `ClusterLoadAssignment`.
#[derive(Clone, PartialEq, Message)]
struct Named {
    #[prost(string, tag = "1")]
    name: String,
}

/// Wrapper of a resource in state of the world, which some servers send: `type.googleapis.com/envoy.service.discovery.v3.Resource`.
const WRAPPER: &str = "type.googleapis.com/envoy.service.discovery.v3.Resource";

/// Reads the resources of a response in state of the world; each has the version of the response.
pub(super) fn read_sotw(
    kind: ResourceType,
    version: &str,
    resources: &[Any],
) -> Result<Vec<Resource>, ResponseError> {
    let version: Arc<str> = version.into();
    let read = resources.iter().map(|any| {
        if any.type_url == WRAPPER {
            let wrapper = discovery::Resource::decode(any.value.clone());
            return wrapped(kind, &wrapper.map_err(|error| invalid(kind, "", error.to_string()))?);
        }
        Ok(Resource::new(name_of(kind, any)?.into(), version.clone(), encoded(any)))
    });
    let read: Vec<Resource> = read.collect::<Result<_, _>>()?;
    unique(kind, read.iter().map(|resource| &*resource.name))?;
    Ok(read)
}

/// Reads the resources of an incremental response.
pub(super) fn read_delta(
    kind: ResourceType,
    resources: &[discovery::Resource],
    removed: &[String],
) -> Result<Vec<Resource>, ResponseError> {
    let read: Vec<Resource> =
        resources.iter().map(|resource| wrapped(kind, resource)).collect::<Result<_, _>>()?;
    unique(kind, read.iter().map(|resource| &*resource.name).chain(removed.iter().map(String::as_str)))?;
    Ok(read)
}

fn wrapped(kind: ResourceType, resource: &discovery::Resource) -> Result<Resource, ResponseError> {
    let name = &resource.name;
    let Some(any) = &resource.resource else { return Err(invalid(kind, name, "has no content")) };
    if name.is_empty() {
        return Err(invalid(kind, name, "has no name"));
    }
    check_type(kind, name, any)?;
    Ok(Resource::new(name.as_str().into(), resource.version.as_str().into(), encoded(any)))
}

/// Returns the name that a resource has in its content.
fn name_of(kind: ResourceType, any: &Any) -> Result<String, ResponseError> {
    check_type(kind, "", any)?;
    let named = Named::decode(any.value.clone()).map_err(|error| invalid(kind, "", error.to_string()))?;
    if named.name.is_empty() {
        return Err(invalid(kind, "", "has no name"));
    }
    Ok(named.name)
}

fn check_type(kind: ResourceType, name: &str, any: &Any) -> Result<(), ResponseError> {
    if any.type_url == kind.type_url() {
        return Ok(());
    }
    let (name, type_url) = (name.to_owned(), any.type_url.clone());
    Err(ResponseError::WrongType { kind, name, type_url })
}

fn unique<'a>(kind: ResourceType, names: impl Iterator<Item = &'a str>) -> Result<(), ResponseError> {
    let mut seen = BTreeSet::new();
    match { names }.find(|name| !seen.insert(*name)) {
        Some(name) => Err(ResponseError::Duplicate { kind, name: name.to_owned() }),
        None => Ok(()),
    }
}

fn invalid(kind: ResourceType, name: &str, problem: impl Into<String>) -> ResponseError {
    ResponseError::Resource { kind, name: name.to_owned(), problem: problem.into() }
}

fn encoded(any: &Any) -> Bytes {
    any.encode_to_vec().into()
}

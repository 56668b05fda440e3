//! Name, version and references of a resource. Clusters are parsed field by field, because a storm has a million of them;
//! listeners are decoded once for all clients that receive the same bytes.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::rc::Rc;

use anyhow::{Context, Result};
use pilot_proto::envoy::config::listener::v3::{Filter, Listener, filter::ConfigType};
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, http_connection_manager::RouteSpecifier,
};
use prost::Message;

use super::orders::{Codec, Kind};
use super::scan::{Value, fields};
use super::state::FleetState;

/// `Cluster.type` of a cluster with endpoints from EDS.
const EDS: u64 = 3;

/// One resource.
#[derive(Clone, Debug)]
pub(super) struct Resource {
    /// Number of its name.
    pub(super) name: u32,
    /// Number of its version in delta, a hash of its bytes in `SotW`.
    pub(super) version: u64,
    /// Endpoints of a cluster, routes of a listener.
    pub(super) refers: Rc<[u32]>,
}

/// Parses one resource of a response.
pub(super) fn resource(fleet: &FleetState, bytes: &[u8]) -> Result<Resource> {
    let (name, version, any) = match fleet.codec {
        Codec::Sotw => (None, None, bytes),
        Codec::Delta => {
            let (mut name, mut version, mut any): (_, _, &[u8]) = (None, None, &[]);
            for field in fields(bytes) {
                match field {
                    (1, Value::Bytes(value)) => version = Some(value),
                    (2, Value::Bytes(value)) => any = value,
                    (3, Value::Bytes(value)) => name = Some(value),
                    _ => {}
                }
            }
            (name, Some(version.unwrap_or_default()), any)
        }
    };
    let (mut type_url, mut body): (&[u8], &[u8]) = (&[], &[]);
    for field in fields(any) {
        match field {
            (1, Value::Bytes(value)) => type_url = value,
            (2, Value::Bytes(value)) => body = value,
            _ => {}
        }
    }
    let kind = Kind::ALL.into_iter().find(|kind| kind.resource_type().type_url().as_bytes() == type_url);
    // Every requested type has its name in field 1.
    let own =
        || fields(body).find_map(|field| if let (1, Value::Bytes(name)) = field { Some(name) } else { None });
    let name = name.or_else(own).context("it has no name")?;
    let name = fleet.names.borrow_mut().number(std::str::from_utf8(name).context("its name is no text")?);
    let refers = match kind {
        Some(Kind::Cds) if fleet.kinds.contains(&Kind::Eds) => endpoints(fleet, name, body)?,
        Some(Kind::Lds) if fleet.kinds.contains(&Kind::Rds) => routes(fleet, body)?,
        _ => Rc::from([]),
    };
    let version = match version {
        Some(version) => fleet.names.borrow_mut().number(&String::from_utf8_lossy(version)).into(),
        None => hash(body),
    };
    Ok(Resource { name, version, refers })
}

/// Returns the EDS service name of a cluster, or nothing if its endpoints do not come from EDS.
fn endpoints(fleet: &FleetState, name: u32, cluster: &[u8]) -> Result<Rc<[u32]>> {
    let (mut by, mut service) = (0, None);
    for field in fields(cluster) {
        match field {
            (2, Value::Number(value)) => by = value,
            (3, Value::Bytes(config)) => {
                service = fields(config).find_map(|field| match field {
                    (2, Value::Bytes(name)) if !name.is_empty() => Some(name),
                    _ => None,
                });
            }
            _ => {}
        }
    }
    if by != EDS {
        return Ok(Rc::from([]));
    }
    let Some(service) = service else { return Ok(Rc::from([name])) };
    let service = std::str::from_utf8(service).context("its service is no text")?;
    Ok(Rc::from([fleet.names.borrow_mut().number(service)]))
}

/// Returns the names of the route configurations that a listener requests by RDS.
fn routes(fleet: &FleetState, listener: &[u8]) -> Result<Rc<[u32]>> {
    let key = hash(listener);
    if let Some(routes) = fleet.routes.borrow().get(&key) {
        return Ok(routes.clone());
    }
    let listener = Listener::decode(listener).context("decode a listener")?;
    let chains = listener.filter_chains.iter().chain(&listener.default_filter_chain);
    let mut found: Vec<u32> = Vec::new();
    for filter in chains.flat_map(|chain| &chain.filters) {
        if let Some(route) = route_of(filter)? {
            found.push(fleet.names.borrow_mut().number(&route));
        }
    }
    found.sort_unstable();
    found.dedup();
    let found: Rc<[u32]> = found.into();
    fleet.routes.borrow_mut().insert(key, found.clone());
    Ok(found)
}

fn route_of(filter: &Filter) -> Result<Option<String>> {
    let Some(ConfigType::TypedConfig(any)) = &filter.config_type else { return Ok(None) };
    if !any.type_url.ends_with(".HttpConnectionManager") {
        return Ok(None);
    }
    let manager = HttpConnectionManager::decode(any.value.clone()).context("decode a connection manager")?;
    match manager.route_specifier {
        Some(RouteSpecifier::Rds(rds)) => Ok(Some(rds.route_config_name)),
        _ => Ok(None),
    }
}

fn hash(bytes: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    hasher.finish()
}

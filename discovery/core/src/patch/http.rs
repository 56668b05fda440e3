//! Patches inside an HTTP connection manager: HTTP filters and inline routes.

use std::sync::Arc;

use pilot_proto::envoy::config::listener::v3::{Filter, Listener};
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::{
    HttpConnectionManager, HttpFilter, http_connection_manager::RouteSpecifier,
};
use prost::{Message as _, Name as _};

use super::filter::edit_filters;
use super::outcome::Outcomes;
use super::route::{GatewayPorts, route_configuration};
use super::set::RoutePatches;
use super::value::Configured as _;
use super::{Context, Patch, filter_name, of_kind, within};
use crate::api::envoy_filter::ApplyTo;

/// Applies patches of a chain to the HTTP filters of its connection manager: first those that change the list, then those that
/// change single filters. A manager without patches is not decoded.
pub(super) fn http_filters(patches: &[&Arc<Patch>], filter: &mut Filter, outcomes: &mut Outcomes) {
    let own: Vec<&Arc<Patch>> =
        of_kind(patches, ApplyTo::HttpFilter).filter(|patch| patch.is_about_filter(&filter.name)).collect();
    if own.is_empty() {
        return;
    }
    let mut manager = match decode(filter) {
        Ok(manager) => manager,
        Err(reason) => return outcomes.fail(&own, &reason),
    };
    let before = manager.http_filters.clone();
    edit_filters(&own, &mut manager.http_filters, Patch::http_filter, outcomes);
    for filter in &mut manager.http_filters {
        for patch in own.iter().filter(|patch| patch.merges()) {
            if patch.is_about_http_filter(filter) {
                outcomes.note(patch, patch.merge_into_filter(filter));
            }
        }
    }
    if manager.http_filters != before {
        encode(filter, &manager);
    }
}

/// Applies patches to the inline route configurations of an inbound listener. To be called before the listener is patched: Istio
/// patches routes before it puts them there.
pub fn inline_routes(
    patches: &RoutePatches,
    context: Context,
    mut listener: Listener,
    outcomes: &mut Outcomes,
) -> Listener {
    if within(patches.iter(), context).is_empty() {
        return listener;
    }
    let chains = listener.filter_chains.iter_mut().chain(listener.default_filter_chain.as_mut());
    for filter in chains.flat_map(|chain| &mut chain.filters) {
        if filter.name != filter_name::CONNECTION_MANAGER {
            continue;
        }
        let Ok(mut manager) = decode(filter) else { continue };
        let Some(RouteSpecifier::RouteConfig(routes)) = manager.route_specifier.take() else { continue };
        let changed = route_configuration(patches, (context, &GatewayPorts::new()), routes.clone(), outcomes);
        if changed != routes {
            manager.route_specifier = Some(RouteSpecifier::RouteConfig(changed));
            encode(filter, &manager);
        }
    }
    listener
}

fn decode(filter: &mut Filter) -> Result<HttpConnectionManager, String> {
    let Some(config) = filter.config_mut().filter(|any| any.type_url == HttpConnectionManager::type_url())
    else {
        return Err(format!("the filter {} holds no HttpConnectionManager", filter.name));
    };
    HttpConnectionManager::decode(config.value.clone())
        .map_err(|error| format!("decode HttpConnectionManager: {error}"))
}

fn encode(filter: &mut Filter, manager: &HttpConnectionManager) {
    if let Some(config) = filter.config_mut() {
        *config = pilot_proto::any(manager);
    }
}

// === impl Patch ===

impl Patch {
    /// Returns the condition on HTTP filters; `None`: any filter.
    fn http_filter(&self) -> Option<&str> {
        Some(&self.filter()?.sub_filter.as_ref()?.name)
    }

    fn is_about_http_filter(&self, filter: &HttpFilter) -> bool {
        self.http_filter().is_none_or(|name| name == filter.name)
    }
}

//! Patches of listeners, listener filters and filter chains.

use std::mem;
use std::sync::Arc;

use pilot_proto::envoy::config::core::v3::{address, socket_address};
use pilot_proto::envoy::config::listener::v3::{FilterChain, FilterChainMatch, Listener, ListenerFilter};

use super::edit::edit;
use super::filter::network_filters;
use super::outcome::{Outcomes, Verdict};
use super::set::ListenerPatches;
use super::value::Merge;
use super::{Context, Patch, of_kind, within};
use crate::api::envoy_filter::{ApplyTo, PatchOperation};

/// Properties that filter chains are matched by, besides their own.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    name: &'a str,
    /// Port of the address; `None` if it has none.
    port: Option<u32>,
}

/// Applies patches to a listener; returns `None` if one removes it. A listener without patches is not decoded.
pub fn listener(
    patches: &ListenerPatches,
    context: Context,
    mut listener: Listener,
    outcomes: &mut Outcomes,
) -> Option<Listener> {
    let patches = within(patches.iter(), context);
    for patch in of_kind(&patches, ApplyTo::Listener) {
        if !Place::of(&listener).fits(patch) {
            continue;
        }
        if patch.operation == PatchOperation::Remove {
            outcomes.note(patch, Verdict::Applied);
            return None;
        }
        outcomes.note(patch, patch.merge_into(&mut listener));
    }
    let mut listener_filters = mem::take(&mut listener.listener_filters);
    let mut chains = mem::take(&mut listener.filter_chains);
    let default_chain = listener.default_filter_chain.take();

    let place = Place::of(&listener);
    let patches: Vec<&Arc<Patch>> = patches.into_iter().filter(|patch| place.fits(patch)).collect();
    self::listener_filters(&patches, &mut listener_filters, outcomes);
    chains = chains.into_iter().filter_map(|chain| filter_chain(&patches, place, chain, outcomes)).collect();
    let default_chain = default_chain.and_then(|chain| filter_chain(&patches, place, chain, outcomes));
    for patch in of_kind(&patches, ApplyTo::FilterChain) {
        outcomes.note(patch, edit_added(patch, &mut chains));
    }
    listener.listener_filters = listener_filters;
    listener.filter_chains = chains;
    listener.default_filter_chain = default_chain;
    Some(listener)
}

/// Returns the listeners that patches add in a context. Other patches do not apply to them.
pub fn added_listeners(
    patches: &ListenerPatches,
    context: Context,
    outcomes: &mut Outcomes,
) -> Vec<Listener> {
    let patches = within(patches.iter(), context);
    let adding = of_kind(&patches, ApplyTo::Listener).filter(|patch| patch.adds_in(context));
    adding
        .inspect(|patch| outcomes.note(patch, Verdict::Applied))
        .filter_map(|patch| patch.brings())
        .cloned()
        .collect()
}

fn listener_filters(patches: &[&Arc<Patch>], filters: &mut Vec<ListenerFilter>, outcomes: &mut Outcomes) {
    for patch in of_kind(patches, ApplyTo::ListenerFilter) {
        let wanted = patch.listener.as_ref().map(|listener| &listener.listener_filter);
        let wanted = wanted.filter(|name| !name.is_empty());
        let anchor = wanted.map(|name| move |filter: &ListenerFilter| filter.name == *name);
        if !patch.merges() {
            outcomes.note(patch, edit(filters, patch, anchor));
            continue;
        }
        let Some(is_wanted) = anchor else { continue };
        for filter in filters.iter_mut().filter(|filter| is_wanted(filter)) {
            outcomes.note(patch, patch.merge_into_filter(filter));
        }
    }
}

/// Applies patches to a chain and its filters; returns `None` if one removes it.
fn filter_chain(
    patches: &[&Arc<Patch>],
    place: Place<'_>,
    mut chain: FilterChain,
    outcomes: &mut Outcomes,
) -> Option<FilterChain> {
    for patch in of_kind(patches, ApplyTo::FilterChain) {
        if patch.operation == PatchOperation::Add || !place.fits_chain(patch, &chain) {
            continue;
        }
        if patch.operation == PatchOperation::Remove {
            outcomes.note(patch, Verdict::Applied);
            return None;
        }
        outcomes.note(patch, merge(patch, &mut chain));
    }
    let patches: Vec<&Arc<Patch>> =
        patches.iter().copied().filter(|patch| place.fits_chain(patch, &chain)).collect();
    network_filters(&patches, &mut chain.filters, outcomes);
    Some(chain)
}

fn edit_added(patch: &Patch, chains: &mut Vec<FilterChain>) -> Verdict {
    match patch.operation {
        PatchOperation::Add => edit(chains, patch, None::<fn(&FilterChain) -> bool>),
        _ => Verdict::NotMatched,
    }
}

/// Merges a patch into a chain. A transport socket is merged into the chain's socket of the same name, or replaces any other.
///
/// If a patch has a transport socket of the same name, Istio ignores its other fields; here they are merged too.
fn merge(patch: &Patch, chain: &mut FilterChain) -> Verdict {
    let socket = patch.brings::<FilterChain>().and_then(|value| value.transport_socket.as_ref());
    patch.merge_with(chain, |merge: &Merge, chain: &mut FilterChain| {
        match (&mut chain.transport_socket, socket) {
            (_, None) => Ok(()),
            (Some(own), Some(socket)) if own.name == socket.name => merge.configure(own),
            (other, Some(socket)) => {
                *other = Some(socket.clone());
                Ok(())
            }
        }
    })
}

// === impl Place ===

impl<'a> Place<'a> {
    pub(super) fn of(listener: &'a Listener) -> Self {
        let address = listener.address.as_ref().and_then(|address| address.address.as_ref());
        let port = match address {
            Some(address::Address::SocketAddress(socket)) => match socket.port_specifier {
                Some(socket_address::PortSpecifier::PortValue(port)) => Some(port),
                _ => Some(0),
            },
            _ => None,
        };
        Self { name: &listener.name, port }
    }

    /// Returns `true` if a patch applies to this listener or to a part of it.
    fn fits(self, patch: &Patch) -> bool {
        let Some(wanted) = &patch.listener else { return true };
        let named = wanted.name.is_empty() || wanted.name == self.name;
        // Virtual listeners are matched by the ports of their chains.
        let by_chain = patch.apply_to != ApplyTo::Listener && self.is_virtual();
        named && (by_chain || wanted.port_number == 0 || self.port == Some(wanted.port_number))
    }

    /// Returns `true` if a patch that matches the listener applies to this chain or to a part of it.
    fn fits_chain(self, patch: &Patch, chain: &FilterChain) -> bool {
        let Some(listener) = &patch.listener else { return true };
        let none = FilterChainMatch::default();
        let matched = chain.filter_chain_match.as_ref().unwrap_or(&none);
        let port = matched.destination_port.as_ref().map(|port| port.value);
        let on_port = |wanted: u32| wanted == 0 || port == Some(wanted);
        if self.is_virtual() && !on_port(listener.port_number) {
            return false;
        }
        let Some(wanted) = &listener.filter_chain else { return true };
        let among = |list: &[String], wanted: &str| list.iter().any(|item| item == wanted);
        (wanted.name.is_empty() || wanted.name == chain.name)
            && (wanted.sni.is_empty() || among(&matched.server_names, &wanted.sni))
            && (wanted.transport_protocol.is_empty()
                || wanted.transport_protocol == matched.transport_protocol)
            && (wanted.transport_socket.is_empty()
                || chain.transport_socket.as_ref().is_some_and(|own| own.name == wanted.transport_socket))
            && (wanted.application_protocols.is_empty()
                || wanted
                    .application_protocols
                    .split(',')
                    .all(|one| among(&matched.application_protocols, one)))
            && on_port(wanted.destination_port)
    }

    fn is_virtual(self) -> bool {
        matches!(self.name, "virtualInbound" | "virtualOutbound")
    }
}

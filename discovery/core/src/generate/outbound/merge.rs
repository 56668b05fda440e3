//! Merging of services with the same bind address and port into one listener.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::bind::{ProtocolMode, ServiceBind, Sharing};
use super::http_chain::{http_chain, passthrough_chain};
use super::tcp_chains::tcp_chains;
use super::{ListenerPort, ListenerSettings, PlanInputs, PlannedListener};
use crate::generate::listener::{
    BindAddress, ChainMatch, FilterChainInputs, ListenerInputs, ListenerRole, TerminalFilter,
};
use crate::generate::{RejectReason, Rejected};
use crate::model::{Hostname, Protocol};
use crate::scope::Visible;

/// Listeners under construction, by port and bind address.
pub(super) struct ListenerMerger<'a> {
    inputs: &'a PlanInputs,
    entries: BTreeMap<(u16, BindAddress), MergedListener>,
    rejected: Vec<Rejected>,
}

/// Listener under construction.
struct MergedListener {
    protocol: MergedProtocol,
    chains: Vec<(FilterChainInputs, Hostname)>,
    endpoint_address: Option<IpAddr>,
    bound: bool,
    /// The listener is complete: an egress listener with a port defines it.
    locked: bool,
}

/// Protocols of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MergedProtocol {
    /// One protocol without detection.
    Tcp(Protocol),
    /// HTTP is detected.
    Sniffed,
}

// === impl ListenerMerger ===

impl<'a> ListenerMerger<'a> {
    pub(super) const fn new(inputs: &'a PlanInputs) -> Self {
        Self { inputs, entries: BTreeMap::new(), rejected: Vec::new() }
    }

    pub(super) const fn settings(&self) -> &'a ListenerSettings {
        &self.inputs.settings
    }

    /// Completes all listeners: services added later do not change them.
    pub(super) fn lock(&mut self) {
        for entry in self.entries.values_mut() {
            entry.locked = true;
        }
    }

    pub(super) fn add(
        &mut self,
        visible: &Visible,
        listener_port: &ListenerPort<'_>,
        protocol_mode: ProtocolMode,
        service_bind: &ServiceBind,
    ) {
        let host = &visible.service.hostname;
        let key = (listener_port.number, service_bind.bind.clone());
        if self.entries.get(&key).is_some_and(|entry| entry.locked) {
            return;
        }
        let mut chains = Vec::new();
        if protocol_mode != ProtocolMode::Http {
            chains.extend(tcp_chains(self.inputs, visible, listener_port, service_bind));
        }
        if protocol_mode != ProtocolMode::Tcp {
            chains.push(http_chain(visible, listener_port, service_bind));
        }
        let Some(entry) = self.entries.get_mut(&key) else {
            let endpoint_address = match (service_bind.sharing, &service_bind.bind) {
                (Sharing::Endpoint, BindAddress::Ip(ip)) => Some(*ip),
                _ => None,
            };
            let protocol = if protocol_mode == ProtocolMode::Tcp {
                MergedProtocol::Tcp(listener_port.protocol)
            } else {
                MergedProtocol::Sniffed
            };
            let mut entry = MergedListener {
                protocol,
                chains: Vec::new(),
                endpoint_address,
                bound: listener_port.bound,
                locked: false,
            };
            // Among the chains of one service the first takes precedence; this is not a conflict.
            for chain in chains {
                drop(entry.push(chain, host));
            }
            self.entries.insert(key, entry);
            return;
        };
        let existing = entry.chains.first().map_or_else(|| host.clone(), |(_, owner)| owner.clone());
        if entry.conflicts(listener_port.protocol) {
            self.reject(service_bind, visible, listener_port, RejectReason::ServerFirst { existing });
            return;
        }
        if entry.protocol == MergedProtocol::Sniffed && protocol_mode != ProtocolMode::Tcp {
            chains.retain(|chain| !entry.merge_http(chain));
        } else if protocol_mode != ProtocolMode::Tcp {
            entry.protocol = MergedProtocol::Sniffed;
        }
        let conflicts: Vec<RejectReason> =
            chains.into_iter().filter_map(|chain| entry.push(chain, host)).collect();
        for reason in conflicts {
            self.reject(service_bind, visible, listener_port, reason);
        }
    }

    pub(super) fn reject(
        &mut self,
        service_bind: &ServiceBind,
        visible: &Visible,
        listener_port: &ListenerPort<'_>,
        reason: RejectReason,
    ) {
        self.rejected.push(Rejected {
            subject: service_bind.bind.listener_name(listener_port.number),
            service: visible.service.hostname.clone(),
            reason,
        });
    }

    pub(super) fn finish(self) -> (Vec<PlannedListener>, Vec<Rejected>) {
        let settings = self.settings();
        let listeners = self.entries.into_iter().map(|((port, bind), entry)| {
            let mut chains: Vec<FilterChainInputs> =
                entry.chains.into_iter().map(|(chain, _)| chain).collect();
            let role = if entry.bound { ListenerRole::Bound } else { ListenerRole::Outbound };
            if let (
                ListenerRole::Bound,
                [FilterChainInputs { matches, terminal_filter: TerminalFilter::Http(_), .. }],
            ) = (role, chains.as_mut_slice())
            {
                // An HTTP-only listener needs no detection: another protocol has no destination.
                *matches = ChainMatch::default();
            }
            if !chains.iter().any(|chain| chain.matches == ChainMatch::default()) {
                chains.push(passthrough_chain(settings));
            }
            let inputs = Arc::new(ListenerInputs {
                name: bind.listener_name(port),
                additional_addresses: bind.additional_addresses(settings.families),
                bind,
                port,
                role,
                chains,
                detection_timeout: settings.detection_timeout,
                filters: settings.filters.clone(),
            });
            PlannedListener { inputs, endpoint_address: entry.endpoint_address }
        });
        (listeners.collect(), self.rejected)
    }
}

// === impl MergedListener ===

impl MergedListener {
    /// Returns true if a server-first protocol would share the port with another protocol: client and server would wait for
    /// each other during detection, or the connection would be handled as the other protocol.
    fn conflicts(&self, incoming: Protocol) -> bool {
        let first = |protocol| matches!(protocol, Protocol::Mongo | Protocol::MySql);
        match self.protocol {
            MergedProtocol::Tcp(existing) => (first(existing) || first(incoming)) && existing != incoming,
            MergedProtocol::Sniffed => first(incoming),
        }
    }

    /// Adds a chain for the connections that no other chain matches. Envoy rejects a listener with equal chain matches.
    fn push(&mut self, mut chain: FilterChainInputs, owner: &Hostname) -> Option<RejectReason> {
        let mut conflict = None;
        for (other, existing) in &self.chains {
            let rest = chain.matches.subtract(&other.matches);
            if rest.as_ref() != Some(&chain.matches) && existing != owner {
                conflict = Some(RejectReason::SameMatch { existing: existing.clone() });
            }
            let Some(rest) = rest else { return conflict };
            chain.matches = rest;
        }
        self.chains.push((chain, owner.clone()));
        conflict
    }

    /// Returns true if `chain` and an existing chain are HTTP. The existing chain takes over gRPC-Web.
    fn merge_http(&mut self, chain: &FilterChainInputs) -> bool {
        let TerminalFilter::Http(new) = &chain.terminal_filter else { return false };
        for (existing, _) in &mut self.chains {
            if let TerminalFilter::Http(old) = &mut existing.terminal_filter {
                if new.protocol == Protocol::GrpcWeb {
                    old.protocol = Protocol::GrpcWeb;
                }
                return true;
            }
        }
        false
    }
}

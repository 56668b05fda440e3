//! Services that meet at one place: one listener, as far as something in a connection tells them apart.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::bind::{ServiceBind, Sharing};
use super::http_chain::{ProtocolMode, fallback, http_chain};
use super::tcp_chains::chains;
use super::{ListenerPort, ListenerSettings, PlanInputs, PlannedListener};
use crate::generate::listener::{
    BindAddress, ChainMatch, FilterChainInputs, ListenerInputs, ListenerRole, TerminalFilter,
};
use crate::generate::{RejectReason, Rejected};
use crate::model::{Hostname, Protocol};
use crate::scope::Visible;

/// Listeners in the making.
pub(super) struct ListenerMerger<'a> {
    inputs: &'a PlanInputs,
    entries: BTreeMap<(u16, BindAddress), MergedListener>,
    rejected: Vec<Rejected>,
}

struct MergedListener {
    spoken: MergedProtocol,
    chains: Vec<(FilterChainInputs, Hostname)>,
    endpoint_address: Option<IpAddr>,
    bound: bool,
    /// Whether it is finished: a `Sidecar` names its port.
    locked: bool,
}

/// What a listener can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MergedProtocol {
    /// Nothing: bytes, of what is said to be this protocol.
    Tcp(Protocol),
    /// HTTP from the rest.
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

    /// What is there is finished.
    pub(super) fn lock(&mut self) {
        for entry in self.entries.values_mut() {
            entry.locked = true;
        }
    }

    pub(super) fn add(
        &mut self,
        visible: &Visible,
        listener_port: &ListenerPort<'_>,
        reading: ProtocolMode,
        service_bind: &ServiceBind,
    ) {
        let host = &visible.service.hostname;
        let key = (listener_port.number, service_bind.bind.clone());
        if self.entries.get(&key).is_some_and(|entry| entry.locked) {
            return;
        }
        let mut made = Vec::new();
        if reading != ProtocolMode::Http {
            made.extend(chains(self.inputs, visible, listener_port, service_bind));
        }
        if reading != ProtocolMode::Tcp {
            made.push(http_chain(visible, listener_port, service_bind));
        }
        let Some(entry) = self.entries.get_mut(&key) else {
            let endpoint_address = match (service_bind.whose, &service_bind.bind) {
                (Sharing::Endpoint, BindAddress::Ip(ip)) => Some(*ip),
                _ => None,
            };
            let spoken = if reading == ProtocolMode::Tcp {
                MergedProtocol::Tcp(listener_port.protocol)
            } else {
                MergedProtocol::Sniffed
            };
            let mut entry = MergedListener {
                spoken,
                chains: Vec::new(),
                endpoint_address,
                bound: listener_port.bound,
                locked: false,
            };
            // Of chains of one service the first one counts; that is no conflict.
            for chain in made {
                drop(entry.push(chain, host));
            }
            self.entries.insert(key, entry);
            return;
        };
        let existing = entry.chains.first().map_or_else(|| host.clone(), |(_, owner)| owner.clone());
        if entry.clashes(listener_port.protocol) {
            self.reject(service_bind, visible, listener_port, RejectReason::ServerFirst { existing });
            return;
        }
        if entry.spoken == MergedProtocol::Sniffed && reading != ProtocolMode::Tcp {
            made.retain(|chain| !entry.has_http_like(chain));
        } else if reading != ProtocolMode::Tcp {
            entry.spoken = MergedProtocol::Sniffed;
        }
        let lost: Vec<RejectReason> = made.into_iter().filter_map(|chain| entry.push(chain, host)).collect();
        for reason in lost {
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
                // Nothing but HTTP is meant for it, and what else arrives could go nowhere: no sniffing.
                *matches = ChainMatch::default();
            }
            if !chains.iter().any(|chain| chain.matches == ChainMatch::default()) {
                chains.push(fallback(settings));
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
    /// A server that speaks first would wait for a client that is being sniffed, or be given to another protocol.
    fn clashes(&self, incoming: Protocol) -> bool {
        let first = |protocol| matches!(protocol, Protocol::Mongo | Protocol::MySql);
        match self.spoken {
            MergedProtocol::Tcp(existing) => (first(existing) || first(incoming)) && existing != incoming,
            MergedProtocol::Sniffed => first(incoming),
        }
    }

    /// Adds a chain for the connections that no other one takes. Envoy refuses a listener in which two chains take
    /// the same.
    fn push(&mut self, mut chain: FilterChainInputs, owner: &Hostname) -> Option<RejectReason> {
        let mut lost = None;
        for (other, existing) in &self.chains {
            let left = chain.matches.subtract(&other.matches);
            if left.as_ref() != Some(&chain.matches) && existing != owner {
                lost = Some(RejectReason::SameMatch { existing: existing.clone() });
            }
            let Some(left) = left else { return lost };
            chain.matches = left;
        }
        self.chains.push((chain, owner.clone()));
        lost
    }

    /// Whether there is an HTTP chain already; if `chain` reads gRPC-Web, it does from now on.
    fn has_http_like(&mut self, chain: &FilterChainInputs) -> bool {
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

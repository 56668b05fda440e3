//! Services that meet at one place: one listener, as far as something in a connection tells them apart.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;

use super::chain::{Reading, fallback, http_chain};
use super::l4::chains;
use super::place::{Place, Whose};
use super::{ListenerSettings, PlanInputs, Planned, Spot};
use crate::generate::listener::{Bind, Chain, ChainMatch, ListenerInputs, ListenerRole, Then};
use crate::generate::{Reason, Rejected};
use crate::model::{Hostname, Protocol};
use crate::scope::Visible;

/// Listeners in the making.
pub(super) struct Merge<'a> {
    inputs: &'a PlanInputs,
    entries: BTreeMap<(u16, Bind), Entry>,
    rejected: Vec<Rejected>,
}

struct Entry {
    spoken: Spoken,
    chains: Vec<(Chain, Hostname)>,
    member: Option<IpAddr>,
    bound: bool,
    /// Whether it is finished: a `Sidecar` names its port.
    locked: bool,
}

/// What a listener can tell apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Spoken {
    /// Nothing: bytes, of what is said to be this protocol.
    Tcp(Protocol),
    /// HTTP from the rest.
    Sniffed,
}

// === impl Merge ===

impl<'a> Merge<'a> {
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

    pub(super) fn add(&mut self, seen: &Visible, spot: &Spot<'_>, reading: Reading, place: &Place) {
        let host = &seen.service.hostname;
        let key = (spot.number, place.bind.clone());
        if self.entries.get(&key).is_some_and(|entry| entry.locked) {
            return;
        }
        let mut made = Vec::new();
        if reading != Reading::Http {
            made.extend(chains(self.inputs, seen, spot, place));
        }
        if reading != Reading::Tcp {
            made.push(http_chain(seen, spot, place));
        }
        let Some(entry) = self.entries.get_mut(&key) else {
            let member = match (place.whose, &place.bind) {
                (Whose::Members, Bind::Ip(ip)) => Some(*ip),
                _ => None,
            };
            let spoken = if reading == Reading::Tcp { Spoken::Tcp(spot.protocol) } else { Spoken::Sniffed };
            let mut entry = Entry { spoken, chains: Vec::new(), member, bound: spot.bound, locked: false };
            // Of chains of one service the first one counts; that is no conflict.
            for chain in made {
                drop(entry.push(chain, host));
            }
            self.entries.insert(key, entry);
            return;
        };
        let existing = entry.chains.first().map_or_else(|| host.clone(), |(_, owner)| owner.clone());
        if entry.clashes(spot.protocol) {
            self.reject(place, seen, spot, Reason::ServerFirst { existing });
            return;
        }
        if entry.spoken == Spoken::Sniffed && reading != Reading::Tcp {
            made.retain(|chain| !entry.has_http_like(chain));
        } else if reading != Reading::Tcp {
            entry.spoken = Spoken::Sniffed;
        }
        let lost: Vec<Reason> = made.into_iter().filter_map(|chain| entry.push(chain, host)).collect();
        for reason in lost {
            self.reject(place, seen, spot, reason);
        }
    }

    pub(super) fn reject(&mut self, place: &Place, seen: &Visible, spot: &Spot<'_>, reason: Reason) {
        self.rejected.push(Rejected {
            subject: place.bind.listener(spot.number),
            service: seen.service.hostname.clone(),
            reason,
        });
    }

    pub(super) fn finish(self) -> (Vec<Planned>, Vec<Rejected>) {
        let settings = self.settings();
        let listeners = self.entries.into_iter().map(|((port, bind), entry)| {
            let mut chains: Vec<Chain> = entry.chains.into_iter().map(|(chain, _)| chain).collect();
            let role = if entry.bound { ListenerRole::Bound } else { ListenerRole::Outbound };
            if let (ListenerRole::Bound, [Chain { matches, then: Then::Http(_), .. }]) =
                (role, chains.as_mut_slice())
            {
                // Nothing but HTTP is meant for it, and what else arrives could go nowhere: no sniffing.
                *matches = ChainMatch::default();
            }
            if !chains.iter().any(|chain| chain.matches == ChainMatch::default()) {
                chains.push(fallback(settings));
            }
            let inputs = Arc::new(ListenerInputs {
                name: bind.listener(port),
                also: settings.families.beside(&bind),
                bind,
                port,
                role,
                chains,
                detection_timeout: settings.detection_timeout,
                filters: settings.filters.clone(),
            });
            Planned { inputs, member: entry.member }
        });
        (listeners.collect(), self.rejected)
    }
}

// === impl Entry ===

impl Entry {
    /// A server that speaks first would wait for a client that is being sniffed, or be given to another protocol.
    fn clashes(&self, incoming: Protocol) -> bool {
        let first = |protocol| matches!(protocol, Protocol::Mongo | Protocol::MySql);
        match self.spoken {
            Spoken::Tcp(existing) => (first(existing) || first(incoming)) && existing != incoming,
            Spoken::Sniffed => first(incoming),
        }
    }

    /// Adds a chain for the connections that no other one takes. Envoy refuses a listener in which two chains take
    /// the same.
    fn push(&mut self, mut chain: Chain, owner: &Hostname) -> Option<Reason> {
        let mut lost = None;
        for (other, existing) in &self.chains {
            let left = chain.matches.without(&other.matches);
            if left.as_ref() != Some(&chain.matches) && existing != owner {
                lost = Some(Reason::SameMatch { existing: existing.clone() });
            }
            let Some(left) = left else { return lost };
            chain.matches = left;
        }
        self.chains.push((chain, owner.clone()));
        lost
    }

    /// Whether there is an HTTP chain already; if `chain` reads gRPC-Web, it does from now on.
    fn has_http_like(&mut self, chain: &Chain) -> bool {
        let Then::Http(new) = &chain.then else { return false };
        for (existing, _) in &mut self.chains {
            if let Then::Http(old) = &mut existing.then {
                if new.protocol == Protocol::GrpcWeb {
                    old.protocol = Protocol::GrpcWeb;
                }
                return true;
            }
        }
        false
    }
}

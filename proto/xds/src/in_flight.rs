//! Responses that the client has not acknowledged, and the state that each brings it to.
//!
//! There is at most one of each type, except where the caller has stopped waiting for an ACK.

use std::collections::VecDeque;

use super::name_set::NameSet;
use super::quarantine::Coverage;
use super::resource::ResourceSet;
use super::response::Nonce;

/// Unacknowledged responses of one type, oldest first.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    responses: VecDeque<SentResponse>,
}

/// One response.
#[derive(Clone, Debug)]
pub(crate) struct SentResponse {
    pub(crate) nonce: Nonce,
    /// Names of the resources that it updates or removes.
    pub(crate) names: NameSet,
    /// Resources of the client once it has accepted the response.
    pub(crate) state: ResourceSet,
    pub(crate) coverage: Coverage,
    /// Names that the client has unsubscribed from since: whether it takes them from this response is unknown.
    pub(crate) unsubscribed: NameSet,
    /// Names that it updates or removes, and of which the client may or may not have had a version.
    pub(crate) uncertain: NameSet,
}

/// Maximum number of responses kept for a client that acknowledges none.
const MAX_RESPONSES: usize = 8;

// === impl InFlight ===

impl InFlight {
    /// Adds a response.
    pub(crate) fn push(&mut self, response: SentResponse) {
        if self.responses.len() >= MAX_RESPONSES {
            self.responses.pop_front();
        }
        self.responses.push_back(response);
    }

    /// Removes the response with this nonce, which was ACKed or NACKed, and all before it; returns these and the response.
    /// The earlier ones count as accepted: a stream keeps its order, and Envoy answers only the last of the responses that
    /// arrive while a type is paused.
    pub(crate) fn take(&mut self, nonce: &str) -> Option<(Vec<SentResponse>, SentResponse)> {
        let at = self.responses.iter().position(|response| response.nonce.as_str() == nonce)?;
        let mut taken: Vec<SentResponse> = self.responses.drain(..=at).collect();
        let last = taken.pop()?;
        Some((taken, last))
    }

    /// Records names that the client has unsubscribed from.
    pub(crate) fn unsubscribe(&mut self, names: &NameSet) {
        for response in &mut self.responses {
            response.unsubscribed = response.unsubscribed.union(names);
        }
    }

    /// Returns `true` if a response in flight determines the state of this resource. A complete list does so for all.
    pub(crate) fn covers(&self, name: &str) -> bool {
        let covers = |response: &SentResponse| {
            response.coverage == Coverage::Complete || response.names.contains(name)
        };
        self.responses.iter().any(covers)
    }

    /// Returns `true` if every response has been acknowledged.
    pub(crate) fn is_empty(&self) -> bool {
        self.responses.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_flight(count: u64) -> InFlight {
        let mut in_flight = InFlight::default();
        for count in 1..=count {
            in_flight.push(SentResponse {
                nonce: Nonce::new("v", count),
                names: [count.to_string().into()].into_iter().collect(),
                state: ResourceSet::default(),
                coverage: Coverage::Changes,
                unsubscribed: NameSet::default(),
                uncertain: NameSet::default(),
            });
        }
        in_flight
    }

    #[test]
    fn ack_of_a_response_covers_all_earlier_ones() {
        let mut in_flight = in_flight(3);
        assert_eq!(in_flight.take("v-2").map(|(_, response)| response.nonce), Some(Nonce::new("v", 2)));
        assert!(in_flight.take("v-1").is_none());
        assert!(in_flight.covers("3") && !in_flight.covers("2"));
        assert!(in_flight.take("v-3").is_some() && in_flight.is_empty());
    }

    #[test]
    fn in_flight_is_bounded_for_a_client_that_never_acknowledges() {
        assert_eq!(in_flight(100).responses.len(), MAX_RESPONSES);
    }
}

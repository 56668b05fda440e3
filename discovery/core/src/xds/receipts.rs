//! Responses that the client has not answered, and where each brings it.
//!
//! There is one at most, except where the caller stopped waiting. Knows sets of names and nonces; does not judge what
//! an answer means.

use std::collections::VecDeque;

use super::quarantine::Extent;
use super::response::Nonce;
use crate::model::{NameSet, ResourceSet};

/// What was sent and is not answered, the last one last.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    unanswered: VecDeque<Sent>,
}

/// One response.
#[derive(Clone, Debug)]
pub(super) struct Sent {
    pub(super) nonce: Nonce,
    /// What it was news of.
    pub(super) news: NameSet,
    /// What the client knows then.
    pub(super) after: ResourceSet,
    pub(super) extent: Extent,
}

/// How many unanswered responses are remembered of a client that answers none.
const REMEMBERED: usize = 8;

// === impl Receipts ===

impl Receipts {
    /// A response is on its way.
    pub(super) fn sent(&mut self, sent: Sent) {
        if self.unanswered.len() >= REMEMBERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back(sent);
    }

    /// The response that a nonce names was answered. A stream keeps its order, so whatever was sent before it, and is
    /// returned besides, was accepted: Envoy answers the last one only of those that come while a type is paused.
    pub(super) fn answered(&mut self, nonce: &str) -> Option<(Vec<Sent>, Sent)> {
        let at = self.unanswered.iter().position(|sent| sent.nonce.as_str() == nonce)?;
        let mut answered: Vec<Sent> = self.unanswered.drain(..=at).collect();
        let last = answered.pop()?;
        Some((answered, last))
    }

    /// The client has dropped these: whether it takes them from a response that is still on its way is unknown.
    pub(super) fn lose(&mut self, names: &NameSet) {
        if names.is_empty() {
            return;
        }
        for sent in &mut self.unanswered {
            sent.news = sent.news.filtered(|name| !names.contains(name));
            names.iter().for_each(|name| drop(sent.after.remove(name)));
        }
    }

    /// Whether a response that is still unanswered says how things stand with this: a list speaks of all that there is.
    pub(super) fn speak_of(&self, name: &str) -> bool {
        self.unanswered.iter().any(|sent| sent.extent == Extent::Everything || sent.news.contains(name))
    }

    /// Whether everything is answered.
    pub(super) fn is_empty(&self) -> bool {
        self.unanswered.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn receipts(count: u64) -> Receipts {
        let mut receipts = Receipts::default();
        for count in 1..=count {
            receipts.sent(Sent {
                nonce: Nonce::new("v", count),
                news: [count.to_string().into()].into_iter().collect(),
                after: ResourceSet::default(),
                extent: Extent::News,
            });
        }
        receipts
    }

    #[test]
    fn an_answer_is_an_answer_to_all_before() {
        let mut receipts = receipts(3);
        assert_eq!(receipts.answered("v-2").map(|(_, sent)| sent.nonce), Some(Nonce::new("v", 2)));
        assert!(receipts.answered("v-1").is_none());
        assert!(receipts.speak_of("3") && !receipts.speak_of("2"));
        assert!(receipts.answered("v-3").is_some() && receipts.is_empty());
    }

    #[test]
    fn a_client_that_never_answers_is_not_remembered_for_ever() {
        assert_eq!(receipts(100).unanswered.len(), REMEMBERED);
    }
}

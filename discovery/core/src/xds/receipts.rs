//! Which responses the client has not answered, and what it lost with those that it rejected.
//!
//! A client drops a rejected response as a whole: one bad endpoint takes a hundred good ones with it. The same bytes
//! would be rejected again, so they are kept back; as soon as one of the names changes, or the client no longer
//! wants it, the response is another one and worth another try, with everything that was in it. Knows names, not
//! content.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use super::response::Nonce;

type Names = BTreeSet<Arc<str>>;

/// What was sent and how it was taken.
#[derive(Debug, Default)]
pub(super) struct Receipts {
    /// The last one last. More than one only when the caller stopped waiting.
    unanswered: VecDeque<(Nonce, Names)>,
    /// What each rejected response told news of. No name is in two of them.
    rejected: Vec<Names>,
}

/// How many unanswered responses are remembered of a client that answers none.
const REMEMBERED: usize = 8;

// === impl Receipts ===

impl Receipts {
    /// A response with news of these names is on its way.
    pub(super) fn sent(&mut self, nonce: Nonce, names: Names) {
        for group in &mut self.rejected {
            group.retain(|name| !names.contains(name));
        }
        self.rejected.retain(|group| !group.is_empty());
        if self.unanswered.len() >= REMEMBERED {
            self.unanswered.pop_front();
        }
        self.unanswered.push_back((nonce, names));
    }

    /// A response was accepted.
    pub(super) fn accept(&mut self, nonce: &str) {
        self.answered(nonce);
    }

    /// A response was rejected. The names to be sent again, if it is another one already.
    pub(super) fn reject(&mut self, nonce: &str) -> Names {
        let names = self.answered(nonce).unwrap_or_default();
        let superseded = |name: &Arc<str>| self.unanswered.iter().any(|(_, later)| later.contains(name));
        if names.iter().any(superseded) {
            return names.into_iter().filter(|name| !superseded(name)).collect();
        }
        if !names.is_empty() {
            self.rejected.push(names);
        }
        Names::new()
    }

    /// The client no longer wants some names: what was rejected along with them, to be sent again.
    pub(super) fn release(&mut self, wanted: impl Fn(&str) -> bool) -> Names {
        self.rejected.extract_if(.., |group| group.iter().any(|name| !wanted(name))).flatten().collect()
    }

    /// What was rejected along with any of `names`.
    pub(super) fn rejected_with(&self, names: &Names) -> Names {
        self.rejected.iter().filter(|group| !group.is_disjoint(names)).flatten().cloned().collect()
    }

    /// A stream keeps its order, so whatever was sent before the answered response is answered too.
    fn answered(&mut self, nonce: &str) -> Option<Names> {
        let at = self.unanswered.iter().position(|(sent, _)| sent.as_str() == nonce)?;
        self.unanswered.drain(..=at).next_back().map(|(_, names)| names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &str) -> Names {
        names.split_whitespace().map(Arc::from).collect()
    }

    /// Responses `v-1`, `v-2`, ... with news of these names.
    fn sent(responses: &[&str]) -> Receipts {
        let mut receipts = Receipts::default();
        for (count, news) in (1..).zip(responses) {
            receipts.sent(Nonce::new("v", count), names(news));
        }
        receipts
    }

    #[test]
    fn an_answer_is_an_answer_to_all_before() {
        let mut receipts = sent(&["a b", "c", "d"]);
        receipts.accept("v-2");
        assert_eq!(receipts.reject("v-1"), names(""));
        assert_eq!(receipts.rejected_with(&names("a")), names(""));
        receipts.reject("v-3");
        assert_eq!(receipts.rejected_with(&names("d")), names("d"));
    }

    #[test]
    fn what_was_rejected_is_kept_until_a_name_of_it_is_sent_or_dropped() {
        let mut receipts = sent(&["a b", "c d"]);
        receipts.reject("v-1");
        receipts.reject("v-2");
        assert_eq!(receipts.rejected_with(&names("b x")), names("a b"));
        receipts.sent(Nonce::new("v", 3), names("a b"));
        assert_eq!(receipts.rejected_with(&names("b")), names(""));
        assert_eq!(receipts.release(|name| name != "c"), names("c d"));
        assert_eq!(receipts.rejected_with(&names("d")), names(""));
    }

    #[test]
    fn a_client_that_never_answers_is_not_remembered_for_ever() {
        let receipts = sent(&["a"; 100]);
        assert_eq!(receipts.unanswered.len(), REMEMBERED);
    }
}

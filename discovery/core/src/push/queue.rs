//! Queue of proxies to push to: urgent pushes first, then in order of arrival; each proxy at most once.
//!
//! ```text
//!   enqueue ─▶ Waiting ─ dequeue ─▶ Pushing ─ done ─▶ removed
//!                 ▲  merges            │ requests meanwhile are merged
//!                 └────────── done ────┘ and enqueued at the end
//! ```
//!
//! A proxy has at most one push in progress and one waiting; a slow proxy does not delay others. The caller limits the number of
//! concurrent pushes.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{PushRequest, Urgency};

/// Pending pushes. `K` identifies a connection and is not reused.
#[derive(Debug)]
pub struct PushQueue<K> {
    connections: BTreeMap<K, Slot>,
    /// Waiting connections, by ticket.
    order: BTreeMap<Ticket, K>,
    next_ticket: u64,
}

type Ticket = (Reverse<Urgency>, u64);

#[derive(Debug)]
enum Slot {
    Waiting { ticket: Ticket, request: Arc<PushRequest> },
    Pushing { next: Option<(Arc<PushRequest>, Urgency)> },
}

// === impl PushQueue ===

impl<K> Default for PushQueue<K> {
    fn default() -> Self {
        Self { connections: BTreeMap::new(), order: BTreeMap::new(), next_ticket: 0 }
    }
}

impl<K: Ord + Clone> PushQueue<K> {
    /// Enqueues a push to a connection. Connections share a request until it is merged with another.
    pub fn enqueue(&mut self, key: K, request: &Arc<PushRequest>, urgency: Urgency) {
        match self.connections.get_mut(&key) {
            Some(Slot::Waiting { request: waiting, ticket }) => {
                Arc::make_mut(waiting).merge(request);
                let sooner = (ticket.0.min(Reverse(urgency)), ticket.1);
                let before = std::mem::replace(ticket, sooner);
                if before != sooner {
                    self.order.remove(&before);
                    self.order.insert(sooner, key);
                }
            }
            Some(Slot::Pushing { next: Some((waiting, most)) }) => {
                Arc::make_mut(waiting).merge(request);
                *most = urgency.max(*most);
            }
            Some(Slot::Pushing { next }) => *next = Some((request.clone(), urgency)),
            None => self.append(key, request.clone(), urgency),
        }
    }

    /// Returns the next connection and its request. It counts as being pushed to until [`PushQueue::done`].
    pub fn dequeue(&mut self) -> Option<(K, Arc<PushRequest>)> {
        let (_, key) = self.order.pop_first()?;
        match self.connections.insert(key.clone(), Slot::Pushing { next: None })? {
            Slot::Waiting { request, .. } => Some((key, request)),
            Slot::Pushing { .. } => None,
        }
    }

    /// Ends the push of a connection.
    pub fn done(&mut self, key: &K) {
        if !matches!(self.connections.get(key), Some(Slot::Pushing { .. })) {
            return;
        }
        if let Some(Slot::Pushing { next: Some((request, urgency)) }) = self.connections.remove(key) {
            self.append(key.clone(), request, urgency);
        }
    }

    /// Removes a connection and its pending request.
    pub fn remove(&mut self, key: &K) {
        if let Some(Slot::Waiting { ticket, .. }) = self.connections.remove(key) {
            self.order.remove(&ticket);
        }
    }

    /// Returns the number of waiting connections.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// Returns `true` if no connection waits.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    fn append(&mut self, key: K, request: Arc<PushRequest>, urgency: Urgency) {
        let ticket = (Reverse(urgency), self.next_ticket);
        self.next_ticket += 1;
        self.order.insert(ticket, key.clone());
        self.connections.insert(key, Slot::Waiting { ticket, request });
    }
}

#[cfg(test)]
mod tests {
    use std::collections::{BTreeSet, VecDeque};

    use proptest::prelude::*;

    use super::*;
    use crate::model::{ChangeKind, ConfigKey};
    use crate::push::Reason;

    fn change(name: &str) -> Arc<PushRequest> {
        let key = ConfigKey { kind: ChangeKind::Service, namespace: "default".into(), name: name.into() };
        Arc::new(PushRequest::of([key], Reason::Service))
    }

    fn next(queue: &mut PushQueue<u8>) -> Option<(u8, String)> {
        let (key, request) = queue.dequeue()?;
        let names: Vec<&str> = request.updated.iter().map(|key| key.name.as_ref()).collect();
        Some((key, names.join(" ")))
    }

    #[test]
    fn first_come_first_served() {
        let mut queue = PushQueue::default();
        for key in [3, 1, 2] {
            queue.enqueue(key, &change("a"), Urgency::Normal);
        }
        // A waiting connection keeps its position.
        queue.enqueue(3, &change("b"), Urgency::Normal);
        assert_eq!(queue.len(), 3);
        assert_eq!(next(&mut queue), Some((3, "a b".into())));
        assert_eq!(next(&mut queue), Some((1, "a".into())));
        assert_eq!(next(&mut queue), Some((2, "a".into())));
        assert_eq!(next(&mut queue), None);
    }

    #[test]
    fn what_comes_during_a_push_waits_for_its_end_and_queues_up_again() {
        let mut queue = PushQueue::default();
        queue.enqueue(1, &change("a"), Urgency::Normal);
        queue.dequeue();
        queue.enqueue(1, &change("b"), Urgency::Normal);
        queue.enqueue(1, &change("c"), Urgency::Normal);
        queue.enqueue(2, &change("x"), Urgency::Normal);
        assert_eq!(next(&mut queue), Some((2, "x".into())));
        assert_eq!(next(&mut queue), None);
        queue.enqueue(3, &change("y"), Urgency::Normal);
        queue.done(&1);
        queue.done(&2);
        assert_eq!(next(&mut queue), Some((3, "y".into())));
        assert_eq!(next(&mut queue), Some((1, "b c".into())));
    }

    #[test]
    fn what_is_urgent_goes_first() {
        let mut queue = PushQueue::default();
        for key in [1, 2, 3] {
            queue.enqueue(key, &change("a"), Urgency::Normal);
        }
        queue.enqueue(4, &change("gone"), Urgency::Urgent);
        queue.enqueue(3, &change("gone"), Urgency::Urgent);
        queue.enqueue(3, &change("b"), Urgency::Normal);
        let order: Vec<u8> = std::iter::from_fn(|| queue.dequeue()).map(|(key, _)| key).collect();
        assert_eq!(order, [3, 4, 1, 2], "among the urgent, too, who came first");
        queue.enqueue(1, &change("c"), Urgency::Normal);
        queue.enqueue(2, &change("c"), Urgency::Normal);
        queue.enqueue(2, &change("gone"), Urgency::Urgent);
        queue.done(&1);
        queue.done(&2);
        assert_eq!(next(&mut queue), Some((2, "c gone".into())));
    }

    #[test]
    fn a_request_that_is_shared_is_not_changed_by_merging() {
        let (mut queue, shared) = (PushQueue::default(), change("a"));
        queue.enqueue(1, &shared, Urgency::Normal);
        queue.enqueue(2, &shared, Urgency::Normal);
        queue.enqueue(1, &change("b"), Urgency::Normal);
        assert_eq!(next(&mut queue), Some((1, "a b".into())));
        let (_, request) = queue.dequeue().unwrap();
        assert!(Arc::ptr_eq(&request, &shared));
    }

    #[test]
    fn a_connection_that_is_gone_is_forgotten_wherever_it_was() {
        let mut queue = PushQueue::default();
        for key in [1, 2, 3] {
            queue.enqueue(key, &change("a"), Urgency::Normal);
        }
        queue.remove(&2);
        assert_eq!(queue.dequeue().map(|(key, _)| key), Some(1));
        queue.enqueue(1, &change("b"), Urgency::Normal);
        queue.remove(&1);
        queue.done(&1);
        assert_eq!(queue.dequeue().map(|(key, _)| key), Some(3));
        assert!(queue.is_empty());
    }

    #[derive(Clone, Debug)]
    enum Step {
        Enqueue(u8),
        Dequeue,
        Done,
        Remove(u8),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![
            4 => (0_u8..5).prop_map(Step::Enqueue),
            3 => Just(Step::Dequeue),
            3 => Just(Step::Done),
            1 => (0_u8..5).prop_map(Step::Remove),
        ]
    }

    proptest! {
        #[test]
        fn nothing_is_lost_nothing_is_doubled(steps in prop::collection::vec(step(), 0..120)) {
            let mut queue = PushQueue::default();
            let mut open: BTreeMap<u8, BTreeSet<String>> = BTreeMap::new();
            let (mut turns, mut pushing) = (VecDeque::<u8>::new(), VecDeque::<u8>::new());
            for (number, step) in steps.iter().enumerate() {
                match *step {
                    Step::Enqueue(key) => {
                        queue.enqueue(key, &change(&number.to_string()), Urgency::Normal);
                        open.entry(key).or_default().insert(number.to_string());
                        if !turns.contains(&key) && !pushing.contains(&key) {
                            turns.push_back(key);
                        }
                    }
                    Step::Dequeue => {
                        let told = queue.dequeue().map(|(key, request)| {
                            (key, request.updated.iter().map(|key| key.name.to_string()).collect::<BTreeSet<_>>())
                        });
                        let turn = turns.pop_front();
                        prop_assert_eq!(told, turn.map(|key| (key, open.remove(&key).unwrap_or_default())));
                        pushing.extend(turn);
                    }
                    Step::Done => if let Some(key) = pushing.pop_front() {
                        queue.done(&key);
                        if open.contains_key(&key) {
                            turns.push_back(key);
                        }
                    },
                    Step::Remove(key) => {
                        queue.remove(&key);
                        open.remove(&key);
                        turns.retain(|turn| *turn != key);
                        pushing.retain(|turn| *turn != key);
                    }
                }
                prop_assert_eq!(queue.len(), turns.len());
            }
        }
    }
}

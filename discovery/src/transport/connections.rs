//! Connections of the gRPC ports, and the number of streams of each address.

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use pilot_proto::identity::SpiffeId;
use tokio::sync::Notify;

use super::peer::{Peer, Stage};

/// Open connections.
#[derive(Default)]
pub(crate) struct Connections {
    counter: AtomicU64,
    peers: Mutex<BTreeMap<u64, Arc<Peer>>>,
    by_address: Mutex<HashMap<IpAddr, usize>>,
    streams: AtomicUsize,
    left: Notify,
}

/// Entry of a connection, removed on drop.
pub(super) struct Place {
    connections: Arc<Connections>,
    pub(super) peer: Arc<Peer>,
}

/// Open xDS stream, counted until it is dropped.
pub(crate) struct OpenStream {
    connections: Arc<Connections>,
    peer: Arc<Peer>,
}

/// Error: the address has the maximum number of streams, which it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0} streams are open from this address, as many as may be")]
pub(crate) struct TooMany(usize);

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// === impl Connections ===

impl Connections {
    pub(super) fn join(self: &Arc<Self>, address: SocketAddr, identities: Vec<SpiffeId>) -> Place {
        let number = self.counter.fetch_add(1, Ordering::Relaxed) + 1;
        let peer = Arc::new(Peer::new(number, address, identities));
        lock(&self.peers).insert(number, peer.clone());
        Place { connections: self.clone(), peer }
    }

    /// Returns the connections in order of accepting.
    pub(crate) fn list(&self) -> Vec<Arc<Peer>> {
        lock(&self.peers).values().cloned().collect()
    }

    /// Returns the number of open xDS streams.
    pub(crate) fn streams(&self) -> usize {
        self.streams.load(Ordering::Relaxed)
    }

    /// Opens an xDS stream, unless its address has `most` already.
    pub(crate) fn open(self: &Arc<Self>, peer: &Arc<Peer>, most: usize) -> Result<OpenStream, TooMany> {
        let mut by_address = lock(&self.by_address);
        let count = by_address.entry(peer.address.ip()).or_default();
        if *count >= most {
            return Err(TooMany(*count));
        }
        *count += 1;
        drop(by_address);
        peer.streams.fetch_add(1, Ordering::Relaxed);
        self.streams.fetch_add(1, Ordering::Relaxed);
        Ok(OpenStream { connections: self.clone(), peer: peer.clone() })
    }

    /// Waits until all connections have ended.
    pub(super) async fn emptied(&self) {
        loop {
            let left = self.left.notified();
            if lock(&self.peers).is_empty() {
                return;
            }
            left.await;
        }
    }

    /// Ends all connections now.
    pub(super) fn cut(&self) {
        for peer in self.list() {
            peer.advance(Stage::Cut);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        lock(&self.connections.peers).remove(&self.peer.number);
        // Streams may outlive their connection by a moment.
        self.peer.advance(Stage::Cut);
        self.connections.left.notify_waiters();
    }
}

impl Drop for OpenStream {
    fn drop(&mut self) {
        self.peer.streams.fetch_sub(1, Ordering::Relaxed);
        self.connections.streams.fetch_sub(1, Ordering::Relaxed);
        let mut by_address = lock(&self.connections.by_address);
        let address = self.peer.address.ip();
        let left = by_address.get(&address).map_or(0, |count| count.saturating_sub(1));
        if left == 0 {
            by_address.remove(&address);
        } else {
            by_address.insert(address, left);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_address_has_its_share_of_streams_and_gets_it_back() {
        let connections = Arc::new(Connections::default());
        let one = connections.join(([127, 0, 0, 1], 1000).into(), Vec::new());
        let same = connections.join(([127, 0, 0, 1], 1001).into(), Vec::new());
        let other = connections.join(([127, 0, 0, 2], 1000).into(), Vec::new());
        let first = connections.open(&one.peer, 2).ok();
        let second = connections.open(&same.peer, 2).ok();
        assert!(first.is_some() && second.is_some());
        assert_eq!(connections.open(&same.peer, 2).err(), Some(TooMany(2)));
        assert!(connections.open(&other.peer, 2).is_ok(), "another address has its own");
        assert_eq!((connections.streams(), one.peer.streams()), (2, 1));
        drop(first);
        assert!(connections.open(&same.peer, 2).is_ok());
        drop(second);
        assert_eq!((connections.streams(), lock(&connections.by_address).len()), (0, 0));
        drop((one, same, other));
        connections.emptied().await;
        assert!(connections.list().is_empty());
    }
}

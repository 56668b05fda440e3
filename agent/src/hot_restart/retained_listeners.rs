//! Duplicates of Envoy's listening sockets, which outlive the Envoy that bound them.
//!
//! A retained socket keeps its queue: connections made while no Envoy runs wait there for the next one. A socket that is
//! retained but passed to no Envoy swallows connections. So sockets on which Envoy no longer listens must be dropped, all
//! must be dropped before the last Envoy exits, and after a hand-over they must be replaced by those of the new Envoy.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use super::address::{ListenAddress, SocketMismatch};

/// Listening sockets by address. A clone shares the sockets; each is closed with its last owner.
#[derive(Clone, Debug, Default)]
pub(crate) struct RetainedListeners {
    sockets: BTreeMap<ListenAddress, ListenSockets>,
}

/// The sockets of one address.
#[derive(Clone, Debug)]
pub(crate) enum ListenSockets {
    /// One socket, from which all workers accept (`enable_reuse_port: false`, Unix sockets).
    Shared(Arc<OwnedFd>),
    /// One for each worker, in order; the kernel spreads connections over them.
    PerWorker(Vec<Arc<OwnedFd>>),
}

// === impl RetainedListeners ===

impl RetainedListeners {
    /// Inserts the sockets of an address, replacing earlier ones. Fails if one of them does not listen there.
    pub(crate) fn insert(
        &mut self,
        address: ListenAddress,
        sockets: ListenSockets,
    ) -> Result<(), SocketMismatch> {
        sockets.all().iter().try_for_each(|socket| address.check(socket.as_fd()))?;
        self.sockets.insert(address, sockets);
        Ok(())
    }

    /// Returns the socket for a worker, counted from 0.
    pub(crate) fn get(&self, address: &ListenAddress, worker: u32) -> Option<Arc<OwnedFd>> {
        match self.sockets.get(address)? {
            ListenSockets::Shared(socket) => Some(Arc::clone(socket)),
            ListenSockets::PerWorker(sockets) => sockets.get(usize::try_from(worker).ok()?).map(Arc::clone),
        }
    }

    /// Returns the addresses in order.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = &ListenAddress> {
        self.sockets.keys()
    }

    /// Returns `true` without any socket.
    pub(crate) fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }
}

// === impl ListenSockets ===

impl ListenSockets {
    fn all(&self) -> &[Arc<OwnedFd>] {
        match self {
            Self::Shared(socket) => std::slice::from_ref(socket),
            Self::PerWorker(sockets) => sockets,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn listener() -> (ListenAddress, Arc<OwnedFd>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (ListenAddress::Tcp(listener.local_addr().unwrap()), Arc::new(listener.into()))
    }

    #[test]
    fn socket_is_shared_by_workers_or_one_for_each() {
        let mut retained = RetainedListeners::default();
        let (shared, socket) = listener();
        retained.insert(shared.clone(), ListenSockets::Shared(Arc::clone(&socket))).unwrap();
        assert!(Arc::ptr_eq(&retained.get(&shared, 7).unwrap(), &socket));

        let (each, socket) = listener();
        retained.insert(each.clone(), ListenSockets::PerWorker(vec![Arc::clone(&socket)])).unwrap();
        assert!(Arc::ptr_eq(&retained.get(&each, 0).unwrap(), &socket));
        assert!(retained.get(&each, 1).is_none());
    }

    #[test]
    fn dropped_socket_is_closed() {
        let mut retained = RetainedListeners::default();
        let (address, socket) = listener();
        let watched = Arc::downgrade(&socket);
        retained.insert(address.clone(), ListenSockets::Shared(socket)).unwrap();
        assert_eq!(retained.addresses().collect::<Vec<_>>(), [&address]);
        drop(retained);
        assert_eq!(watched.strong_count(), 0);
    }

    #[test]
    fn socket_of_another_address_is_rejected() {
        let mut retained = RetainedListeners::default();
        let ((address, right), (other, wrong)) = (listener(), listener());
        let sockets = ListenSockets::PerWorker(vec![right, wrong]);
        let found = other.to_string();
        let mismatch = SocketMismatch::Elsewhere { requested: address.clone(), bound: found };
        assert_eq!(retained.insert(address, sockets), Err(mismatch));
        assert!(retained.is_empty());
    }
}

//! The listening sockets the agent has duplicates of, so that they outlive the Envoy that made them.
//!
//! A held socket keeps its queue: whoever connects while no Envoy runs waits there for the next one. But for
//! the same reason a socket that is held and given to nobody swallows connections. So what Envoy no longer
//! listens on must be forgotten, everything must be before the last Envoy leaves, and after a hand-over what
//! is held must be replaced by what the new Envoy says it has.
//!
//! Deliberately does not know where sockets come from or go to.

use std::{
    collections::BTreeMap,
    os::fd::{AsFd, OwnedFd},
    sync::Arc,
};

use super::address::{Address, Mismatch};

/// Listening sockets by address. A clone holds the same sockets; each is closed with its last holder.
#[derive(Clone, Debug, Default)]
pub struct Held {
    sockets: BTreeMap<Address, Sockets>,
}

/// What listens on one address.
#[derive(Clone, Debug)]
pub enum Sockets {
    /// One socket, from which all workers accept (`enable_reuse_port: false`, Unix sockets).
    Shared(Arc<OwnedFd>),
    /// One for each worker, in order; connections are spread over them by the kernel.
    PerWorker(Vec<Arc<OwnedFd>>),
}

// === impl Held ===

impl Held {
    /// Holds these for an address, in place of what was held for it; or nothing, if one of them is not a
    /// socket that listens there.
    pub fn hold(&mut self, address: Address, sockets: Sockets) -> Result<(), Mismatch> {
        sockets.all().iter().try_for_each(|socket| address.check(socket.as_fd()))?;
        self.sockets.insert(address, sockets);
        Ok(())
    }

    /// The socket a worker of an Envoy is to have, if there is one. Workers count from 0.
    pub fn get(&self, address: &Address, worker: u32) -> Option<Arc<OwnedFd>> {
        match self.sockets.get(address)? {
            Sockets::Shared(socket) => Some(Arc::clone(socket)),
            Sockets::PerWorker(sockets) => sockets.get(usize::try_from(worker).ok()?).map(Arc::clone),
        }
    }

    /// What is held, in order.
    pub fn addresses(&self) -> impl Iterator<Item = &Address> {
        self.sockets.keys()
    }

    /// Whether nothing is.
    pub fn is_empty(&self) -> bool {
        self.sockets.is_empty()
    }
}

// === impl Sockets ===

impl Sockets {
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

    fn listener() -> (Address, Arc<OwnedFd>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        (Address::Tcp(listener.local_addr().unwrap()), Arc::new(listener.into()))
    }

    #[test]
    fn workers_share_a_socket_or_have_one_each() {
        let mut held = Held::default();
        let (shared, socket) = listener();
        held.hold(shared.clone(), Sockets::Shared(Arc::clone(&socket))).unwrap();
        assert!(Arc::ptr_eq(&held.get(&shared, 7).unwrap(), &socket));

        let (each, socket) = listener();
        held.hold(each.clone(), Sockets::PerWorker(vec![Arc::clone(&socket)])).unwrap();
        assert!(Arc::ptr_eq(&held.get(&each, 0).unwrap(), &socket));
        assert!(held.get(&each, 1).is_none());
    }

    #[test]
    fn what_is_let_go_is_closed() {
        let mut held = Held::default();
        let (address, socket) = listener();
        let watched = Arc::downgrade(&socket);
        held.hold(address.clone(), Sockets::Shared(socket)).unwrap();
        assert_eq!(held.addresses().collect::<Vec<_>>(), [&address]);
        drop(held);
        assert_eq!(watched.strong_count(), 0);
    }

    #[test]
    fn what_listens_elsewhere_is_not_held() {
        let mut held = Held::default();
        let ((address, right), (other, wrong)) = (listener(), listener());
        let sockets = Sockets::PerWorker(vec![right, wrong]);
        let found = other.to_string();
        let mismatch = Mismatch::Elsewhere { wanted: address.clone(), found };
        assert_eq!(held.hold(address, sockets), Err(mismatch));
        assert!(held.is_empty());
    }
}

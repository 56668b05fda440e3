//! A TCP proxy between a proxy and its control plane that can break connections.
//!
//! ```text
//! proxy ──▶ FaultyLink ──▶ the first control plane that accepts the connection
//! ```
//!
//! It copies bytes without parsing them, so a connection breaks anywhere: between messages, in a frame, in a handshake.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context, Result};
use pilot_tests::net::local;
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

/// Ending of a broken connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum CloseMode {
    /// FIN: the peer has closed.
    Fin,
    /// RST: the peer has crashed, or a middlebox has dropped the connection.
    Reset,
}

/// A link. Dropping it breaks every connection.
pub(crate) struct FaultyLink {
    /// Address for proxies.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    to: Vec<SocketAddr>,
    /// Number of cuts; a change ends the connections made before.
    cuts: watch::Sender<(u64, CloseMode)>,
    /// Number of bytes to a proxy after which the next connection breaks.
    limit: AtomicU64,
    connections: AtomicU64,
}

// === impl FaultyLink ===

impl FaultyLink {
    /// Creates a link to the first of these addresses that accepts a connection.
    pub(crate) async fn to(to: &[SocketAddr]) -> Result<Self> {
        let listener = TcpListener::bind(local(0)).await.context("bind the link")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            to: to.to_vec(),
            cuts: watch::Sender::new((0, CloseMode::Fin)),
            limit: AtomicU64::new(u64::MAX),
            connections: AtomicU64::new(0),
        });
        let server = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, server })
    }

    /// Breaks all open connections.
    pub(crate) fn cut(&self, end: CloseMode) {
        self.shared.cuts.send_modify(|(count, how)| (*count, *how) = (*count + 1, end));
    }

    /// Breaks one later connection: the first that has carried so many bytes to its proxy.
    pub(crate) fn limit_bytes(&self, bytes: u64) {
        self.shared.limit.store(bytes, Ordering::Relaxed);
    }

    /// Returns the number of connections that reached a control plane.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for FaultyLink {
    fn drop(&mut self) {
        self.server.abort();
        self.cut(CloseMode::Reset);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // A connection that was reset before it was accepted does not count.
    while let Ok((proxy, _)) = listener.accept().await {
        let mut cuts = shared.cuts.subscribe();
        let shared = shared.clone();
        tokio::spawn(async move {
            let Some(server) = shared.reach().await else { return };
            shared.connections.fetch_add(1, Ordering::Relaxed);
            let (mut proxy, mut server) = (proxy, server);
            // Both ends notice the end of the connection themselves.
            tokio::select! {
                _ = shared.carry(&mut proxy, &mut server) => {}
                _ = cuts.changed() => {}
            }
            if cuts.borrow().1 == CloseMode::Reset {
                let _reset = (proxy.set_zero_linger(), server.set_zero_linger());
            }
        });
    }
}

// === impl Shared ===

impl Shared {
    async fn reach(&self) -> Option<TcpStream> {
        for to in &self.to {
            if let Ok(stream) = TcpStream::connect(to).await {
                return Some(stream);
            }
        }
        None
    }

    /// Copies bytes in both directions until either end closes.
    async fn carry(&self, proxy: &mut TcpStream, server: &mut TcpStream) -> io::Result<()> {
        let (mut from_proxy, mut to_proxy) = proxy.split();
        let (mut from_server, mut to_server) = server.split();
        let down = async {
            let (mut buffer, mut carried) = (vec![0; 1 << 14], 0);
            loop {
                let read = from_server.read(&mut buffer).await?;
                if read == 0 {
                    return Ok(());
                }
                let left = self.limit.load(Ordering::Relaxed).saturating_sub(carried);
                let whole = usize::try_from(left).unwrap_or(usize::MAX);
                to_proxy.write_all(buffer.get(..read.min(whole)).unwrap_or_default()).await?;
                if whole < read {
                    self.limit.store(u64::MAX, Ordering::Relaxed);
                    return Ok(());
                }
                carried += read as u64;
            }
        };
        tokio::select! {
            done = copy(&mut from_proxy, &mut to_server) => done.map(drop),
            done = down => done,
        }
    }
}

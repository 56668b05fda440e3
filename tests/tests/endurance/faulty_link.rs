//! The wire between a proxy and its control plane, which can be cut.
//!
//! ```text
//! proxy ──▶ FaultyLink ──▶ the first control plane that takes the connection
//! ```
//!
//! It knows bytes and nothing of what they mean, so what it cuts is cut anywhere: between messages, in a frame, in a handshake.

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

/// How connections end when they are cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// With a FIN: the peer has closed.
    Closed,
    /// With a RST: the peer has died, or a middlebox has forgotten it.
    Reset,
}

/// A wire. Dropping it cuts every connection.
pub(crate) struct FaultyLink {
    /// What proxies connect to.
    pub(crate) address: SocketAddr,
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

struct Shared {
    to: Vec<SocketAddr>,
    /// Counts the cuts; what was connected before the last one is over.
    cuts: watch::Sender<(u64, End)>,
    /// How many bytes the connections after this carry to a proxy before they break.
    limit: AtomicU64,
    connections: AtomicU64,
}

// === impl FaultyLink ===

impl FaultyLink {
    /// Leads to the first of these that takes a connection.
    pub(crate) async fn to(to: &[SocketAddr]) -> Result<Self> {
        let listener = TcpListener::bind(local(0)).await.context("lay a link")?;
        let address = listener.local_addr()?;
        let shared = Arc::new(Shared {
            to: to.to_vec(),
            cuts: watch::Sender::new((0, End::Closed)),
            limit: AtomicU64::new(u64::MAX),
            connections: AtomicU64::new(0),
        });
        let server = tokio::spawn(accept(listener, shared.clone()));
        Ok(Self { address, shared, server })
    }

    /// Cuts every connection there is.
    pub(crate) fn cut(&self, end: End) {
        self.shared.cuts.send_modify(|(count, how)| (*count, *how) = (*count + 1, end));
    }

    /// One of the connections to come breaks, the first to have carried so many bytes to its proxy.
    pub(crate) fn weaken(&self, bytes: u64) {
        self.shared.limit.store(bytes, Ordering::Relaxed);
    }

    /// How many connections reached a control plane so far.
    pub(crate) fn connections(&self) -> u64 {
        self.shared.connections.load(Ordering::Relaxed)
    }
}

impl Drop for FaultyLink {
    fn drop(&mut self) {
        self.server.abort();
        self.cut(End::Reset);
    }
}

async fn accept(listener: TcpListener, shared: Arc<Shared>) {
    // A connection that was reset before we took it is no connection.
    while let Ok((proxy, _)) = listener.accept().await {
        let mut cuts = shared.cuts.subscribe();
        let shared = shared.clone();
        tokio::spawn(async move {
            let Some(server) = shared.reach().await else { return };
            shared.connections.fetch_add(1, Ordering::Relaxed);
            let (mut proxy, mut server) = (proxy, server);
            // How a connection ended is for its ends to notice.
            tokio::select! {
                _ = shared.carry(&mut proxy, &mut server) => {}
                _ = cuts.changed() => {}
            }
            if cuts.borrow().1 == End::Reset {
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

    /// Until either end closes.
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

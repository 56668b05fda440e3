//! Accepts connections, does the TLS handshake, and starts a task for each.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::serve::{Ended, Terms};
use super::{Connections, Metrics, tls};

/// Time limit of a TLS handshake: two round trips and one signature.
const HANDSHAKE: Duration = Duration::from_secs(5);

/// Pause after a failed accept, mostly for lack of descriptors.
const BREATH: Duration = Duration::from_millis(100);

/// Server of the gRPC ports, the same for all connections.
#[derive(Clone)]
pub(crate) struct Server {
    pub(super) connections: Arc<Connections>,
    pub(super) metrics: Metrics,
    pub(super) terms: Arc<Terms>,
}

/// Protocol below HTTP/2.
#[derive(Clone)]
pub(crate) enum Transport {
    /// TCP.
    Plaintext,
    /// TLS, with the current configuration of the moment of accepting.
    Tls(watch::Receiver<Arc<ServerConfig>>),
}

// === impl Server ===

impl Server {
    /// Accepts until `stop` is cancelled. Accepted connections stay.
    pub(crate) async fn accept(
        self,
        listener: TcpListener,
        transport: Transport,
        stop: CancellationToken,
    ) -> anyhow::Result<()> {
        loop {
            let accepted = tokio::select! {
                () = stop.cancelled() => return Ok(()),
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, _)) => {
                    tokio::spawn(self.clone().connection(stream, transport.clone()));
                }
                Err(error) => {
                    warn!(%error, "cannot accept a gRPC connection");
                    tokio::time::sleep(BREATH).await;
                }
            }
        }
    }

    async fn connection(self, stream: TcpStream, transport: Transport) {
        let ended = match transport {
            Transport::Plaintext => self.plaintext(stream).await,
            Transport::Tls(config) => {
                let config = config.borrow().clone();
                self.tls(stream, config).await
            }
        };
        if let Err(error) = ended {
            self.metrics.connection_ended("handshake");
            debug!("connection failed: {error:#}");
        }
    }

    async fn plaintext(&self, stream: TcpStream) -> anyhow::Result<()> {
        let address = stream.peer_addr().context("address of the peer")?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let place = self.connections.join(address, Vec::new());
        let ended = self.terms.serve(stream, &place).await;
        self.tell(&place.peer, ended);
        Ok(())
    }

    async fn tls(&self, stream: TcpStream, config: Arc<ServerConfig>) -> anyhow::Result<()> {
        let address = stream.peer_addr().context("address of the peer")?;
        stream.set_nodelay(true).context("set TCP_NODELAY")?;
        let shaken = tokio::time::timeout(HANDSHAKE, TlsAcceptor::from(config).accept(stream)).await;
        let stream = shaken
            .map_err(|_| anyhow::anyhow!("no TLS handshake within {HANDSHAKE:?}"))
            .and_then(|shaken| shaken.context("TLS handshake"))
            .with_context(|| format!("peer {address}"))?;
        let identities = tls::identities(stream.get_ref().1.peer_certificates().unwrap_or_default());
        let place = self.connections.join(address, identities);
        let ended = self.terms.serve(stream, &place).await;
        self.tell(&place.peer, ended);
        Ok(())
    }

    fn tell(&self, peer: &super::Peer, ended: Ended) {
        self.metrics.connection_ended(ended.as_str());
        match ended {
            Ended::Cut(_) | Ended::ByFault | Ended::Silent => {
                info!(connection = peer.number, peer = %peer.address, reason = ended.as_str(), "connection closed");
            }
            Ended::ByClient | Ended::ByUs(_) => {
                debug!(connection = peer.number, peer = %peer.address, reason = ended.as_str(), "connection ended");
            }
        }
    }
}

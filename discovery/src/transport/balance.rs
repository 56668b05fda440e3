//! Load-aware rebalancing: an instance with clearly more streams than its share closes the surplus with GOAWAY.
//!
//! Proxies keep their stream for hours, so a new instance would get none. Each instance reports its load at `/debug/load` of its
//! monitoring port, and decides for itself only. A proxy that leaves connects to any instance, so half of them may come back:
//! rebalancing is slow, and reads the loads again before every round.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::sleep;
use tracing::{debug, info};

use super::load::{self, Load};
use super::peer::{Farewell, Stage};
use super::{Connections, Metrics, Peer, pace};

/// Interval between two reads of the loads.
const ROUND: Duration = Duration::from_secs(3);

/// Interval between two closed connections: five a second.
const GAP: Duration = Duration::from_millis(200);

/// Number of streams above the mean that are never a surplus.
const SLACK: usize = 10;

/// Rebalancing of the connections of this instance.
pub(crate) struct Balance {
    pub(crate) connections: Arc<Connections>,
    pub(crate) metrics: Metrics,
    /// `host:port` of the monitoring ports of all instances. A name may resolve to many, this one among them.
    pub(crate) peers: Vec<String>,
    /// Identifier of this instance among the answers.
    pub(crate) id: String,
}

/// Returns the number of streams to close, from the streams here and at each other instance that answers and is not draining:
/// those above 1.1 x the mean + 10. Without other instances, none.
fn surplus(own: usize, others: &[usize]) -> usize {
    if others.is_empty() {
        return 0;
    }
    // The reported numbers cannot overflow.
    let total: u128 = others.iter().chain([&own]).map(|streams| *streams as u128).sum();
    let instances = others.len() as u128 + 1;
    let fair = (total * 11).div_ceil(instances * 10);
    own.saturating_sub(usize::try_from(fair).unwrap_or(usize::MAX).saturating_add(SLACK))
}

// === impl Balance ===

impl Balance {
    /// Runs until it is dropped; idle while `ready` returns `false`.
    pub(crate) async fn run(self, ready: impl Fn() -> bool) {
        loop {
            sleep(ROUND).await;
            if !ready() {
                continue;
            }
            let others = self.others().await;
            let own = self.connections.streams();
            let mut left = surplus(own, &others);
            if left == 0 {
                continue;
            }
            info!(
                streams = own,
                ?others,
                surplus = left,
                "more streams than the fair share; closing some connections"
            );
            // The next round reads the loads again.
            for _ in 0..ROUND.as_millis() / GAP.as_millis() {
                let Some(peer) = self.chosen(left).filter(|_| ready()) else { break };
                left -= peer.streams().min(left);
                self.metrics.shed();
                peer.advance(Stage::Leaving(Farewell::Rebalance));
                sleep(GAP).await;
            }
        }
    }

    /// Returns a connection that carries streams, at most this many.
    fn chosen(&self, most: usize) -> Option<Arc<Peer>> {
        let mut peers = self.connections.list();
        peers.retain(|peer| peer.is_serving() && (1..=most).contains(&peer.streams()));
        let first = pace::shuffled(peers.len()).into_iter().next()?;
        peers.get(first).cloned()
    }

    /// Returns the loads of the other instances that answer and are not draining.
    async fn others(&self) -> Vec<usize> {
        let resolved = join_all(self.peers.iter().map(|peer| resolve(peer))).await;
        let addresses: BTreeSet<SocketAddr> = resolved.into_iter().flatten().collect();
        let loads = join_all(addresses.into_iter().map(|address| async move {
            load::ask(address)
                .await
                .inspect_err(|error| debug!("load of {address} unavailable: {error:#}"))
                .ok()
        }));
        // An instance with two addresses counts once.
        let mut seen = BTreeSet::from([self.id.clone()]);
        let others = loads.await.into_iter().flatten().filter(|load| seen.insert(load.id.clone()));
        others.filter(|load: &Load| !load.draining).map(|load| load.streams).collect()
    }
}

async fn resolve(peer: &str) -> Vec<SocketAddr> {
    match tokio::time::timeout(load::PATIENCE, tokio::net::lookup_host(peer)).await {
        Ok(Ok(addresses)) => addresses.collect(),
        Ok(Err(error)) => {
            debug!(peer, %error, "cannot be resolved");
            Vec::new()
        }
        Err(_) => {
            debug!(peer, "resolve: timed out");
            Vec::new()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_clearly_above_the_share_of_two_or_more_is_shed() {
        for (own, others, expected) in [
            // No other instance.
            (1000, &[][..], 0),
            (0, &[0], 0),
            // The mean is 500: 560 may stay.
            (1000, &[0], 440),
            (561, &[439], 1),
            (560, &[440], 0),
            (440, &[560], 0),
            // Few streams are no surplus.
            (20, &[0], 0),
            (22, &[0], 0),
            (24, &[0], 0),
            (25, &[0], 1),
            (900, &[0, 0], 560),
            (400, &[300, 300], 23),
            (usize::MAX, &[usize::MAX], 0),
        ] {
            assert_eq!(surplus(own, others), expected, "{own} beside {others:?}");
        }
    }
}

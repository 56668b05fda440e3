//! Drain of all connections: GOAWAY is spread over time, so that thousands of proxies do not connect to another instance at the
//! same moment.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{info, warn};

use super::peer::{Farewell, Stage};
use super::{Connections, pace};

/// Ends all connections within nine tenths of `time`: GOAWAY in the first seven tenths, each at its own moment; after nine tenths
/// the remaining ones are closed.
pub(crate) async fn drain(connections: &Connections, time: Duration) {
    let start = Instant::now();
    let mut peers = connections.list();
    if peers.is_empty() {
        return;
    }
    info!(connections = peers.len(), streams = connections.streams(), "draining");
    let mut order = pace::shuffled(peers.len()).into_iter();
    peers.sort_by_cached_key(|_| order.next());
    let streams: Vec<usize> = peers.iter().map(|peer| peer.streams()).collect();
    let moments = pace::spread(&streams, time / 10 * 7);
    let all = async {
        for (peer, moment) in peers.iter().zip(moments) {
            sleep_until(start + moment).await;
            peer.advance(Stage::Leaving(Farewell::Shutdown));
        }
        // Connections whose handshake was in progress when accepting stopped.
        for peer in connections.list() {
            peer.advance(Stage::Leaving(Farewell::Shutdown));
        }
        connections.emptied().await;
    };
    if timeout_at(start + time / 10 * 9, all).await.is_err() {
        warn!(connections = connections.list().len(), "closing remaining connections");
        connections.cut();
    }
}

//! The end of all connections: each told to leave at a moment of its own, so that thousands of proxies do not ask
//! another instance at the same moment.

use std::time::Duration;

use tokio::time::{Instant, sleep_until, timeout_at};
use tracing::{info, warn};

use super::peer::{Farewell, Stage};
use super::{Connections, pace};

/// Ends all connections within `time`, the last tenth of which is for others: in the first seven tenths each is told
/// to leave, after nine tenths those that remain are cut.
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
        // Those whose handshake was under way when we stopped accepting.
        for peer in connections.list() {
            peer.advance(Stage::Leaving(Farewell::Shutdown));
        }
        connections.emptied().await;
    };
    if timeout_at(start + time / 10 * 9, all).await.is_err() {
        warn!(connections = connections.list().len(), "cutting what has not left");
        connections.cut();
    }
}

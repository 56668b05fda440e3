//! Accepts connections on a port up to a limit, and detects those without progress. The protocol is the caller's.

use std::{convert::Infallible, sync::Arc, time::Duration};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use tokio::{
    net::{TcpListener, TcpStream},
    sync::{Notify, Semaphore},
    time::{sleep, timeout},
};
use tracing::debug;

/// Out of file descriptors: the next try is no better at once.
const PAUSE: Duration = Duration::from_millis(50);

/// Serves at most `bound` connections at once. The others wait in the backlog, where they cost nothing.
pub(crate) async fn serve<F: Future<Output = ()> + Send + 'static>(
    listener: TcpListener,
    bound: usize,
    connection: impl Fn(TcpStream) -> F,
) -> Infallible {
    let free = Arc::new(Semaphore::new(bound));
    loop {
        // The semaphore is never closed; without a permit no connection is accepted.
        let permit = Arc::clone(&free).acquire_owned().await;
        match listener.accept().await {
            Ok((stream, _)) => {
                let served = connection(stream);
                tokio::spawn(async move {
                    served.await;
                    drop(permit);
                });
            }
            Err(error) => {
                debug!(%error, address = ?listener.local_addr(), "accept");
                sleep(PAUSE).await;
            }
        }
    }
}

/// Body of a response, possibly streamed.
pub(crate) type ResponseBody = UnsyncBoxBody<Bytes, hyper::Error>;

/// Progress of a response of unknown length: notified whenever a part of it was sent.
#[derive(Debug, Default)]
pub(crate) struct Progress(Notify);

// === impl Progress ===

impl Progress {
    pub(crate) fn advance(&self) {
        self.0.notify_one();
    }

    /// Returns when there has been no beat for so long. One waits at a time.
    pub(crate) async fn stalled(&self, patience: Duration) {
        while timeout(patience, self.0.notified()).await.is_ok() {}
    }
}

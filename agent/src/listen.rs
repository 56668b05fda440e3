//! Accepts connections on a port, so many at a time, and notices those that stand still. What is said on
//! them is the caller's.

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
        // Never closed, so never an error; and without a permit nobody is accepted.
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

/// The progress of an answer whose length nobody knows: it beats whenever a part of it has been taken.
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

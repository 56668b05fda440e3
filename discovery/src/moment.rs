//! Waiting for a moment that may never come.

use std::time::Instant;

/// Waits until `due`, or for ever.
pub(crate) async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

//! Optional deadlines.

use std::time::Instant;

/// Waits until `due`. Never returns for `None`.
pub(crate) async fn at(due: Option<Instant>) {
    match due {
        Some(due) => tokio::time::sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}

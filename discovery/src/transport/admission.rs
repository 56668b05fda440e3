//! Rate limit of new streams.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bucket::{Bucket, Verdict};

/// Maximum wait for admission. A stream that would wait longer is refused, and the client comes back later or connects to another
/// instance. Istio's limit is a second; but a refused proxy backs off for up to half a minute, and a waiting one costs no more
/// than an idle one: 5,000 that connect at once are all admitted after 4 s on two cores.
const PATIENCE: Duration = Duration::from_secs(10);

/// New streams per core and second, unless `PILOT_MAX_REQUESTS_PER_SECOND` sets a total.
///
/// A new stream costs about a millisecond of a core for 1,000 clusters and their endpoints: most of it is sending what proxies of
/// its class share, and concurrent generation is bounded elsewhere. The rate leaves half of each core to connected proxies.
/// (Istio generates for each stream, and admits 12 a core.)
const A_CORE: u32 = 500;

/// Admission of new streams.
pub(crate) struct Admission {
    bucket: Mutex<Bucket>,
}

/// Error: too many new streams in this second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many streams are opened at once; try again later")]
pub(crate) struct Crowded;

// === impl Admission ===

impl Admission {
    /// Creates the limit: a rate per second, and a burst of one second; `None`: by the number of cores.
    pub(crate) fn new(per_second: Option<f64>) -> Self {
        let cores =
            std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        let rate = per_second.unwrap_or_else(|| f64::from(A_CORE.saturating_mul(cores)));
        Self { bucket: Mutex::new(Bucket::new(rate, rate.max(1.0), Instant::now())) }
    }

    /// Waits for admission, in order of arrival.
    pub(crate) async fn turn(&self) -> Result<(), Crowded> {
        let verdict =
            self.bucket.lock().unwrap_or_else(PoisonError::into_inner).take(Instant::now(), PATIENCE);
        match verdict {
            Verdict::Now => Ok(()),
            Verdict::After(wait) => {
                tokio::time::sleep(wait).await;
                Ok(())
            }
            Verdict::Never => Err(Crowded),
        }
    }
}

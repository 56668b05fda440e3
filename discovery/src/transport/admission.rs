//! How many streams open in a second.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::bucket::{Bucket, Verdict};

/// How long a stream waits for its turn. Whoever would wait longer is refused, and comes back later or to another
/// instance. Istio's waits for a second; but a proxy that is refused backs off for up to half a minute, and one that
/// waits costs no more than one that is idle: 5,000 that come at once are all there after 4 s on two cores.
const PATIENCE: Duration = Duration::from_secs(10);

/// Streams that a core may take on in a second, unless `PILOT_MAX_REQUESTS_PER_SECOND` says another number for all.
///
/// What a newcomer costs is mostly to send it what all of its kind share: about a millisecond of a core for 1,000
/// clusters and their endpoints, for how much is generated at once is bounded elsewhere. So this leaves half of each core
/// to those who are connected already, however many come. (Istio generates for each of them, and takes 12 a core.)
const A_CORE: u32 = 500;

/// The gate that new streams pass.
pub(crate) struct Admission {
    bucket: Mutex<Bucket>,
}

/// Too many streams open in this second.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many streams are opened at once; try again later")]
pub(crate) struct Crowded;

// === impl Admission ===

impl Admission {
    /// So many a second, and as many in a burst: a second's worth that came early; `None`: by the number of cores.
    pub(crate) fn new(per_second: Option<f64>) -> Self {
        let cores =
            std::thread::available_parallelism().map_or(1, |cores| u32::try_from(cores.get()).unwrap_or(1));
        let rate = per_second.unwrap_or_else(|| f64::from(A_CORE.saturating_mul(cores)));
        Self { bucket: Mutex::new(Bucket::new(rate, rate.max(1.0), Instant::now())) }
    }

    /// Waits for a turn, in the order of asking.
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

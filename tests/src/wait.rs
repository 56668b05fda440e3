//! Waiting for a condition, with a deadline.

use std::time::{Duration, Instant};

use anyhow::{Context, Result};

/// Pause between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Repeats `attempt` until it succeeds. After the deadline the last error is returned.
pub async fn eventually<T>(
    within: Duration,
    what: &str,
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let deadline = Instant::now() + within;
    loop {
        let error = match tokio::time::timeout(within, attempt()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => error,
            Err(_) => anyhow::anyhow!("the attempt did not return within the time limit"),
        };
        if Instant::now() >= deadline {
            return Err(error).with_context(|| format!("{what}: not within {within:?}"));
        }
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[tokio::test]
    async fn eventually_returns_the_first_success() {
        let mut tries = 0;
        let value = eventually(Duration::from_secs(5), "three tries", async || {
            tries += 1;
            if tries < 3 {
                bail!("only {tries}");
            }
            Ok(tries)
        });
        assert_eq!(value.await.unwrap(), 3);
    }

    #[tokio::test]
    async fn eventually_returns_the_last_error_after_the_deadline() {
        let never = eventually::<()>(Duration::from_millis(30), "the door opens", async || bail!("locked"));
        assert_eq!(format!("{:#}", never.await.unwrap_err()), "the door opens: not within 30ms: locked");
        let stuck = eventually::<()>(Duration::from_millis(30), "the door opens", std::future::pending);
        assert!(format!("{:#}", stuck.await.unwrap_err()).contains("did not return"));
    }
}

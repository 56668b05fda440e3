//! Istio's switches, and ours, in what they do to a request or a connection that lasts.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pilot_tests::solo::Setup;

use super::{Sidecar, faster_than, hold, under_way};

/// A request takes 3 s; under these settings it is `Some(answered)`.
async fn slow_request(proxy: &[(&str, &str)], environment: &[(&str, &str)]) -> Result<(bool, String)> {
    let mut setup = Setup::new()?;
    setup.proxy.extend(proxy.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())));
    setup
        .environment
        .extend(environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
    let mut sidecar = Sidecar::ready(&setup).await?;
    let request = under_way(&sidecar.solo, "/delay/3000").await?;
    let (_, code) = sidecar.terminate().await?;
    ensure!(code == 0, "{code}\n{}", sidecar.solo.log());
    Ok((request.await?.is_ok(), sidecar.solo.log()))
}

const QUICK: (&str, &str) = ("MINIMUM_DRAIN_DURATION", "0s");

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_duration_of_proxy_config_ends_a_request_that_lasts_longer() -> Result<()> {
    for (duration, expected) in [("1s", false), ("60s", true)] {
        let (answered, log) = slow_request(&[("terminationDrainDuration", duration)], &[QUICK]).await?;
        ensure!(answered == expected, "{duration}: {answered}\n{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_drain_duration_of_istios_older_variable_counts_where_proxy_config_says_nothing() -> Result<()> {
    for (seconds, expected) in [("1", false), ("60", true)] {
        let older = ("TERMINATION_DRAIN_DURATION_SECONDS", seconds);
        let (answered, log) = slow_request(&[], &[QUICK, older]).await?;
        ensure!(answered == expected, "{seconds}: {answered}\n{log}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_asks_for_zero_connections_waits_longer_than_the_drain_duration() -> Result<()> {
    let one = ("terminationDrainDuration", "1s");
    let zero = ("EXIT_ON_ZERO_ACTIVE_CONNECTIONS", "true");
    let (answered, log) = slow_request(&[one], &[QUICK, zero]).await?;
    ensure!(answered, "{log}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_minimum_that_was_asked_for_is_kept_though_nothing_is_left() -> Result<()> {
    let mut setup = Setup::new()?;
    setup.environment.push(("MINIMUM_DRAIN_DURATION".into(), "3s".into()));
    let mut sidecar = Sidecar::ready(&setup).await?;
    let (took, code) = sidecar.terminate().await?;
    ensure!(took >= Duration::from_secs(3), "{took:?}");
    ensure!(code == 0, "{code}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_grace_period_is_used_but_never_overrun() -> Result<()> {
    let mut setup = Setup::new()?;
    setup.flags.extend(["--terminationGracePeriod".into(), "8s".into()]);
    // Settings of the platform take precedence.
    setup.proxy.insert("terminationDrainDuration".into(), "1s".into());
    faster_than(Duration::from_secs(8), async || {
        let mut sidecar = Sidecar::ready(&setup).await?;
        let _held = hold(&sidecar.solo).await?;
        let request = under_way(&sidecar.solo, "/delay/3000").await?;
        let (took, code) = sidecar.terminate().await?;
        request.await?.context("a request shorter than the grace period")?;
        ensure!(code == 0, "{code}");
        // A connection that never ends is held for three quarters of it.
        ensure!(took >= Duration::from_secs(6), "{took:?}");
        Ok(took)
    })
    .await
}

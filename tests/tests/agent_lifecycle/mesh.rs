//! The same beside a control plane: listeners and clusters come by ADS, and come again for each Envoy.

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use pilot_tests::load::FailureKind;
use pilot_tests::mesh::{END, Mesh, Options};
use pilot_tests::two_services::TwoServices;
use pilot_tests::wait::eventually;

use super::ENGINES;

fn with(engine: &str) -> Result<Options> {
    Ok(Options { flags: vec![format!("--hotRestartMode={engine}")], ..Options::new()? })
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_restarts_lose_nothing_where_listeners_come_from_the_control_plane() -> Result<()> {
    for engine in ENGINES {
        let scene = TwoServices::start(&["a", "b"]).await?;
        let mut mesh = Mesh::start(&scene.objects(&["a", "b"])?, &with(engine.name())?).await?;
        let load = scene.load();
        for _ in 0..3 {
            mesh.sidecar.restart().await.with_context(|| mesh.sidecar.log())?;
            ensure!(mesh.sidecar.is_ready().await, "not ready after a hand-over");
        }
        load.stop()
            .await?
            .ensure_no_failures()
            .with_context(|| format!("{}: {}", engine.name(), mesh.sidecar.log()))?;
        mesh.ensure_healthy().await?;
    }
    Ok(())
}

/// And the old Envoy serves what comes and goes meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn while_the_control_plane_is_away_a_new_envoy_does_not_take_over() -> Result<()> {
    let scene = TwoServices::start(&["a"]).await?;
    let mut mesh = Mesh::start(&scene.objects(&["a"])?, &with("mediated")?).await?;
    let before = mesh.sidecar.envoy()?.pid;
    let load = scene.load();
    mesh.discovery.stop().await?;
    let (rising, _) = tokio::join!(
        eventually(END, "another Envoy rises", async || {
            let state = pilot_tests::net::get_ok(mesh.sidecar.status, "/lifecycle").await?;
            ensure!(state.contains("handing-over"), "{state}");
            Ok(())
        }),
        pilot_tests::net::post_ok(mesh.sidecar.status, "/restart"),
    );
    rising?;
    // Long enough for an Envoy that has its configuration.
    tokio::time::sleep(std::time::Duration::from_secs(2)).await;
    ensure!(mesh.sidecar.is_ready().await, "the one that serves is ready");
    ensure!(load.report().failures.is_empty(), "{:?}", load.report().failures.first());
    mesh.discovery.restart().await?;
    let over = eventually(END, "the new one is alone", async || {
        let now = mesh.sidecar.envoy()?.pid;
        ensure!(now != before, "the old one");
        Ok(())
    });
    over.await.with_context(|| mesh.sidecar.log())?;
    load.stop().await?.ensure_no_failures().with_context(|| mesh.sidecar.log())?;
    mesh.ensure_healthy().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crash_refuses_no_new_connection_to_a_listener_of_the_control_planes() -> Result<()> {
    let scene = TwoServices::start(&["a", "b"]).await?;
    let mut mesh = Mesh::start(&scene.objects(&["a", "b"])?, &with("mediated")?).await?;
    let load = scene.load();
    for _ in 0..3 {
        let before = mesh.sidecar.envoy()?.pid;
        held(&mesh).await?;
        kill(before, Signal::SIGKILL)?;
        let back = eventually(END, "another Envoy runs", async || {
            ensure!(mesh.sidecar.envoy()?.pid != before, "it is the same one");
            Ok(())
        });
        back.await?;
        mesh.sidecar.ready().await?;
    }
    let refused: Vec<_> = load
        .stop()
        .await?
        .failures
        .into_iter()
        .filter(|failure| failure.kind == FailureKind::Refused)
        .collect();
    ensure!(
        refused.is_empty(),
        "{} refused, first {:?}: {}",
        refused.len(),
        refused.first(),
        mesh.sidecar.log()
    );
    mesh.ensure_healthy().await
}

/// Waits until the agent has retained the sockets of the serving Envoy: it requests them once a second.
async fn held(mesh: &Mesh) -> Result<()> {
    let envoy = mesh.sidecar.envoy()?.pid;
    let agent = mesh.sidecar.agent()?;
    eventually(END, "the agent holds listening sockets", async || {
        let of = |pid| -> Result<std::collections::BTreeSet<String>> {
            let fds = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
            Ok(fds
                .filter_map(|fd| std::fs::read_link(fd.ok()?.path()).ok()?.to_str().map(str::to_owned))
                .filter(|link| link.starts_with("socket:"))
                .collect())
        };
        let shared = of(agent)?.intersection(&of(envoy)?).count();
        // Two services on one worker, and the health port.
        ensure!(shared >= 3, "{shared} sockets are held");
        Ok(())
    })
    .await
}

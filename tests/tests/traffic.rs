//! Real requests through a real Envoy while the world changes around it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use pilot_tests::load::{Class, Load, Report};
use pilot_tests::manifest::{Port, endpoint_slice, service};
use pilot_tests::mesh::{Mesh, Options};
use pilot_tests::net::{free_port, get_ok, local, loopback};
use pilot_tests::two_services::{MixedLoad, TwoServices};
use pilot_tests::upstream::Upstream;
use pilot_tests::wait::eventually;

/// How long a change may take on a busy machine. How fast it is on a quiet one is shown by the demo.
const CHANGE: Duration = Duration::from_secs(10);

/// What `load` does for a while is what it would do for ever.
const WHILE: Duration = Duration::from_millis(500);

/// Waits until each class is answered by exactly these endpoints.
async fn served_by(load: &MixedLoad, endpoints: &[&str]) -> Result<()> {
    let expected: BTreeSet<&str> = endpoints.iter().copied().collect();
    eventually(CHANGE, &format!("answers come from {endpoints:?}"), async || {
        let since = Instant::now();
        tokio::time::sleep(WHILE).await;
        for report in load.reports() {
            let answered: BTreeSet<&str> = report
                .answers
                .iter()
                .filter(|answer| answer.at.checked_sub(answer.took).is_some_and(|asked| asked > since))
                .map(|answer| answer.endpoint.as_str())
                .collect();
            ensure!(answered == expected, "they come from {answered:?}; {:?}", report.failures.first());
        }
        Ok(())
    })
    .await
}

fn ensure_no_failures(report: &Report) -> Result<()> {
    println!("{:?}", report.by_endpoint());
    report.ensure_no_failures()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_of_every_kind_reach_every_endpoint() -> Result<()> {
    let scene = TwoServices::start(&["a", "b"]).await?;
    let mut mesh = Mesh::start(&scene.objects(&["a", "b"])?, &Options::new()?).await?;
    let load = scene.load();
    served_by(&load, &["a", "b"]).await?;
    ensure_no_failures(&load.stop().await?)?;
    mesh.ensure_healthy().await
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoints_come_and_go_without_a_failed_request() -> Result<()> {
    let scene = TwoServices::start(&["a", "b", "c"]).await?;
    let mut mesh = Mesh::start(&scene.objects(&["a"])?, &Options::new()?).await?;
    let load = scene.load();
    for serving in [&["a"][..], &["a", "b"], &["b", "c"], &["c"], &["a", "b", "c"]] {
        mesh.write(&scene.objects(serving)?)?;
        served_by(&load, serving).await?;
    }
    ensure_no_failures(&load.stop().await?)?;
    mesh.ensure_healthy().await
}

#[tokio::test(flavor = "multi_thread")]
async fn services_come_and_go_while_others_are_served() -> Result<()> {
    let scene = TwoServices::start(&["a"]).await?;
    let mut mesh = Mesh::start(&scene.objects(&["a"])?, &Options::new()?).await?;
    let load = scene.load();

    let port = [Port::new("http-late", free_port()?, free_port()?)];
    let _late = Upstream::http("late", (loopback(9), port[0].target).into()).await?;
    let ask = || get_ok(local(port[0].port), "/");
    ensure!(ask().await.is_err(), "nobody declared the port yet");
    let objects = [service("late", "10.0.0.3", &port), endpoint_slice("late", &port, &[loopback(9)])];
    for _ in 0..2 {
        mesh.folder.write("late.yaml", &objects)?;
        // The new service has one name only, which is not the address that `get_ok` asks for.
        let answered = eventually(CHANGE, "the new service answers", async || {
            let one = Load { clients: 1, ..Load::new(Class::New, local(port[0].port), "late") }.start();
            tokio::time::sleep(Duration::from_millis(20)).await;
            one.stop().await?.ensure_no_failures()
        });
        answered.await?;
        mesh.folder.remove("late.yaml")?;
        let gone = eventually(CHANGE, "the removed service is gone", async || {
            ensure!(ask().await.is_err(), "its port is still open");
            Ok(())
        });
        gone.await?;
    }

    ensure_no_failures(&load.stop().await?)?;
    mesh.ensure_healthy().await
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_flows_while_the_control_plane_is_away() -> Result<()> {
    let scene = TwoServices::start(&["a", "b"]).await?;
    let mut mesh = Mesh::start(&scene.objects(&["a"])?, &Options::new()?).await?;
    let load = scene.load();
    served_by(&load, &["a"]).await?;

    let status = mesh.discovery.stop().await?;
    ensure!(status.success(), "pilot-discovery ended with {status}");
    mesh.write(&scene.objects(&["b"])?)?;
    served_by(&load, &["a"]).await?;

    mesh.discovery.restart().await?;
    served_by(&load, &["b"]).await?;
    ensure_no_failures(&load.stop().await?)?;
    mesh.ensure_healthy().await
}

#[tokio::test(flavor = "multi_thread")]
async fn broken_yaml_changes_nothing_and_is_told() -> Result<()> {
    let scene = TwoServices::start(&["a", "b"]).await?;
    let mut mesh = Mesh::start(&scene.objects(&["a"])?, &Options::new()?).await?;
    let load = scene.load();
    served_by(&load, &["a"]).await?;
    let good = std::fs::read_to_string(mesh.folder.file(Mesh::FILE))?;

    // Cut inside a string: half in the last document, half in one before others.
    let cut = |at: Option<usize>| at.and_then(|at| good.get(..at + 4)).unwrap_or_default();
    let wrong_type = good.replacen("ports:", "ports: many\nwas:", 1);
    let broken = [
        ("cut in the last document", cut(good.rfind("\"127"))),
        ("cut in an earlier document", cut(good.find("\"127"))),
        ("not text", "\u{0}"),
        ("not YAML", "]["),
        ("a field of the wrong type", &wrong_type),
    ];
    for (what, text) in broken {
        mesh.folder.write_text(Mesh::FILE, text)?;
        tokio::time::sleep(WHILE).await;
        served_by(&load, &["a"]).await.context(what)?;
    }
    ensure!(
        mesh.discovery.log().contains(Mesh::FILE),
        "the log does not name the file:\n{}",
        mesh.discovery.log()
    );

    mesh.write(&scene.objects(&["b"])?)?;
    served_by(&load, &["b"]).await?;
    ensure_no_failures(&load.stop().await?)?;
    mesh.ensure_healthy().await
}

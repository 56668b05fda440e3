//! Traffic through a real Envoy during configuration changes.

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

/// Time limit for a change on a busy machine. The demo shows the time on a quiet one.
const CHANGE: Duration = Duration::from_secs(10);

/// Period of load that is representative.
const SAMPLE: Duration = Duration::from_millis(500);

/// Waits until each class is answered by exactly these endpoints.
async fn served_by(load: &MixedLoad, endpoints: &[&str]) -> Result<()> {
    let expected: BTreeSet<&str> = endpoints.iter().copied().collect();
    eventually(CHANGE, &format!("answers come from {endpoints:?}"), async || {
        let since = Instant::now();
        tokio::time::sleep(SAMPLE).await;
        for report in load.reports() {
            let answered: BTreeSet<&str> = report
                .answers
                .iter()
                .filter(|answer| answer.at.checked_sub(answer.took).is_some_and(|started| started > since))
                .map(|answer| answer.endpoint.as_str())
                .collect();
            ensure!(answered == expected, "answers come from {answered:?}; {:?}", report.failures.first());
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
async fn traffic_of_every_class_reaches_every_endpoint() -> Result<()> {
    let services = TwoServices::start(&["a", "b"]).await?;
    let mut mesh = Mesh::start(&services.objects(&["a", "b"])?, &Options::new()?).await?;
    let load = services.load();
    served_by(&load, &["a", "b"]).await?;
    ensure_no_failures(&load.stop().await?)?;
    mesh.ensure_healthy().await
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_changes_lose_no_requests() -> Result<()> {
    let services = TwoServices::start(&["a", "b", "c"]).await?;
    let mut mesh = Mesh::start(&services.objects(&["a"])?, &Options::new()?).await?;
    let load = services.load();
    for serving in [&["a"][..], &["a", "b"], &["b", "c"], &["c"], &["a", "b", "c"]] {
        mesh.write(&services.objects(serving)?)?;
        served_by(&load, serving).await?;
    }
    ensure_no_failures(&load.stop().await?)?;
    mesh.ensure_healthy().await
}

#[tokio::test(flavor = "multi_thread")]
async fn added_and_removed_services_lose_no_requests_of_others() -> Result<()> {
    let services = TwoServices::start(&["a"]).await?;
    let mut mesh = Mesh::start(&services.objects(&["a"])?, &Options::new()?).await?;
    let load = services.load();

    let port = [Port::new("http-late", free_port()?, free_port()?)];
    let _late = Upstream::http("late", (loopback(9), port[0].target).into()).await?;
    let ask = || get_ok(local(port[0].port), "/");
    ensure!(ask().await.is_err(), "the port is open before its service exists");
    let objects = [service("late", "10.0.0.3", &port), endpoint_slice("late", &port, &[loopback(9)])];
    for _ in 0..2 {
        mesh.folder.write("late.yaml", &objects)?;
        // The new service has one name only, and `get_ok` sends the address as the host.
        let answered = eventually(CHANGE, "the new service answers", async || {
            let one = Load { clients: 1, ..Load::new(Class::New, local(port[0].port), "late") }.start();
            tokio::time::sleep(Duration::from_millis(20)).await;
            one.stop().await?.ensure_no_failures()
        });
        answered.await?;
        mesh.folder.remove("late.yaml")?;
        let gone = eventually(CHANGE, "the removed service is gone", async || {
            ensure!(ask().await.is_err(), "the port is still open");
            Ok(())
        });
        gone.await?;
    }

    ensure_no_failures(&load.stop().await?)?;
    mesh.ensure_healthy().await
}

#[tokio::test(flavor = "multi_thread")]
async fn traffic_flows_while_the_control_plane_is_down() -> Result<()> {
    let services = TwoServices::start(&["a", "b"]).await?;
    let mut mesh = Mesh::start(&services.objects(&["a"])?, &Options::new()?).await?;
    let load = services.load();
    served_by(&load, &["a"]).await?;

    let status = mesh.discovery.stop().await?;
    ensure!(status.success(), "pilot-discovery ended with {status}");
    mesh.write(&services.objects(&["b"])?)?;
    served_by(&load, &["a"]).await?;

    mesh.discovery.restart().await?;
    served_by(&load, &["b"]).await?;
    ensure_no_failures(&load.stop().await?)?;
    mesh.ensure_healthy().await
}

#[tokio::test(flavor = "multi_thread")]
async fn invalid_yaml_is_logged_and_changes_nothing() -> Result<()> {
    let services = TwoServices::start(&["a", "b"]).await?;
    let mut mesh = Mesh::start(&services.objects(&["a"])?, &Options::new()?).await?;
    let load = services.load();
    served_by(&load, &["a"]).await?;
    let good = std::fs::read_to_string(mesh.folder.file(Mesh::FILE))?;

    // Cut inside a string, in the last document or in an earlier one.
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
        tokio::time::sleep(SAMPLE).await;
        served_by(&load, &["a"]).await.context(what)?;
    }
    ensure!(
        mesh.discovery.log().contains(Mesh::FILE),
        "the log does not name the file:\n{}",
        mesh.discovery.log()
    );

    mesh.write(&services.objects(&["b"])?)?;
    served_by(&load, &["b"]).await?;
    ensure_no_failures(&load.stop().await?)?;
    mesh.ensure_healthy().await
}

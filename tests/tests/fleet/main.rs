//! Many clients of one control plane: those who refuse, those who stop reading, those who must not notice, and what one
//! change costs all of them (`dependents`).
//!
//! Small meshes, because a debug build of the server makes resources twice to compare them. What it all costs is the
//! business of the bench `push`.

mod dependents;

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pilot_tests::fleet::{
    ClientRange, Codec, DiscoveryOptions, DiscoveryProcess, Fleet, FleetConfig, GeneratedMesh, Goal,
    HeldResources, Kind, Order, ResumeState, Visibility,
};
use pilot_tests::manifest::{Port, service};
use pilot_tests::net::get_ok;
use pilot_tests::programs::programs;
use pilot_tests::wait::eventually;

/// How long a debug build may take for anything that is asked here.
const PATIENCE: Duration = Duration::from_mins(1);

/// What is not sent within this is not sent. Many times the debounce.
const STILL: Duration = Duration::from_secs(1);

struct Scene {
    pilot: DiscoveryProcess,
    mesh: GeneratedMesh,
    _dir: tempfile::TempDir,
}

impl Scene {
    async fn start(services: u32, visibility: Visibility) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mesh = GeneratedMesh::write(dir.path(), services, visibility)?;
        let tuning = DiscoveryOptions {
            program: programs()?.discovery.clone(),
            debounce: Duration::from_millis(20),
            debounce_max: Duration::from_secs(1),
            identity: None,
        };
        let pilot = DiscoveryProcess::start(dir.path(), &mesh, &tuning).await?;
        Ok(Self { pilot, mesh, _dir: dir })
    }

    /// Clients that ask for everything and keep it, connected and configured.
    fn fleet(&self, streams: u32, codec: Codec, first: u32) -> Result<Fleet> {
        let mut setup = FleetConfig::new(self.pilot.grpc, streams, codec);
        (setup.first, setup.scopes) = (first, self.mesh.scopes());
        configured(setup)
    }
}

/// Such a fleet; its clients ask for everything and keep it.
fn configured(setup: FleetConfig) -> Result<Fleet> {
    let setup = FleetConfig { kinds: Kind::ALL.to_vec(), keep: 1, ..setup };
    let mut fleet = Fleet::spawn(Path::new(env!("CARGO_BIN_EXE_fleet")), &setup)?;
    fleet.mark(Goal::Configured)?;
    fleet.connect()?;
    fleet.all_reached(PATIENCE)?;
    Ok(fleet)
}

fn names(holdings: &HeldResources, kind: Kind) -> BTreeSet<&str> {
    holdings.get(&kind).into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// Versions by name, whenever they came.
fn versions(holdings: &HeldResources) -> Vec<(Kind, &str, &str)> {
    let all = holdings.iter().flat_map(|(kind, held)| held.iter().map(move |one| (*kind, one)));
    all.map(|(kind, (name, (version, _)))| (kind, name.as_str(), version.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_variants_hold_the_same_and_each_namespace_its_own() -> Result<()> {
    let mut scene = Scene::start(20, Visibility::Namespaces(4)).await?;
    let mut delta = scene.fleet(8, Codec::Delta, 0)?;
    let mut sotw = scene.fleet(8, Codec::Sotw, 8)?;
    for client in 0..8 {
        let (one, other) = (delta.holdings(client)?, sotw.holdings(client)?);
        for kind in Kind::ALL {
            ensure!(names(&one, kind) == names(&other, kind), "{kind:?} of client {client}");
        }
        ensure!(names(&one, Kind::Eds).len() == 20, "client {client}: {:?}", names(&one, Kind::Eds));
    }
    let (first, second) = (delta.holdings(0)?, delta.holdings(1)?);
    ensure!(names(&first, Kind::Cds) != names(&second, Kind::Cds), "both namespaces see the same");

    let all = Goal::Resources([(Kind::Cds, 20), (Kind::Eds, 20)].into());
    delta.mark(all.clone())?;
    sotw.mark(all)?;
    scene.mesh.change_everything()?;
    delta.all_reached(PATIENCE)?;
    sotw.all_reached(PATIENCE)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_listener_that_everybody_refuses_is_pushed_once_for_each_change() -> Result<()> {
    const CLIENTS: u32 = 1000;
    const BAD: &str = "172.31.0.9_9000";
    let scene = Scene::start(20, Visibility::All).await?;
    let mut fleet = scene.fleet(CLIENTS, Codec::Delta, 0)?;
    fleet.at(&Order::Refuse { name: Some(BAD.to_owned()) })?;

    // Another service takes over the address each time: another listener of the same name.
    let write = |change: u32| {
        let bad = service(&format!("bad-{change}"), "172.31.0.9", &[Port::new("tcp-bad", 9000, 9000)]);
        scene.mesh.folder.write("bad.yaml", &[bad])
    };
    for change in 1..=5 {
        fleet.mark(Goal::Resources([(Kind::Cds, 1), (Kind::Lds, 1)].into()))?;
        write(change)?;
        fleet.all_reached(PATIENCE)?;
        tokio::time::sleep(STILL).await;
        let totals = fleet.totals()?;
        let listeners = totals.responses.get(&Kind::Lds).copied();
        ensure!(listeners == Some(CLIENTS.into()), "change {change} was pushed so often: {totals:?}");
        ensure!(totals.refused == u64::from(CLIENTS) && totals.lost == 0, "change {change}: {totals:?}");
        for client in [0, CLIENTS / 2, CLIENTS - 1] {
            let held = fleet.holdings(client)?;
            let cluster = format!("outbound|9000||bad-{change}.default.svc.cluster.local");
            ensure!(names(&held, Kind::Cds).contains(cluster.as_str()), "client {client} lacks {cluster}");
            ensure!(names(&held, Kind::Lds).contains("0.0.0.0_8000"), "client {client} lost its listeners");
            ensure!(!names(&held, Kind::Lds).contains(BAD), "client {client} has what it refused");
        }
    }

    let status = get_ok(scene.pilot.monitoring, "/debug/push_status").await?;
    let named = status.contains(&format!("lds/{BAD}")) && status.contains("Service/default/bad-5");
    ensure!(named, "the object is not named: {status}");
    let metrics = get_ok(scene.pilot.monitoring, "/metrics").await?;
    let counted = r#"pilot_xds_quarantined_resources{type="lds",object="Service/default/bad-5"} 1000"#;
    ensure!(metrics.contains(counted), "{metrics}");

    fleet.at(&Order::Refuse { name: None })?;
    fleet.mark(Goal::of(Kind::Lds, 1))?;
    write(6)?;
    fleet.all_reached(PATIENCE)?;
    ensure!(names(&fleet.holdings(0)?, Kind::Lds).contains(BAD), "the mended listener did not come");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_stopped_gets_the_latest_state_only() -> Result<()> {
    const CHANGES: u32 = 10;
    let mut scene = Scene::start(50, Visibility::All).await?;
    let mut others = scene.fleet(90, Codec::Delta, 0)?;
    let mut sleepers = scene.fleet(10, Codec::Delta, 90)?;
    sleepers.mark(Goal::of(Kind::Eds, 1))?;
    sleepers.signal(Signal::SIGSTOP)?;
    for _ in 0..CHANGES {
        others.mark(Goal::of(Kind::Eds, 1))?;
        scene.mesh.change_endpoint(7)?;
        others.all_reached(PATIENCE)?;
    }
    let latest = others.holdings(0)?;
    sleepers.signal(Signal::SIGCONT)?;
    eventually(PATIENCE, "those who were stopped catch up", async || {
        for client in 0..10 {
            let held = sleepers.holdings(client)?;
            ensure!(versions(&held) == versions(&latest), "client {client} is behind");
        }
        Ok(())
    })
    .await?;
    tokio::time::sleep(STILL).await;
    let totals = sleepers.totals()?;
    let responses = totals.responses.get(&Kind::Eds).copied().context("no endpoints came")?;
    // One that was under way when they stopped, and the latest.
    ensure!(responses <= 2 * 10 && totals.lost == 0, "{CHANGES} changes became {totals:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn who_comes_back_with_versions_is_told_what_changed_meanwhile() -> Result<()> {
    const CLIENTS: u32 = 50;
    let mut scene = Scene::start(20, Visibility::All).await?;
    let mut fleet = scene.fleet(CLIENTS, Codec::Delta, 0)?;
    let mut witness = scene.fleet(1, Codec::Delta, CLIENTS)?;
    fleet.at(&Order::Disconnect { which: ClientRange::ALL })?;
    witness.mark(Goal::of(Kind::Eds, 1))?;
    scene.mesh.change_endpoint(3)?;
    witness.all_reached(PATIENCE)?;

    fleet.mark(Goal::of(Kind::Eds, 1))?;
    fleet.at(&Order::Connect { which: ClientRange::ALL, memory: ResumeState::Versions })?;
    fleet.all_reached(PATIENCE)?;
    tokio::time::sleep(STILL).await;
    let totals = fleet.totals()?;
    let sent: Vec<u64> = Kind::ALL.iter().filter_map(|kind| totals.resources.get(kind).copied()).collect();
    ensure!(sent == [0, u64::from(CLIENTS), 0, 0], "more than one changed: {totals:?}");
    let held = fleet.holdings(CLIENTS - 1)?;
    ensure!(versions(&held) == versions(&witness.holdings(0)?), "they hold different things");
    Ok(())
}

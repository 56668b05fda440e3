//! Many clients of one control plane: NACKs, stalled clients, reconnects, and the cost of one change (`dependents`).
//!
//! The meshes are small, because a debug build of the server generates resources twice and compares them. The bench `push`
//! measures the performance.

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

/// Time limit for a debug build.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Period without a response that counts as silence: many times the debounce.
const SILENCE: Duration = Duration::from_secs(1);

struct FleetTest {
    discovery: DiscoveryProcess,
    mesh: GeneratedMesh,
    _dir: tempfile::TempDir,
}

impl FleetTest {
    async fn start(services: u32, visibility: Visibility) -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let mesh = GeneratedMesh::write(dir.path(), services, visibility)?;
        let options = DiscoveryOptions {
            program: programs()?.discovery.clone(),
            debounce: Duration::from_millis(20),
            debounce_max: Duration::from_secs(1),
            identity: None,
        };
        let discovery = DiscoveryProcess::start(dir.path(), &mesh, &options).await?;
        Ok(Self { discovery, mesh, _dir: dir })
    }

    /// Starts clients that subscribe to everything and keep versions, and waits until they are configured.
    fn fleet(&self, streams: u32, codec: Codec, first: u32) -> Result<Fleet> {
        let mut config = FleetConfig::new(self.discovery.grpc, streams, codec);
        (config.first, config.scopes) = (first, self.mesh.scopes());
        configured(config)
    }
}

/// Starts such a fleet with these settings.
fn configured(config: FleetConfig) -> Result<Fleet> {
    let config = FleetConfig { kinds: Kind::ALL.to_vec(), keep: 1, ..config };
    let mut fleet = Fleet::spawn(Path::new(env!("CARGO_BIN_EXE_fleet")), &config)?;
    fleet.mark(Goal::Configured)?;
    fleet.connect()?;
    fleet.all_reached(TIMEOUT)?;
    Ok(fleet)
}

fn names(holdings: &HeldResources, kind: Kind) -> BTreeSet<&str> {
    holdings.get(&kind).into_iter().flatten().map(|(name, _)| name.as_str()).collect()
}

/// Returns versions by name, without the times of arrival.
fn versions(holdings: &HeldResources) -> Vec<(Kind, &str, &str)> {
    let all = holdings.iter().flat_map(|(kind, held)| held.iter().map(move |one| (*kind, one)));
    all.map(|(kind, (name, (version, _)))| (kind, name.as_str(), version.as_str())).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sotw_and_delta_clients_hold_the_same_resources_of_their_namespace() -> Result<()> {
    let mut test = FleetTest::start(20, Visibility::Namespaces(4)).await?;
    let mut delta = test.fleet(8, Codec::Delta, 0)?;
    let mut sotw = test.fleet(8, Codec::Sotw, 8)?;
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
    test.mesh.change_everything()?;
    delta.all_reached(TIMEOUT)?;
    sotw.all_reached(TIMEOUT)?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn listener_rejected_by_every_client_is_pushed_once_per_change() -> Result<()> {
    const CLIENTS: u32 = 1000;
    const BAD: &str = "172.31.0.9_9000";
    let test = FleetTest::start(20, Visibility::All).await?;
    let mut fleet = test.fleet(CLIENTS, Codec::Delta, 0)?;
    fleet.at(&Order::Refuse { name: Some(BAD.to_owned()) })?;

    // Each time another service takes the address: a different listener with the same name.
    let write = |change: u32| {
        let bad = service(&format!("bad-{change}"), "172.31.0.9", &[Port::new("tcp-bad", 9000, 9000)]);
        test.mesh.folder.write("bad.yaml", &[bad])
    };
    for change in 1..=5 {
        fleet.mark(Goal::Resources([(Kind::Cds, 1), (Kind::Lds, 1)].into()))?;
        write(change)?;
        fleet.all_reached(TIMEOUT)?;
        tokio::time::sleep(SILENCE).await;
        let totals = fleet.totals()?;
        let listeners = totals.responses.get(&Kind::Lds).copied();
        ensure!(
            listeners == Some(CLIENTS.into()),
            "change {change}: listener pushed {listeners:?} times: {totals:?}"
        );
        ensure!(totals.refused == u64::from(CLIENTS) && totals.lost == 0, "change {change}: {totals:?}");
        for client in [0, CLIENTS / 2, CLIENTS - 1] {
            let held = fleet.holdings(client)?;
            let cluster = format!("outbound|9000||bad-{change}.default.svc.cluster.local");
            ensure!(names(&held, Kind::Cds).contains(cluster.as_str()), "client {client} lacks {cluster}");
            ensure!(names(&held, Kind::Lds).contains("0.0.0.0_8000"), "client {client} lost its listeners");
            ensure!(
                !names(&held, Kind::Lds).contains(BAD),
                "client {client} holds the listener that it rejected"
            );
        }
    }

    let status = get_ok(test.discovery.monitoring, "/debug/push_status").await?;
    let named = status.contains(&format!("lds/{BAD}")) && status.contains("Service/default/bad-5");
    ensure!(named, "the object is not named: {status}");
    let metrics = get_ok(test.discovery.monitoring, "/metrics").await?;
    let counted = r#"pilot_xds_quarantined_resources{type="lds",object="Service/default/bad-5"} 1000"#;
    ensure!(metrics.contains(counted), "{metrics}");

    fleet.at(&Order::Refuse { name: None })?;
    fleet.mark(Goal::of(Kind::Lds, 1))?;
    write(6)?;
    fleet.all_reached(TIMEOUT)?;
    ensure!(names(&fleet.holdings(0)?, Kind::Lds).contains(BAD), "the corrected listener was not sent");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn stalled_clients_receive_only_the_latest_state() -> Result<()> {
    const CHANGES: u32 = 10;
    let mut test = FleetTest::start(50, Visibility::All).await?;
    let mut others = test.fleet(90, Codec::Delta, 0)?;
    let mut stalled = test.fleet(10, Codec::Delta, 90)?;
    stalled.mark(Goal::of(Kind::Eds, 1))?;
    stalled.signal(Signal::SIGSTOP)?;
    for _ in 0..CHANGES {
        others.mark(Goal::of(Kind::Eds, 1))?;
        test.mesh.change_endpoint(7)?;
        others.all_reached(TIMEOUT)?;
    }
    let latest = others.holdings(0)?;
    stalled.signal(Signal::SIGCONT)?;
    eventually(TIMEOUT, "the stalled clients catch up", async || {
        for client in 0..10 {
            let held = stalled.holdings(client)?;
            ensure!(versions(&held) == versions(&latest), "client {client} is behind");
        }
        Ok(())
    })
    .await?;
    tokio::time::sleep(SILENCE).await;
    let totals = stalled.totals()?;
    let responses = totals.responses.get(&Kind::Eds).copied().context("no EDS responses")?;
    // One response that was in flight when they stopped, and the latest.
    ensure!(responses <= 2 * 10 && totals.lost == 0, "{CHANGES} changes became {totals:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn clients_reconnecting_with_versions_receive_only_changes() -> Result<()> {
    const CLIENTS: u32 = 50;
    let mut test = FleetTest::start(20, Visibility::All).await?;
    let mut fleet = test.fleet(CLIENTS, Codec::Delta, 0)?;
    let mut observer = test.fleet(1, Codec::Delta, CLIENTS)?;
    fleet.at(&Order::Disconnect { which: ClientRange::ALL })?;
    observer.mark(Goal::of(Kind::Eds, 1))?;
    test.mesh.change_endpoint(3)?;
    observer.all_reached(TIMEOUT)?;

    fleet.mark(Goal::of(Kind::Eds, 1))?;
    fleet.at(&Order::Connect { which: ClientRange::ALL, memory: ResumeState::Versions })?;
    fleet.all_reached(TIMEOUT)?;
    tokio::time::sleep(SILENCE).await;
    let totals = fleet.totals()?;
    let sent: Vec<u64> = Kind::ALL.iter().filter_map(|kind| totals.resources.get(kind).copied()).collect();
    ensure!(sent == [0, u64::from(CLIENTS), 0, 0], "more than one resource was sent: {totals:?}");
    let held = fleet.holdings(CLIENTS - 1)?;
    ensure!(versions(&held) == versions(&observer.holdings(0)?), "they hold different resources");
    Ok(())
}

//! Tests of the harness itself, with a real Envoy and neither of our programs: load that should lose no requests loses none, and
//! load that must lose requests reports them.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::sys::signal::Signal;
use pilot_tests::envoy::envoy;
use pilot_tests::mesh::{END, START, unshare_pid_namespace};
use pilot_tests::net::{free_port, get_ok, local, post_ok};
use pilot_tests::process::{Process, ProcessInfo, children};
use pilot_tests::two_services::TwoServices;
use pilot_tests::wait::eventually;
use serde_json::{Value, json};

/// An Envoy between the load and the first endpoints.
struct StandaloneEnvoy {
    envoy: Process,
    admin: SocketAddr,
}

impl StandaloneEnvoy {
    async fn start(dir: &Path, services: &TwoServices) -> Result<Self> {
        let admin = local(free_port()?);
        fs::write(dir.join("envoy.json"), bootstrap(admin, services).to_string())?;
        let mut command = Command::new(envoy()?);
        command.args([
            "--concurrency",
            "1",
            "--disable-hot-restart",
            "--drain-strategy",
            "immediate",
            "-l",
            "error",
        ]);
        let envoy = Process::spawn("envoy", command.arg("-c").arg(dir.join("envoy.json")), dir)?;
        eventually(START, "Envoy is ready", async || get_ok(admin, "/ready").await).await?;
        Ok(Self { envoy, admin })
    }
}

fn address(address: SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}

fn bootstrap(admin: SocketAddr, services: &TwoServices) -> Value {
    let filter = |kind: &str, config: Value| {
        let mut typed = json!({"@type": format!("type.googleapis.com/envoy.extensions.filters.network.{kind}"), "stat_prefix": "x"});
        if let (Some(typed), Some(config)) = (typed.as_object_mut(), config.as_object()) {
            typed.extend(config.clone());
        }
        json!([{"filters": [{"name": "x", "typed_config": typed}]}])
    };
    let router = json!({"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"});
    let http = json!({
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "web"}}]}]},
        "http_filters": [{"name": "router", "typed_config": router}],
    });
    let listener = |name: &str, at: SocketAddr, chains: Value| json!({"name": name, "address": address(at), "filter_chains": chains});
    let cluster = |name: &str, to: SocketAddr| json!({"name": name, "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(to)}}]}]}});
    json!({
        "admin": {"address": address(admin)},
        "static_resources": {
            "listeners": [
                listener("web", services.web(), filter("http_connection_manager.v3.HttpConnectionManager", http)),
                listener("db", services.db(), filter("tcp_proxy.v3.TcpProxy", json!({"cluster": "db"}))),
            ],
            "clusters": [cluster("web", services.web_endpoint()), cluster("db", services.db_endpoint())],
        },
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn load_moved_before_envoy_ends_loses_no_requests() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let services = TwoServices::start(&["a"]).await?;
    let mut standalone = StandaloneEnvoy::start(dir.path(), &services).await?;
    let load = services.load();
    tokio::time::sleep(Duration::from_millis(500)).await;
    ensure!(load.reports().iter().all(|report| report.answers.len() > 10), "too few answers");
    load.bypass_sidecar(&services);
    // Requests in flight when the load moved have been answered by now, or have failed for another reason.
    tokio::time::sleep(Duration::from_secs(1)).await;
    standalone.envoy.signal(Signal::SIGTERM)?;
    ensure!(standalone.envoy.exit(END).await?.success(), "{}", standalone.envoy.log());
    load.stop().await?.ensure_no_failures()
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_close_and_goaway_are_honoured_without_loss() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let services = TwoServices::start(&["a"]).await?;
    let standalone = StandaloneEnvoy::start(dir.path(), &services).await?;
    let load = services.load();
    tokio::time::sleep(Duration::from_millis(300)).await;
    let before = connections(standalone.admin).await?;
    // From now on answers carry `connection: close` and GOAWAY; Envoy still accepts connections.
    post_ok(standalone.admin, "/healthcheck/fail").await?;
    tokio::time::sleep(Duration::from_millis(300)).await;
    let after = connections(standalone.admin).await?;
    ensure!(after > before + 20, "clients kept their connections: {before}, then {after}");
    load.stop().await?.ensure_no_failures()
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_lost_by_a_killed_envoy_are_reported_with_the_reason() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let services = TwoServices::start(&["a"]).await?;
    let standalone = StandaloneEnvoy::start(dir.path(), &services).await?;
    let load = services.load();
    tokio::time::sleep(Duration::from_millis(300)).await;
    drop(standalone);
    tokio::time::sleep(Duration::from_millis(300)).await;
    for report in load.reports() {
        let error = report.ensure_no_failures().err().context("a class lost no requests")?.to_string();
        ensure!(error.contains("connect: Connection refused"), "{error}");
    }
    load.stop().await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn program_in_a_pid_namespace_is_pid_1_and_dies_with_its_owner() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let mut command = unshare_pid_namespace(Path::new("sleep"))?;
    let owner = Process::spawn("sleep", command.arg("60"), dir.path())?;
    let inside = eventually(START, "sleep runs", async || {
        let child = children(owner.pid())?.into_iter().next().context("no child yet")?;
        ensure!(child.name == "sleep", "it is {child:?}");
        Ok(child)
    });
    let inside = inside.await?;
    ensure!(inside.pid_in_namespace == 1, "{inside:?}");
    drop(owner);
    let gone = eventually(END, "the process is gone", async || {
        ensure!(ProcessInfo::read(inside.pid).is_none(), "it still exists");
        Ok(())
    });
    gone.await
}

/// Returns the number of HTTP connections accepted by Envoy's `web` listener so far.
async fn connections(admin: SocketAddr) -> Result<u64> {
    let stats = get_ok(admin, "/stats?filter=^http.x.downstream_cx_total$").await?;
    stats.trim().rsplit(' ').next().and_then(|count| count.parse().ok()).with_context(|| stats.clone())
}

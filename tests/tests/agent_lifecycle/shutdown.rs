//! Shutdown: requested once, completed within one deadline, at any moment.

mod clients;
mod moments;
mod settings;
mod traces;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::sys::signal::{Signal, kill};
use pilot_tests::mesh::END;
use pilot_tests::net::{free_port, get_ok, local};
use pilot_tests::solo::{Setup, Solo, Stage};
use pilot_tests::wait::eventually;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::sleep;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// Interval of polls of `/proc`.
const POLL: Duration = Duration::from_millis(5);

/// Succeeds with the first of three attempts that takes less than `limit`. A busy machine delays one, hardly all.
pub(super) async fn faster_than(
    limit: Duration,
    mut attempt: impl AsyncFnMut() -> Result<Duration>,
) -> Result<()> {
    let mut took = Vec::new();
    for _ in 0..3 {
        took.push(attempt().await?);
        if took.iter().any(|took| *took < limit) {
            return Ok(());
        }
    }
    anyhow::bail!("{took:?}: none within {limit:?}")
}

/// An agent before a stage of its own. Dropped from the top: the folder goes last.
pub(super) struct Sidecar {
    pub(super) solo: Solo,
    pub(super) stage: Stage,
    pub(super) dir: TempDir,
}

// === impl Sidecar ===

impl Sidecar {
    /// Starts one; it need not be ready when this returns.
    pub(super) async fn start(setup: &Setup) -> Result<Self> {
        Self::start_with(setup, |_| Ok(())).await
    }

    /// The same with another bootstrap.
    pub(super) async fn start_with(
        setup: &Setup,
        change: impl FnOnce(&mut Value) -> Result<()>,
    ) -> Result<Self> {
        let (dir, stage) = (tempfile::tempdir()?, Stage::start(LOCALHOST).await?);
        let solo = Solo::start_with(dir.path(), &stage.front()?, setup, change)?;
        Ok(Self { solo, stage, dir })
    }

    /// Starts one that is ready.
    pub(super) async fn ready(setup: &Setup) -> Result<Self> {
        let mut sidecar = Self::start(setup).await?;
        sidecar.solo.ready().await?;
        Ok(sidecar)
    }

    /// Sends SIGTERM; how long the agent then took, and with which code it ended.
    pub(super) async fn terminate(&mut self) -> Result<(Duration, i32)> {
        let asked = Instant::now();
        self.solo.signal(Signal::SIGTERM)?;
        let status = self.solo.exit().await?;
        let code = status.code().with_context(|| format!("{status}\n{}", self.solo.log()))?;
        Ok((asked.elapsed(), code))
    }
}

/// A drain that lasts for as long as there is anything to wait for.
pub(super) fn patient() -> Result<Setup> {
    let mut setup = Setup::new()?;
    setup.proxy.insert("terminationDrainDuration".into(), "100s".into());
    setup.environment.push(("MINIMUM_DRAIN_DURATION".into(), "0s".into()));
    Ok(setup)
}

/// Adds a cluster that waits for a missing control plane; this Envoy never becomes LIVE.
pub(super) fn waits_for_ever(bootstrap: &mut Value) -> Result<()> {
    let nobody = local(free_port()?);
    let address = json!({"socket_address": {"address": nobody.ip(), "port_value": nobody.port()}});
    let cluster = json!({
        "name": "nobody",
        "typed_extension_protocol_options": {"envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
            "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
            "explicit_http_config": {"http2_protocol_options": {}},
        }},
        "load_assignment": {
            "cluster_name": "nobody",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}],
        },
    });
    let clusters = bootstrap.pointer_mut("/static_resources/clusters").and_then(Value::as_array_mut);
    clusters.context("a bootstrap has clusters")?.push(cluster);
    let resources = json!({
        "lds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
        "ads_config": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "grpc_services": [{"envoy_grpc": {"cluster_name": "nobody"}}],
        },
    });
    put(bootstrap, "dynamic_resources", resources)
}

/// Sets a field of an object.
pub(super) fn put(object: &mut Value, field: &str, value: impl Into<Value>) -> Result<()> {
    object.as_object_mut().context("it is no object")?.insert(field.to_owned(), value.into());
    Ok(())
}

/// Every HTTP request of the bootstrap's first listener gets a line in this file.
pub(super) fn log_access(bootstrap: &mut Value, path: &str) -> Result<()> {
    let manager = "/static_resources/listeners/0/filter_chains/0/filters/0/typed_config";
    let manager = bootstrap.pointer_mut(manager).context("the first listener speaks HTTP")?;
    let logger = json!([{
        "name": "file",
        "typed_config": {
            "@type": "type.googleapis.com/envoy.extensions.access_loggers.file.v3.FileAccessLog",
            "path": path,
            "log_format": {"text_format_source": {"inline_string": "access %REQ(:PATH)% %RESPONSE_CODE%\n"}},
        },
    }]);
    put(manager, "access_log", logger)
}

/// A connection of `tcp_proxy` that has carried a line. While it is held, there is something to wait for.
pub(super) async fn hold(solo: &Solo) -> Result<BufReader<TcpStream>> {
    let mut held = BufReader::new(TcpStream::connect(solo.front.tcp).await?);
    held.write_all(b"hello\n").await?;
    let mut echo = String::new();
    held.read_line(&mut echo).await?;
    ensure!(echo == "db hello\n", "{echo:?}");
    Ok(held)
}

/// The whole answer to one request on a connection of its own, however long it takes.
pub(super) async fn ask(to: SocketAddr, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(to).await.context("connect")?;
    let request = format!("GET {path} HTTP/1.1\r\nhost: web.example\r\nconnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.context("read")?;
    ensure!(answer.starts_with("HTTP/1.1 200 "), "{answer:?}");
    ensure!(answer.contains("web GET"), "half an answer: {answer:?}");
    Ok(answer)
}

/// A request that is under way: Envoy counts it.
pub(super) async fn under_way(solo: &Solo, path: &str) -> Result<tokio::task::JoinHandle<Result<String>>> {
    let (to, path) = (solo.front.http, path.to_owned());
    let asked = tokio::spawn(async move { ask(to, &path).await });
    eventually(END, "a request is under way", async || {
        let stats = get_ok(solo.admin, "/stats?filter=^http.http.downstream_rq_active").await?;
        ensure!(stats.trim().ends_with(": 1"), "{stats}");
        Ok(())
    })
    .await?;
    Ok(asked)
}

#[tokio::test(flavor = "multi_thread")]
async fn agent_ends_when_envoy_ends_during_the_drain() -> Result<()> {
    for (signal, code) in [(Signal::SIGTERM, 0), (Signal::SIGKILL, 137), (Signal::SIGTERM, 0)] {
        let Sidecar { mut solo, stage, dir } = Sidecar::ready(&patient()?).await?;
        let held = hold(&solo).await?;
        solo.signal(Signal::SIGTERM)?;
        solo.reaches("draining").await?;
        let envoy = solo.newest()?.pid;
        kill(envoy, signal)?;
        eventually(END, "Envoy is reaped", async || {
            ensure!(std::fs::metadata(format!("/proc/{envoy}")).is_err());
            Ok(())
        })
        .await?;
        // The drain would go on for 100 s. `cargo bench --bench lifecycle` measures the time.
        let reaped = Instant::now();
        let status = loop {
            if let Some(status) = solo.ended()? {
                break status;
            }
            ensure!(reaped.elapsed() < END, "the agent goes on: {}", solo.log());
            sleep(POLL).await;
        };
        ensure!(status.code() == Some(code), "{signal}: {status}\n{}", solo.log());
        solo.nothing_left().await?;
        drop((held, stage, dir));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn an_envoy_that_hangs_does_not_hold_up_the_deadline() -> Result<()> {
    let mut setup = Setup::new()?;
    setup.flags.extend(["--terminationGracePeriod".into(), "8s".into()]);
    faster_than(Duration::from_secs(8), async || {
        let mut sidecar = Sidecar::ready(&setup).await?;
        kill(sidecar.solo.newest()?.pid, Signal::SIGSTOP)?;
        let (took, code) = sidecar.terminate().await?;
        ensure!(code == 137, "{code}: it had to be killed");
        sidecar.solo.nothing_left().await?;
        Ok(took)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_sigterm_ends_the_drain() -> Result<()> {
    let mut sidecar = Sidecar::ready(&patient()?).await?;
    let _held = hold(&sidecar.solo).await?;
    sidecar.solo.signal(Signal::SIGTERM)?;
    sidecar.solo.reaches("draining").await?;
    // `exit` waits for a fifth of the deadline.
    let (_, code) = sidecar.terminate().await?;
    ensure!(code == 0, "{code}");
    sidecar.solo.nothing_left().await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_third_sigterm_leaves_envoy_no_time_at_all() -> Result<()> {
    let mut took = Vec::new();
    for third in [false, true] {
        let mut sidecar = Sidecar::ready(&patient()?).await?;
        // It hears no SIGTERM, so that only SIGKILL ends it.
        kill(sidecar.solo.newest()?.pid, Signal::SIGSTOP)?;
        for phase in ["draining", "stopping"] {
            sidecar.solo.signal(Signal::SIGTERM)?;
            sidecar.solo.reaches(phase).await?;
        }
        let asked = Instant::now();
        if third {
            sidecar.solo.signal(Signal::SIGTERM)?;
        }
        let status = sidecar.solo.exit().await?;
        took.push(asked.elapsed());
        ensure!(status.code() == Some(137), "{status}");
        sidecar.solo.nothing_left().await?;
    }
    ensure!(took[1] * 2 < took[0], "{took:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_is_honoured_at_once_while_envoy_is_not_yet_live() -> Result<()> {
    let mut setup = patient()?;
    // A drain of an Envoy that never served would take a minute.
    setup.environment = vec![("MINIMUM_DRAIN_DURATION".into(), "60s".into())];
    let mut sidecar = Sidecar::start_with(&setup, waits_for_ever).await?;
    sidecar.solo.reaches("starting").await?;
    eventually(END, "Envoy waits", async || {
        ensure!(get_ok(sidecar.solo.admin, "/server_info").await?.contains("INITIALIZING"));
        Ok(())
    })
    .await?;
    let (_, code) = sidecar.terminate().await?;
    ensure!(code == 0, "{code}\n{}", sidecar.solo.log());
    sidecar.solo.nothing_left().await
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_at_any_moment_of_the_start_leaves_nothing() -> Result<()> {
    for millis in [0, 10, 30, 60, 100, 150, 250] {
        let mut sidecar = Sidecar::start(&patient()?).await?;
        sleep(Duration::from_millis(millis)).await;
        sidecar.solo.signal(Signal::SIGTERM)?;
        let status = sidecar.solo.exit().await?;
        // Before it has caught its signals it dies like any program.
        let early = !sidecar.solo.log().contains("started Envoy");
        ensure!(status.success() || early, "{millis} ms: {status}\n{}", sidecar.solo.log());
        sidecar.solo.nothing_left().await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn idle_pod_does_not_wait_if_the_minimum_drain_is_zero() -> Result<()> {
    // The minimum is 5 s where it is not set.
    faster_than(Duration::from_secs(5), async || {
        let mut sidecar = Sidecar::ready(&patient()?).await?;
        let (took, code) = sidecar.terminate().await?;
        ensure!(code == 0, "{code}");
        Ok(took)
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_idle_pod_waits_for_load_balancers_where_nobody_says_how_long() -> Result<()> {
    let mut setup = patient()?;
    setup.environment.clear();
    let mut sidecar = Sidecar::ready(&setup).await?;
    let (took, code) = sidecar.terminate().await?;
    ensure!(took >= Duration::from_secs(5), "{took:?}");
    ensure!(code == 0, "{code}");
    Ok(())
}

//! The control plane without a proxy: xDS responses, debug pages, shutdown, command line errors.

use std::collections::BTreeSet;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pilot_proto::ResourceType::{Cluster, Endpoint};
use pilot_proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use pilot_tests::ads::{Delta, Sotw, sidecar};
use pilot_tests::manifest::{Folder, Port, endpoint_slice, service, service_entry};
use pilot_tests::mesh::{Discovery, END};
use pilot_tests::net::{free_port, get, get_ok, local, loopback};
use pilot_tests::process::Process;
use pilot_tests::programs::programs;
use pilot_tests::wait::eventually;
use prost::Message as _;
use serde_json::{Value, json};

/// Period without a response that counts as silence: ten times the debounce.
const SILENCE: Duration = Duration::from_secs(1);

const WEB: &str = "outbound|80||web.default.svc.cluster.local";
const LATE: &str = "outbound|81||late.default.svc.cluster.local";

struct ControlPlane {
    discovery: Discovery,
    folder: Folder,
    dir: tempfile::TempDir,
}

async fn plane() -> Result<ControlPlane> {
    plane_with(&[]).await
}

async fn plane_with(flags: &[&str]) -> Result<ControlPlane> {
    let dir = tempfile::tempdir()?;
    let folder = Folder::of_web(dir.path())?;
    let discovery = Discovery::start_with(dir.path(), &folder, flags).await?;
    Ok(ControlPlane { discovery, folder, dir })
}

impl ControlPlane {
    fn add_late(&self) -> Result<()> {
        self.folder.write("late.yaml", &[service("late", "10.0.0.2", &[Port::new("http", 81, 8081)])])
    }
}

/// Returns the names of the clusters in a response.
fn sotw_names(response: &DiscoveryResponse) -> Result<BTreeSet<String>> {
    let decode = |any: &pilot_proto::google::protobuf::Any| -> Result<String> {
        Ok(pilot_proto::envoy::config::cluster::v3::Cluster::decode(any.value.clone())?.name)
    };
    response.resources.iter().map(decode).collect()
}

/// Returns the connect timeout of the `web` cluster in seconds.
fn timeout_of_web(response: &DiscoveryResponse) -> Result<Option<i64>> {
    use pilot_proto::envoy::config::cluster::v3;
    for any in &response.resources {
        let cluster = v3::Cluster::decode(any.value.clone())?;
        if cluster.name == WEB {
            return Ok(cluster.connect_timeout.map(|timeout| timeout.seconds));
        }
    }
    Ok(None)
}

fn delta_names(response: &DeltaDiscoveryResponse) -> BTreeSet<&str> {
    response.resources.iter().map(|resource| resource.name.as_str()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn sotw_response_has_all_clusters_when_a_service_is_added() -> Result<()> {
    let plane = plane().await?;
    let mut client = Sotw::open(plane.discovery.grpc, sidecar("sotw")).await?;
    client.subscribe(Cluster, &[]).await?;
    let first = client.next().await?;
    ensure!(sotw_names(&first)?.contains(WEB), "{:?}", sotw_names(&first)?);
    client.ack(&first, &[]).await?;
    ensure!(client.next_within(SILENCE).await?.is_none(), "response to an ACK");

    plane.add_late()?;
    let second = client.next().await?;
    let names = sotw_names(&second)?;
    ensure!(names.contains(WEB) && names.contains(LATE), "{names:?}");
    ensure!(second.nonce != first.nonce && second.version_info != first.version_info, "{second:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn delta_response_has_only_added_and_removed_clusters() -> Result<()> {
    let plane = plane().await?;
    let mut client = Delta::open(plane.discovery.grpc, sidecar("delta")).await?;
    client.subscribe(Cluster, &["*"], &[]).await?;
    let first = client.next().await?;
    ensure!(delta_names(&first).contains(WEB), "{:?}", delta_names(&first));
    client.ack(&first).await?;

    plane.add_late()?;
    let second = client.next().await?;
    ensure!(delta_names(&second) == BTreeSet::from([LATE]), "{:?}", delta_names(&second));
    client.ack(&second).await?;

    plane.folder.remove("late.yaml")?;
    let third = client.next().await?;
    ensure!(third.resources.is_empty() && third.removed_resources == [LATE], "{third:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn reconnecting_delta_client_receives_only_clusters_it_lacks() -> Result<()> {
    let plane = plane().await?;
    let mut client = Delta::open(plane.discovery.grpc, sidecar("again")).await?;
    client.subscribe(Cluster, &["*"], &[]).await?;
    let resources = client.next().await?.resources;
    drop(client);

    plane.add_late()?;
    let pushed = eventually(Duration::from_secs(10), "the new service is in the registry", async || {
        let services = get_ok(plane.discovery.http, "/debug/registryz").await?;
        ensure!(services.contains("late.default"), "not yet");
        Ok(())
    });
    pushed.await?;
    let versions: Vec<(&str, &str)> =
        resources.iter().map(|resource| (resource.name.as_str(), resource.version.as_str())).collect();
    let mut client = Delta::open(plane.discovery.grpc, sidecar("again")).await?;
    client.resume(Cluster, &["*"], &[], &versions).await?;
    let news = client.next().await?;
    ensure!(delta_names(&news) == BTreeSet::from([LATE]), "{:?}", delta_names(&news));
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn nack_is_counted_shown_and_not_answered_with_the_same_response() -> Result<()> {
    let plane = plane().await?;
    let mut client = Sotw::open(plane.discovery.grpc, sidecar("fussy")).await?;
    client.subscribe(Cluster, &[]).await?;
    let first = client.next().await?;
    client.nack(&first, "", &[], "unknown extension").await?;
    // The error names no cluster, so the server tries halves of the clusters until one is left.
    let mut tried = vec![first.resources];
    while let Some(next) = client.next_within(SILENCE).await? {
        ensure!(!tried.contains(&next.resources), "the same response again: {next:?}");
        client.nack(&next, "", &[], "unknown extension").await?;
        tried.push(next.resources);
    }

    let metrics = get_ok(plane.discovery.monitoring, "/metrics").await?;
    let nacks = client.received.len();
    ensure!(metrics.contains(&format!("pilot_total_xds_rejects{{type=\"cds\"}} {nacks}\n")), "{metrics}");
    ensure!(metrics.lines().any(|line| line.starts_with("pilot_xds_cds_reject{")), "{metrics}");
    ensure!(metrics.lines().any(|line| line.starts_with("pilot_xds_quarantined_resources{")), "{metrics}");
    let syncz: Value = serde_json::from_str(&get_ok(plane.discovery.http, "/debug/syncz").await?)?;
    let last_error = &syncz[0]["resources"][Cluster.type_url()]["lastError"];
    ensure!(last_error.as_str().is_some_and(|why| why.contains("unknown extension")), "{syncz}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn endpoint_change_sends_one_cluster_load_assignment() -> Result<()> {
    let plane = plane().await?;
    plane.add_late()?;
    let mut client = Sotw::open(plane.discovery.grpc, sidecar("eds")).await?;
    client.subscribe(Endpoint, &[WEB, LATE]).await?;
    let mut sent = client.next().await?;
    ensure!(sent.resources.len() == 2, "{sent:?}");
    client.ack(&sent, &[WEB, LATE]).await?;
    // If the service was added after the subscription, its (empty) assignment was sent before.
    let ports = [Port::new("http", 80, 8080)];
    let web = |last| [service("web", "10.0.0.1", &ports), endpoint_slice("web", &ports, &[loopback(last)])];
    plane.folder.write("web.yaml", &web(3))?;
    sent = client.next().await?;
    ensure!(sent.resources.len() == 1, "{sent:?}");
    let body = String::from_utf8_lossy(&sent.resources[0].value).into_owned();
    ensure!(body.contains(WEB) && body.contains("127.0.0.3") && !body.contains("127.0.0.2"), "{body:?}");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn node_with_an_invalid_id_is_rejected() -> Result<()> {
    let plane = plane().await?;
    for (id, why) in
        [("", "missing node information"), ("nonsense", "four parts"), ("sidecar~~a.b~c", "no valid IP")]
    {
        let node = pilot_proto::envoy::config::core::v3::Node { id: id.to_owned(), ..Default::default() };
        let mut client = Sotw::open(plane.discovery.grpc, node).await?;
        client.subscribe(Cluster, &[]).await?;
        let error = client.next().await.err().context("a response was sent")?;
        ensure!(format!("{error:#}").contains(why), "{id:?}: {error:#}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_debug_page_is_json_with_the_expected_content() -> Result<()> {
    let plane = plane().await?;
    let entry = service_entry(
        "outside",
        "outside.example.com",
        "STATIC",
        &[Port::new("http", 82, 82)],
        &["127.0.0.9"],
    );
    plane.folder.write("entry.yaml", &[entry])?;
    let mut client = Sotw::open(plane.discovery.grpc, sidecar("looker")).await?;
    client.subscribe(Cluster, &[]).await?;
    let first = client.next().await?;
    client.ack(&first, &[]).await?;
    let pushed = eventually(Duration::from_secs(10), "the entry is in the registry", async || {
        let services = get_ok(plane.discovery.http, "/debug/registryz").await?;
        ensure!(services.contains("outside.example.com"), "not yet");
        Ok(())
    });
    pushed.await?;

    let pages: Vec<String> = serde_json::from_str(&get_ok(plane.discovery.http, "/debug/list").await?)?;
    for page in &pages {
        for address in [plane.discovery.http, plane.discovery.monitoring] {
            let text = get_ok(address, &format!("/debug/{page}?proxyID=looker.default")).await?;
            serde_json::from_str::<Value>(&text).with_context(|| format!("/debug/{page}: {text}"))?;
        }
    }
    for (page, word) in [
        ("adsz", "looker.default-1"),
        ("syncz", "looker.default"),
        ("registryz", "web.default.svc.cluster.local"),
        ("endpointz", "127.0.0.9"),
        ("configz", "outside.example.com"),
        ("sourcez", "\"ServiceEntry\":1"),
        ("config_dump?proxyID=looker.default", "type.googleapis.com/envoy.admin.v3.ClustersConfigDump"),
    ] {
        let text = get_ok(plane.discovery.http, &format!("/debug/{page}")).await?;
        ensure!(text.contains(word), "/debug/{page} does not contain {word}: {text}");
    }
    let (status, _) = get(plane.discovery.http, "/debug/config_dump?proxyID=nobody.default").await?;
    ensure!(status == 404, "{status}");
    let (status, _) = get(plane.discovery.http, "/debug/config_dump").await?;
    ensure!(status == 400, "{status}");
    ensure!(get_ok(plane.discovery.monitoring, "/version").await? == env!("CARGO_PKG_VERSION"), "/version");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn sigterm_ends_streams_and_exits_with_0() -> Result<()> {
    let mut plane = plane().await?;
    let mut client = Sotw::open(plane.discovery.grpc, sidecar("left")).await?;
    client.subscribe(Cluster, &[]).await?;
    client.next().await?;
    let status = plane.discovery.stop().await?;
    ensure!(status.code() == Some(0), "it ended with {status}");
    let error = client.next().await.err().context("the stream is still open")?;
    ensure!(format!("{error:#}").contains("shutting down"), "{error:#}");
    ensure!(plane.discovery.log().contains("shutting down"), "{}", plane.discovery.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_mesh_file_is_pushed_unless_it_is_invalid() -> Result<()> {
    let plane = plane().await?;
    let mut client = Sotw::open(plane.discovery.grpc, sidecar("meshed")).await?;
    client.subscribe(Cluster, &[]).await?;
    let first = client.next().await?;
    ensure!(timeout_of_web(&first)? == Some(10), "Istio's default: {:?}", timeout_of_web(&first)?);
    client.ack(&first, &[]).await?;

    let file = plane.dir.path().join("mesh.yaml");
    std::fs::write(&file, "connectTimeout: 7s")?;
    let second = client.next().await?;
    ensure!(timeout_of_web(&second)? == Some(7), "{:?}", timeout_of_web(&second)?);
    client.ack(&second, &[]).await?;

    std::fs::write(&file, "connectTimeout: soon")?;
    let logged = eventually(Duration::from_secs(10), "the log has the error", async || {
        ensure!(plane.discovery.log().contains("\"soon\" is not a duration"), "{}", plane.discovery.log());
        Ok(())
    });
    logged.await?;
    ensure!(client.next_within(SILENCE).await?.is_none(), "an invalid mesh file was pushed");
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn changed_trust_domain_changes_the_identities_of_pods() -> Result<()> {
    let plane = plane().await?;
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": "web-a"},
        "spec": {"serviceAccountName": "web"},
        "status": {"podIP": loopback(2).to_string(), "phase": "Running"},
    });
    plane.folder.write("pod.yaml", &[pod])?;
    for trust_domain in ["cluster.local", "example.com"] {
        if trust_domain != "cluster.local" {
            std::fs::write(plane.dir.path().join("mesh.yaml"), format!("trustDomain: {trust_domain}"))?;
        }
        let identity = format!("\"spiffe://{trust_domain}/ns/default/sa/web\"");
        let changed = eventually(Duration::from_secs(10), "the endpoint has the identity", async || {
            let shards = get_ok(plane.discovery.http, "/debug/endpointShardz").await?;
            ensure!(shards.contains(&identity), "{identity} is missing: {shards}");
            Ok(())
        });
        changed.await?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_is_closed_at_its_maximum_age() -> Result<()> {
    let plane = plane_with(&["--keepaliveMaxServerConnectionAge", "1s"]).await?;
    for _ in 0..2 {
        let mut client = Sotw::open(plane.discovery.grpc, sidecar("aged")).await?;
        client.subscribe(Cluster, &[]).await?;
        let first = client.next().await?;
        client.ack(&first, &[]).await?;
        let error = client.next().await.err().context("the stream is still open")?;
        ensure!(format!("{error:#}").contains("the server ended the stream"), "{error:#}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn startup_errors_are_one_line_and_an_exit_code() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let config = dir.path().join("config");
    std::fs::create_dir(&config)?;
    std::fs::write(dir.path().join("bad-mesh.yaml"), "connectTimeout: soon")?;
    let holder = std::net::TcpListener::bind("127.0.0.1:0")?;
    let taken = holder.local_addr()?.to_string();
    let (config, free) = (config.display().to_string(), local(free_port()?).to_string());
    let base = ["--configDir", &config, "--httpAddr", "", "--monitoringAddr", "", "--grpcAddr"];
    let cases: [(&[&str], i32, &str); 7] = [
        (&["--nope"], 64, "--nope"),
        (&[&base[..], &[&free, "--keepaliveInterval", "soon"]].concat(), 78, "--keepaliveInterval"),
        (
            &["--registries", "File,Consul", "--configDir", &config],
            78,
            "--registries: registry Consul is not",
        ),
        (&["--registries", "Zookeeper", "--configDir", &config], 78, "--registries"),
        (
            &["--configDir", "/nowhere", "--httpAddr", "", "--monitoringAddr", "", "--grpcAddr", &free],
            1,
            "/nowhere",
        ),
        (&[&base[..], &[&taken]].concat(), 1, "--grpcAddr"),
        (&[&base[..], &[&free, "--meshConfig", "bad-mesh.yaml"]].concat(), 1, "soon"),
    ];
    for (number, (flags, code, word)) in cases.into_iter().enumerate() {
        let mut command = Command::new(&programs()?.discovery);
        command.arg("discovery").args(flags).current_dir(dir.path());
        let mut process = Process::spawn(&format!("refused-{number}"), &mut command, dir.path())?;
        let status = process.exit(END).await?;
        let log = process.log();
        ensure!(status.code() == Some(code), "{flags:?}: {status}: {log}");
        let lines = log.lines().filter(|line| line.contains(word)).count();
        ensure!(lines == 1, "{flags:?}: expected exactly one line with {word}: {log}");
    }
    Ok(())
}

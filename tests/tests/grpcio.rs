//! An independent xDS client: Python's grpcio, as in Istio's proxyless gRPC.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pilot_tests::manifest::{Folder, Port, endpoint_slice, service};
use pilot_tests::mesh::Discovery;
use pilot_tests::net::{free_port, loopback};
use pilot_tests::process::Process;
use pilot_tests::python::packages;
use serde_json::json;

/// Starts a server at each address, then makes calls through `xds:///`.
const SCRIPT: &str = r#"
import sys
from concurrent import futures
import grpc

target, port, *addresses = sys.argv[1:]

def serve(address):
    def say(request, context):
        return request + b" from " + address.encode()
    handler = grpc.method_handlers_generic_handler("Echo", {"Say": grpc.unary_unary_rpc_method_handler(say)})
    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[handler])
    server.add_insecure_port(f"{address}:{port}")
    server.start()
    return server

servers = [serve(address) for address in addresses]
with grpc.insecure_channel(target) as channel:
    say = channel.unary_unary("/Echo/Say")
    answers = {say(b"hello", timeout=15, wait_for_ready=True).decode() for _ in range(50)}
print(*sorted(answers), sep="\n")
for server in servers:
    server.stop(None)
"#;

#[tokio::test(flavor = "multi_thread")]
async fn grpcio_calls_reach_the_configured_endpoints() -> Result<()> {
    let grpcio = packages(&["grpcio==1.85.1"])?;
    let dir = tempfile::tempdir()?;
    let folder = Folder::create(dir.path().join("config"))?;
    let port = [Port::new("grpc-echo", 7070, free_port()?)];
    let addresses = [loopback(2), loopback(3)];
    folder.write(
        "echo.yaml",
        &[service("echo", "10.0.0.1", &port), endpoint_slice("echo", &port, &addresses)],
    )?;
    let discovery = Discovery::start(dir.path(), &folder).await?;

    let bootstrap = json!({
        "xds_servers": [{
            "server_uri": discovery.grpc.to_string(),
            "channel_creds": [{"type": "insecure"}],
            "server_features": ["xds_v3"],
        }],
        "node": {
            "id": "sidecar~127.0.0.1~caller.default~default.svc.cluster.local",
            "metadata": {"GENERATOR": "grpc", "NAMESPACE": "default", "INSTANCE_IPS": "127.0.0.1"},
        },
    });
    fs::write(dir.path().join("bootstrap.json"), bootstrap.to_string())?;
    fs::write(dir.path().join("call.py"), SCRIPT)?;
    let mut command = Command::new("python3");
    command.args(["call.py", "xds:///echo.default.svc.cluster.local:7070"]).current_dir(dir.path());
    command.arg(port[0].target.to_string()).args(addresses.map(|address| address.to_string()));
    command.env("PYTHONPATH", grpcio).env("GRPC_XDS_BOOTSTRAP", dir.path().join("bootstrap.json"));
    let mut client = Process::spawn("grpcio", &mut command, dir.path())?;
    let status = client.exit(Duration::from_mins(1)).await.with_context(|| client.log())?;
    ensure!(status.success(), "{}\n{}", client.log(), discovery.log());
    // grpcio may write log lines between the answers.
    let log = client.log();
    let answers: Vec<&str> = log.lines().filter(|line| line.starts_with("hello")).collect();
    ensure!(answers == ["hello from 127.0.0.2", "hello from 127.0.0.3"], "{log}");
    discovery.ensure_no_rejection().await
}

//! The images under Docker, run as in production: read-only, without capabilities, as user 1337.
//!
//! The containers share the network namespace of the first, like those of a pod; it has only a loopback device. `docker/engine
//! cargo test -p pilot-tests --test docker` runs them. A plain `cargo test` does not, because they need Docker.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use pilot_tests::process::ProcessInfo;
use pilot_tests::wait::eventually;
use serde_json::Value;

/// Folder of the image sources.
const DOCKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker");

/// Addresses of the services of `docker/mesh`: the sidecar's and the application's.
const HTTP: [&str; 2] = ["127.0.0.1:9002", "127.0.0.2:7001"];
const TCP: [&str; 2] = ["127.0.0.1:9003", "127.0.0.2:7002"];

/// Time limit for a container's state on a busy machine.
const TIMEOUT: Duration = Duration::from_mins(1);

/// Settings required by Pod Security's `restricted`, and a read-only root file system.
const RESTRICTED: [&str; 7] =
    ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "1337:1337"];

/// Folders that the sidecar may write besides /dev/shm.
const WRITABLE: [&str; 2] = ["/etc/istio/proxy", "/var/lib/istio/data"];

fn docker<I: AsRef<std::ffi::OsStr>>(args: impl IntoIterator<Item = I>) -> Result<String> {
    let mut command = Command::new("docker");
    let output = command.args(args).stdin(Stdio::null()).output();
    let output = output.context("run docker (on Debian: apt-get install docker.io)")?;
    let (out, errors) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    ensure!(output.status.success(), "{command:?}: {}", errors.trim());
    Ok(out.trim().to_owned())
}

// === Images ===

/// Names of the images, as printed by `docker/build`.
struct Images {
    sidecar: String,
    discovery: String,
    app: String,
}

/// Builds the images once.
fn images() -> Result<&'static Images> {
    static BUILT: OnceLock<Result<Images, String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| build().map_err(|error| format!("{error:#}")));
    built.as_ref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn build() -> Result<Images> {
    let output =
        Command::new(format!("{DOCKER}/build")).stdin(Stdio::null()).stderr(Stdio::inherit()).output()?;
    ensure!(output.status.success(), "docker/build: {}", output.status);
    let built = String::from_utf8(output.stdout)?;
    let find = |name: &str| {
        let found = built.lines().find(|line| line.starts_with(name));
        found.map(str::to_owned).with_context(|| format!("docker/build: no {name} in {built:?}"))
    };
    Ok(Images {
        sidecar: find("pilot/proxyv2:")?,
        discovery: find("pilot/pilot:")?,
        app: find("pilot/app:")?,
    })
}

// === Containers ===

/// A container. Dropping it removes it.
struct Container(String);

impl Container {
    /// Starts a container in the network of another, or in none.
    fn start(network: Option<&Self>, options: &[&str], image: &str, command: &[&str]) -> Result<Self> {
        let network = network.map_or_else(|| "none".to_owned(), |Self(id)| format!("container:{id}"));
        let mut args = vec!["run", "--detach", "--network", &network];
        args.extend(RESTRICTED.iter().chain(options).chain([&image]).chain(command));
        Ok(Self(docker(args)?))
    }

    /// Runs a command in the container and returns its output.
    fn exec(&self, command: &[&str]) -> Result<String> {
        docker(["exec", &self.0].iter().chain(command))
    }

    /// Returns one field of `docker inspect`.
    fn field(&self, path: &str) -> Result<String> {
        docker(["inspect", "--format", &format!("{{{{{path}}}}}"), &self.0])
    }

    /// Returns the last lines of the log, of both streams.
    fn log(&self) -> String {
        let mut command = Command::new("docker");
        let output = command.args(["logs", "--tail", "40", &self.0]).stdin(Stdio::null()).output();
        output.map_or_else(
            |error| error.to_string(),
            |output| {
                String::from_utf8_lossy(&output.stdout).into_owned()
                    + &String::from_utf8_lossy(&output.stderr)
            },
        )
    }

    /// Waits until the log contains these words.
    async fn wait_for_log(&self, words: &str) -> Result<()> {
        let found = eventually(TIMEOUT, words, async || {
            let log = self.log();
            if self.field(".State.Running")? != "true" {
                return Ok(false);
            }
            ensure!(log.contains(words), "the log is\n{log}");
            Ok(true)
        });
        ensure!(found.await?, "the container has ended:\n{}", self.log());
        Ok(())
    }

    /// Runs `docker stop`. It is an error if the container does not exit with 0 in time.
    fn stop(&self) -> Result<()> {
        docker(["stop", &self.0])?;
        // After the grace period Docker kills it, and the code is 137.
        let status = self.field(".State.ExitCode")?;
        ensure!(status == "0", "exit code {status}:\n{}", self.log());
        Ok(())
    }

    /// Returns the processes as listed by `docker top`.
    fn top(&self) -> Result<Vec<Process>> {
        let table = docker(["top", &self.0, "-eo", "pid,ppid,args"])?;
        let row = |line: &str| {
            let mut words = line.split_whitespace();
            let (pid, parent) = (words.next()?.parse().ok()?, words.next()?.parse().ok()?);
            Some(Process { pid, parent, args: words.collect::<Vec<_>>().join(" ") })
        };
        table.lines().skip(1).map(|line| row(line).with_context(|| format!("docker top: {line:?}"))).collect()
    }
}

impl Drop for Container {
    fn drop(&mut self) {
        if let Err(error) = docker(["rm", "--force", "--volumes", &self.0]) {
            eprintln!("{error:#}");
        }
    }
}

/// A line of `docker top`.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Process {
    pid: i32,
    parent: i32,
    args: String,
}

// === Pod ===

/// The containers of `docker/compose.yaml` with one application instead of two: `stock` at 127.0.0.2, the control plane, and a
/// sidecar that serves it at 127.0.0.1. The others join the network of the application's container.
struct Pod {
    sidecar: Container,
    discovery: Container,
    app: Container,
}

impl Pod {
    /// Starts the containers and waits until the sidecar is healthy.
    async fn start() -> Result<Self> {
        let Images { sidecar, discovery, app } = images()?;
        // Host names that Docker's DNS would resolve.
        let names = ["--add-host=shop:127.0.0.2", "--add-host=stock:127.0.0.2"];
        let app = Container::start(None, &names, app, &["serve", "stock", HTTP[1], TCP[1]])?;
        let discovery = Self::discovery(&app, discovery)?;
        let sidecar = Self::sidecar(&app, sidecar)?;
        discovery.wait_for_log("address=[::]:15014").await?;
        eventually(TIMEOUT, "the sidecar is healthy", async || {
            let health = sidecar.field(".State.Health.Status")?;
            ensure!(health == "healthy", "health is {health}:\n{}\n{}", sidecar.log(), discovery.log());
            Ok(())
        })
        .await?;
        Ok(Self { sidecar, discovery, app })
    }

    fn discovery(pod: &Container, image: &str) -> Result<Container> {
        let volume = format!("{DOCKER}/mesh:/etc/pilot/config:ro");
        let command = ["discovery", "--registries", "File", "--configDir", "/etc/pilot/config"];
        Container::start(Some(pod), &["--volume", &volume], image, &command)
    }

    fn sidecar(pod: &Container, image: &str) -> Result<Container> {
        let writable = WRITABLE.map(|path| format!("--tmpfs={path}:uid=1337,gid=1337,mode=0700"));
        let mut options: Vec<&str> = writable.iter().map(String::as_str).collect();
        for variable in [
            // A short hot restart: no connection here lasts longer.
            "PROXY_CONFIG={discoveryAddress: '127.0.0.1:15010', drainDuration: 2s, parentShutdownDuration: 4s}",
            "ISTIO_META_INTERCEPTION_MODE=NONE",
            "INSTANCE_IP=127.0.0.1",
            "POD_NAME=client",
            "POD_NAMESPACE=default",
        ] {
            options.extend(["--env", variable]);
        }
        Container::start(Some(pod), &options, image, &[])
    }

    /// Starts load of every class through the sidecar and waits for the first answers.
    async fn load(&self) -> Result<Container> {
        let command = [&["load", "127.0.0.1:15020", "stock.example"][..], &HTTP, &TCP].concat();
        let load = Container::start(Some(&self.app), &[], &images()?.app, &command)?;
        load.wait_for_log("under way").await.with_context(|| self.sidecar.log())?;
        Ok(load)
    }

    /// Returns the agent, which must be PID 1, and every Envoy below it. Other processes are an error, except those of Docker itself,
    /// such as a health check; their parent is outside.
    fn processes(&self) -> Result<(Process, Vec<Process>)> {
        let mut all = self.sidecar.top()?;
        let pids: Vec<_> = all.iter().map(|process| process.pid).collect();
        let first: i32 = self.sidecar.field(".State.Pid")?.parse()?;
        let at = all.iter().position(|process| process.pid == first).context("PID 1 is not there")?;
        let agent = all.remove(at);
        all.retain(|process| pids.contains(&process.parent));
        let process = ProcessInfo::read(Pid::from_raw(agent.pid)).context("PID 1 is gone")?;
        ensure!(
            (process.pid_in_namespace, process.name.as_str()) == (1, "pilot-agent"),
            "PID 1 is {process:?}"
        );
        for envoy in &all {
            let ours = envoy.parent == agent.pid && envoy.args.starts_with("/usr/local/bin/envoy ");
            ensure!(ours, "not an Envoy of the agent: {envoy:?}");
        }
        ensure!(!all.is_empty(), "no Envoy is running");
        Ok((agent, all))
    }
}

/// Stops the load and returns its report.
fn report(load: &Container) -> Result<Value> {
    load.stop()?;
    let log = load.log();
    let last = log.lines().last().context("the load printed nothing")?;
    println!("{last}");
    serde_json::from_str(last).with_context(|| format!("report of the load: {last:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_stop_under_load_loses_no_requests() -> Result<()> {
    let pod = Pod::start().await?;
    let (agent, envoys) = pod.processes()?;
    println!("{agent:?}\n{envoys:?}");
    ensure!(envoys.len() == 1, "several Envoys: {envoys:?}");
    let answer = pod.app.exec(&["app", "ask", "stock.example", HTTP[0]])?;
    ensure!(answer.contains("\r\nx-endpoint: stock\r\n"), "through the sidecar: {answer:?}");
    let load = pod.load().await?;
    pod.sidecar.stop()?;
    let report = report(&load)?;
    ensure!(report["moved"] == true, "the load did not see the sidecar become unready: {report}");
    pod.discovery.stop()?;
    pod.app.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_restart_in_a_container_loses_no_requests() -> Result<()> {
    let pod = Pod::start().await?;
    let (agent, before) = pod.processes()?;
    let load = pod.load().await?;
    let started = pod.sidecar.field(".State.StartedAt")?;
    let request = ["pilot-agent", "request", "--debug-port", "15020"];
    for (epoch, ask) in [(1, &[&request[..], &["POST", "/restart"]].concat()[..]), (2, &[])] {
        let (_, old) = pod.processes()?;
        match ask {
            [] => drop(docker(["kill", "--signal", "HUP", &pod.sidecar.0])?),
            ask => drop(pod.sidecar.exec(ask)?),
        }
        eventually(TIMEOUT, "another Envoy serves alone", async || {
            let (_, now) = pod.processes()?;
            ensure!(now.len() == 1 && now != old, "{now:?}");
            Ok(())
        })
        .await
        .with_context(|| pod.sidecar.log())?;
        let lifecycle = pod.sidecar.exec(&[&request[..], &["GET", "/lifecycle"]].concat())?;
        let lifecycle: Value = serde_json::from_str(&lifecycle)?;
        let (serves, left) = (&lifecycle["generations"][0], &lifecycle["exits"][0]);
        println!("{serves}\n{left}");
        ensure!(serves["epoch"] == epoch && serves["engine"] == "mediated", "{lifecycle}");
        ensure!(left["reason"] == "handed_over" && left["code"] == 0, "{lifecycle}");
    }
    let (same, after) = pod.processes()?;
    ensure!(same == agent && after != before, "{same:?} {after:?}");
    ensure!(pod.sidecar.field(".State.StartedAt")? == started, "the container was restarted");
    let report = report(&load)?;
    ensure!(report["moved"] == false, "the sidecar was unready meanwhile: {report}");
    pod.sidecar.stop()
}

#[test]
fn images_have_labels_user_and_version() -> Result<()> {
    let Images { sidecar, discovery, app } = images()?;
    for image in [sidecar, discovery, app] {
        let config: Value =
            serde_json::from_str(&docker(["inspect", "--format", "{{json .Config}}", image])?)?;
        let (name, version) = image.split_once(':').context("no tag")?;
        let label = |label: &str| config["Labels"][format!("org.opencontainers.image.{label}")].as_str();
        ensure!(label("title") == Some(name) && label("version") == Some(version), "{image}: {config}");
        for name in ["description", "licenses", "revision", "created", "base.name"] {
            ensure!(label(name).is_some_and(|text| !text.is_empty()), "{image} has no {name}: {config}");
        }
        let user = config["User"].as_str().and_then(|user| user.split(':').next()?.parse().ok());
        ensure!(user.is_some_and(|user: u32| user != 0), "{image} runs as {}", config["User"]);
    }
    for image in [sidecar, discovery] {
        let printed = docker(["run", "--rm", "--network", "none", image, "version", "--short"])?;
        ensure!(image.ends_with(&format!(":{printed}")), "{image} is of version {printed}");
    }
    Ok(())
}

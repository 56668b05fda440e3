//! The images, run as users run them: read-only, without capabilities, as 1337, by a real Docker Engine.
//!
//! The containers share the network namespace of the first, as a pod's do; it has no network but its loopback device. Run by
//! `docker/engine cargo test -p pilot-tests --test docker`, not by a plain `cargo test`: it takes Docker and a release build.

use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use pilot_tests::process::ProcessInfo;
use pilot_tests::wait::eventually;
use serde_json::Value;

/// The images' sources.
const DOCKER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docker");

/// The services of `docker/mesh`, as the sidecar serves them and as the application does.
const HTTP: [&str; 2] = ["127.0.0.1:9002", "127.0.0.2:7001"];
const TCP: [&str; 2] = ["127.0.0.1:9003", "127.0.0.2:7002"];

/// How long a container may take to get where it should on a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);

/// What Pod Security's `restricted` asks for, and a root file system that nobody can write.
const RESTRICTED: [&str; 7] =
    ["--read-only", "--cap-drop", "ALL", "--security-opt", "no-new-privileges", "--user", "1337:1337"];

/// What the sidecar may write besides /dev/shm.
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

/// Names of the images, as `docker/build` says them.
struct Images {
    sidecar: String,
    discovery: String,
    app: String,
}

/// Builds what changed, once.
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
        found.map(str::to_owned).with_context(|| format!("docker/build made no {name}: {built:?}"))
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
    /// Starts one in the network of another, or in none.
    fn start(network: Option<&Self>, options: &[&str], image: &str, command: &[&str]) -> Result<Self> {
        let network = network.map_or_else(|| "none".to_owned(), |Self(id)| format!("container:{id}"));
        let mut args = vec!["run", "--detach", "--network", &network];
        args.extend(RESTRICTED.iter().chain(options).chain([&image]).chain(command));
        Ok(Self(docker(args)?))
    }

    /// Runs a command in it; what it prints.
    fn exec(&self, command: &[&str]) -> Result<String> {
        docker(["exec", &self.0].iter().chain(command))
    }

    /// One field of `docker inspect`.
    fn field(&self, path: &str) -> Result<String> {
        docker(["inspect", "--format", &format!("{{{{{path}}}}}"), &self.0])
    }

    /// The last lines of what it printed, of both streams.
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

    /// Waits for what it is about to print.
    async fn says(&self, words: &str) -> Result<()> {
        let said = eventually(PATIENCE, words, async || {
            let log = self.log();
            if self.field(".State.Running")? != "true" {
                return Ok(false);
            }
            ensure!(log.contains(words), "it only says\n{log}");
            Ok(true)
        });
        ensure!(said.await?, "it has ended:\n{}", self.log());
        Ok(())
    }

    /// `docker stop`; an error if it does not end with 0 by itself.
    fn stop(&self) -> Result<()> {
        docker(["stop", &self.0])?;
        // After the grace period it is 137.
        let status = self.field(".State.ExitCode")?;
        ensure!(status == "0", "exit code {status}:\n{}", self.log());
        Ok(())
    }

    /// Its processes as `docker top` has them: process id, parent, arguments.
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

/// What `docker/compose.yaml` has, of two applications only one: `stock` at 127.0.0.2, the control plane, and a sidecar through
/// which it is reached at 127.0.0.1. The application's container is the one whose network the others join.
struct Pod {
    sidecar: Container,
    discovery: Container,
    app: Container,
}

impl Pod {
    /// Starts it; the sidecar is healthy when this returns.
    async fn start() -> Result<Self> {
        let Images { sidecar, discovery, app } = images()?;
        // What Docker's DNS would say.
        let names = ["--add-host=shop:127.0.0.2", "--add-host=stock:127.0.0.2"];
        let app = Container::start(None, &names, app, &["serve", "stock", HTTP[1], TCP[1]])?;
        let discovery = Self::discovery(&app, discovery)?;
        let sidecar = Self::sidecar(&app, sidecar)?;
        discovery.says("address=[::]:15014").await?;
        eventually(PATIENCE, "the sidecar is healthy", async || {
            let health = sidecar.field(".State.Health.Status")?;
            ensure!(health == "healthy", "it is {health}:\n{}\n{}", sidecar.log(), discovery.log());
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
            // An old generation that is over soon: nothing here lasts longer.
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

    /// Load of every class through the sidecar, answered already.
    async fn load(&self) -> Result<Container> {
        let command = [&["load", "127.0.0.1:15020", "stock.example"][..], &HTTP, &TCP].concat();
        let load = Container::start(Some(&self.app), &[], &images()?.app, &command)?;
        load.says("under way").await.with_context(|| self.sidecar.log())?;
        Ok(load)
    }

    /// The agent, which must be PID 1, and every Envoy below it; there must be nothing else but what Docker itself runs in
    /// there, such as a health check: that has a parent outside.
    fn processes(&self) -> Result<(Process, Vec<Process>)> {
        let mut all = self.sidecar.top()?;
        let pids: Vec<_> = all.iter().map(|process| process.pid).collect();
        let first: i32 = self.sidecar.field(".State.Pid")?.parse()?;
        let at = all.iter().position(|process| process.pid == first).context("PID 1 is not there")?;
        let agent = all.remove(at);
        all.retain(|process| pids.contains(&process.parent));
        let seen = ProcessInfo::read(Pid::from_raw(agent.pid)).context("PID 1 is gone")?;
        ensure!((seen.pid_in_namespace, seen.name.as_str()) == (1, "pilot-agent"), "PID 1 is {seen:?}");
        for envoy in &all {
            let ours = envoy.parent == agent.pid && envoy.args.starts_with("/usr/local/bin/envoy ");
            ensure!(ours, "not an Envoy of the agent's: {envoy:?}");
        }
        ensure!(!all.is_empty(), "there is no Envoy");
        Ok((agent, all))
    }
}

/// Ends the load; what it says came of it.
fn report(load: &Container) -> Result<Value> {
    load.stop()?;
    let log = load.log();
    let last = log.lines().last().context("the load says nothing")?;
    println!("{last}");
    serde_json::from_str(last).with_context(|| format!("the load says {last:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn docker_stop_under_load_loses_nothing() -> Result<()> {
    let pod = Pod::start().await?;
    let (agent, envoys) = pod.processes()?;
    println!("{agent:?}\n{envoys:?}");
    ensure!(envoys.len() == 1, "several Envoys: {envoys:?}");
    let answer = pod.app.exec(&["app", "ask", "stock.example", HTTP[0]])?;
    ensure!(answer.contains("\r\nx-endpoint: stock\r\n"), "through the sidecar: {answer:?}");
    let load = pod.load().await?;
    pod.sidecar.stop()?;
    let report = report(&load)?;
    ensure!(report["moved"] == true, "the load never heard that the sidecar is going: {report}");
    pod.discovery.stop()?;
    pod.app.stop()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hot_restart_in_the_container_loses_nothing() -> Result<()> {
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
        eventually(PATIENCE, "another Envoy serves alone", async || {
            let (_, now) = pod.processes()?;
            ensure!(now.len() == 1 && now != old, "{now:?}");
            Ok(())
        })
        .await
        .with_context(|| pod.sidecar.log())?;
        let life = pod.sidecar.exec(&[&request[..], &["GET", "/lifecycle"]].concat())?;
        let life: Value = serde_json::from_str(&life)?;
        let (serves, left) = (&life["generations"][0], &life["exits"][0]);
        println!("{serves}\n{left}");
        ensure!(serves["epoch"] == epoch && serves["engine"] == "mediated", "{life}");
        ensure!(left["reason"] == "handed_over" && left["code"] == 0, "{life}");
    }
    let (same, after) = pod.processes()?;
    ensure!(same == agent && after != before, "{same:?} {after:?}");
    ensure!(pod.sidecar.field(".State.StartedAt")? == started, "the container was started again");
    let report = report(&load)?;
    ensure!(report["moved"] == false, "readiness was off meanwhile: {report}");
    pod.sidecar.stop()
}

#[test]
fn images_say_what_they_are() -> Result<()> {
    let Images { sidecar, discovery, app } = images()?;
    for image in [sidecar, discovery, app] {
        let config: Value =
            serde_json::from_str(&docker(["inspect", "--format", "{{json .Config}}", image])?)?;
        let (name, version) = image.split_once(':').context("no tag")?;
        let label = |label: &str| config["Labels"][format!("org.opencontainers.image.{label}")].as_str();
        ensure!(label("title") == Some(name) && label("version") == Some(version), "{image}: {config}");
        for known in ["description", "licenses", "revision", "created", "base.name"] {
            ensure!(label(known).is_some_and(|text| !text.is_empty()), "{image} has no {known}: {config}");
        }
        let user = config["User"].as_str().and_then(|user| user.split(':').next()?.parse().ok());
        ensure!(user.is_some_and(|user: u32| user != 0), "{image} runs as {}", config["User"]);
    }
    for image in [sidecar, discovery] {
        let said = docker(["run", "--rm", "--network", "none", image, "version", "--short"])?;
        ensure!(image.ends_with(&format!(":{said}")), "{image} is of version {said}");
    }
    Ok(())
}

//! `proxy`: reads the configuration, renders the bootstrap, runs Envoy until the end.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::Context as _;
use serde_json::Value;
use tracing::{info, warn};

use super::{Failure, block_on};
use crate::bootstrap::argv::{HotRestart, Launch, argv};
use crate::bootstrap::{self, Rendered};
use crate::cgroup::Limits;
use crate::cli::{LogFlags, Overrides, ProxyFlags, Role};
use crate::config::env::Environment;
use crate::config::{Config, Envoy, Inputs, Interfaces, Purpose, Root};
use crate::driver::{self, Settings};
use crate::logs::{Sink, subscriber};
use crate::process;
use crate::status::Expected;
use crate::supervisor::{DrainPolicy, DrainScope, Policy};

/// What the last lines may take on their way out. Whoever has not read them by then never will.
const LAST_LINES: Duration = Duration::from_secs(1);

/// Runs Envoy; the exit code of it all.
pub fn run(flags: &ProxyFlags, log: &LogFlags) -> Result<u8, Failure> {
    let (config, rendered) = prepare(flags, log)?;
    let sink = Sink::start(config.log.format).context("start the log thread")?;
    subscriber::subscribe(&config.log, &sink)?;
    for warning in config.warnings.iter().chain(&rendered.warnings) {
        warn!("{warning}");
    }
    match process::raise_open_files() {
        Ok(limit) => info!(limit, node = %config.node.id, "open files"),
        Err(error) => warn!(%error, "cannot raise the limit of open files"),
    }
    let Envoy { concurrency, max_heap, .. } = &config.envoy;
    info!(threads = concurrency.threads, because_of = %concurrency.source, ?max_heap, "sized Envoy");
    let settings = settings(flags.role, config, rendered)?;
    let end = block_on(driver::run(settings, sink.clone()));
    // A log nobody reads must not keep us.
    sink.flush(LAST_LINES);
    Ok(end??)
}

/// The checked configuration of this process, and the bootstrap it makes.
fn prepare(flags: &ProxyFlags, log: &LogFlags) -> Result<(Config, Rendered), Failure> {
    let inputs = Inputs {
        flags,
        log,
        overrides: &Overrides::default(),
        environment: &Environment::of_process(),
        root: &Root::new("."),
        interfaces: &Interfaces::of_machine(),
        limits: &Limits::of_process(),
    };
    let config = Config::load(inputs, Purpose::Run)?;
    let rendered = bootstrap::render(&config);
    Ok((config, rendered))
}

fn settings(role: Role, config: Config, rendered: Rendered) -> anyhow::Result<Settings> {
    let bootstrap: Value = serde_json::from_str(&rendered.json).context("read our own bootstrap")?;
    let wildcard: IpAddr = config.family.wildcard().parse()?;
    let localhost: IpAddr = config.family.localhost().parse()?;
    let usual = SocketAddr::new(localhost, config.proxy.proxy_admin_port);
    Ok(Settings {
        policy: policy(role, &config),
        binary: config.envoy.binary.clone(),
        folder: PathBuf::from(&config.proxy.config_path),
        admin: admin(&bootstrap, usual),
        status: config.status_port().map(|port| SocketAddr::new(wildcard, port.get())),
        expected: expected(&bootstrap),
        bootstrap: rendered.json,
        files: rendered.files.into_iter().map(|file| (file.path, file.contents)).collect(),
        arguments: Box::new(move |epoch, file| {
            let launch = Launch { bootstrap: file, epoch: epoch.get(), hot_restart: HotRestart::Off };
            argv(&config, launch)
        }),
    })
}

fn policy(role: Role, config: &Config) -> Policy {
    let default = Policy::default();
    let drain =
        DrainPolicy { minimum: config.drain.minimum, deadline: config.drain.deadline, ..default.drain };
    let withdraw = match role {
        Role::Sidecar => DrainScope::Inbound,
        // A gateway's listeners are all for others.
        Role::Router => DrainScope::All,
    };
    Policy { drain, withdraw, kill_grace: config.drain.kill_grace, ..default }
}

/// A bootstrap of the user's own may put the admin elsewhere.
fn admin(bootstrap: &Value, usual: SocketAddr) -> SocketAddr {
    let socket = bootstrap.pointer("/admin/address/socket_address");
    let port =
        socket.and_then(|socket| socket.get("port_value")?.as_u64()).and_then(|port| port.try_into().ok());
    let ip = socket.and_then(|socket| socket.get("address")?.as_str()?.parse().ok());
    // An admin that listens everywhere also listens here.
    let ip = ip.filter(|ip: &IpAddr| !ip.is_unspecified()).unwrap_or(usual.ip());
    SocketAddr::new(ip, port.unwrap_or(usual.port()))
}

/// A bootstrap of the user's own may need no control plane.
fn expected(bootstrap: &Value) -> Expected {
    let asks = |field: &str| bootstrap.pointer(&format!("/dynamic_resources/{field}")).is_some();
    if asks("cds_config") && asks("lds_config") { Expected::ClustersAndListeners } else { Expected::Nothing }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_admin_is_where_the_bootstrap_puts_it() {
        let check = |admin: Value, expected: &str| {
            let bootstrap = json!({"admin": {"address": admin}});
            let usual = "127.0.0.1:15000".parse().unwrap();
            assert_eq!(super::admin(&bootstrap, usual), expected.parse().unwrap(), "{bootstrap}");
        };
        let at = |address, port| json!({"socket_address": {"address": address, "port_value": port}});
        check(at("127.0.0.1", 9901), "127.0.0.1:9901");
        check(at("::1", 9901), "[::1]:9901");
        check(at("0.0.0.0", 9901), "127.0.0.1:9901");
        check(at("localhost", 9901), "127.0.0.1:9901");
        check(at("127.0.0.1", 70_000), "127.0.0.1:15000");
        check(json!({"pipe": {"path": "/admin"}}), "127.0.0.1:15000");
    }

    #[test]
    fn readiness_waits_for_what_the_bootstrap_asks_for() {
        let ads = json!({"ads": {}});
        let both = json!({"dynamic_resources": {"cds_config": ads, "lds_config": ads}});
        assert_eq!(expected(&both), Expected::ClustersAndListeners);
        assert_eq!(expected(&json!({"static_resources": {}})), Expected::Nothing);
    }
}

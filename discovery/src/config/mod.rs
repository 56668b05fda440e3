//! From the raw command line and environment to a checked configuration; all faults are reported at once.

pub(crate) mod args;
pub(crate) mod debug;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use args::DiscoveryArgs;
use debug::DebugConfig;
use pilot_core::push::debounce::Params;
use pilot_proto::duration;

use crate::logging::Logging;

/// Everything the server needs to know, checked.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Folder of the file registry.
    pub(crate) registry: PathBuf,
    /// Mesh configuration file; watched.
    pub(crate) mesh_file: PathBuf,
    /// `cluster.local`
    pub(crate) domain: String,
    /// Name of the cluster.
    pub(crate) cluster_id: String,
    /// Namespace of the control plane.
    pub(crate) namespace: String,
    /// Where to listen; `None`: not at all.
    pub(crate) grpc: Option<Listen>,
    /// Where to listen; `None`: not at all.
    pub(crate) http: Option<Listen>,
    /// Where to listen; `None`: not at all.
    pub(crate) monitoring: Option<Listen>,
    /// gRPC keepalive.
    pub(crate) keepalive: Keepalive,
    /// How long changes are gathered before a push.
    pub(crate) debounce: Params,
    /// From SIGTERM to the end, at most.
    pub(crate) shutdown: Duration,
    /// Levels and format.
    pub(crate) logging: Logging,
    /// Name of this instance: the pod's, when there is one.
    pub(crate) instance: String,
    /// Who may use the debug pages.
    pub(crate) debug: DebugConfig,
}

/// An address to listen on, with the flag it came from for error messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// For example `--grpcAddr`.
    pub(crate) flag: &'static str,
    /// To be tried in turn: `:15010` means all addresses, of IPv6 too where the kernel has it.
    pub(crate) addresses: Vec<SocketAddr>,
}

/// How connections are kept alive and ended.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keepalive {
    /// Between pings of an idle connection.
    pub(crate) interval: Duration,
    /// Until an unanswered ping ends it.
    pub(crate) timeout: Duration,
    /// Until it is asked to reconnect; `None`: never.
    pub(crate) max_age: Option<Duration>,
}

// === impl Config ===

impl Config {
    /// Checks the flags; every fault is one line that names its flag.
    pub(crate) fn check(args: &DiscoveryArgs) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        for registry in args.registries.iter().filter(|registry| !registry.is_empty()) {
            if registry != "File" {
                faults.push(format!("--registries: {registry:?} is not a registry this build reads (File)"));
            }
        }
        let config_dir = args.config_dir.clone().unwrap_or_else(|| {
            faults.push("--configDir: the registry File needs a folder to read".to_owned());
            PathBuf::new()
        });
        let mut listen = |flag, text: &str| match parse_listen(text) {
            Ok(addresses) if addresses.is_empty() => None,
            Ok(addresses) => Some(Listen { flag, addresses }),
            Err(why) => {
                faults.push(format!("{flag}: {why}"));
                None
            }
        };
        let grpc = listen("--grpcAddr", &args.grpc_addr);
        let http = listen("--httpAddr", &args.http_addr);
        let monitoring = listen("--monitoringAddr", &args.monitoring_addr);
        let mut span = |flag, text: &str| {
            duration::parse(text).unwrap_or_else(|why| {
                faults.push(format!("{flag}: {why}"));
                Duration::ZERO
            })
        };
        let keepalive = Keepalive {
            interval: span("--keepaliveInterval", &args.keepalive_interval),
            timeout: span("--keepaliveTimeout", &args.keepalive_timeout),
            max_age: match args.keepalive_max_server_connection_age.as_str() {
                // Istio prints its default, the largest int64 of nanoseconds, as 2562047h47m16.854775807s.
                "" | "2562047h47m16.854775807s" => None,
                text => Some(span("--keepaliveMaxServerConnectionAge", text)),
            },
        };
        let debounce = Params {
            after: span(
                "PILOT_DEBOUNCE_AFTER",
                &environment(&["PILOT_DEBOUNCE_AFTER"]).unwrap_or("100ms".to_owned()),
            ),
            max: span(
                "PILOT_DEBOUNCE_MAX",
                &environment(&["PILOT_DEBOUNCE_MAX"]).unwrap_or("10s".to_owned()),
            ),
        };
        let shutdown = span("--shutdownDuration", &args.shutdown_duration);
        let logging = Logging::parse(&args.log_output_level, args.log_as_json).unwrap_or_else(|why| {
            faults.push(format!("--log_output_level: {why}"));
            Logging::default()
        });
        let debug = DebugConfig::read(&mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            registry: config_dir,
            mesh_file: args.mesh_config.clone(),
            domain: args.domain.clone(),
            cluster_id: args.cluster_id.clone(),
            namespace: args.namespace.clone().unwrap_or_else(|| {
                environment(&["POD_NAMESPACE"]).unwrap_or_else(|| "istio-system".to_owned())
            }),
            grpc,
            http,
            monitoring,
            keepalive,
            debounce,
            shutdown,
            logging,
            instance: environment(&["POD_NAME", "HOSTNAME"]).unwrap_or_else(|| "pilot-discovery".to_owned()),
            debug,
        })
    }
}

/// The first of these variables that says something.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment(names: &[&str]) -> Option<String> {
    names.iter().filter_map(|name| std::env::var(name).ok()).find(|value| !value.is_empty())
}

/// `:15010`, `127.0.0.1:15010`, `[::1]:15010`, `localhost:15010`; nothing for an empty text.
fn parse_listen(text: &str) -> Result<Vec<SocketAddr>, String> {
    if text.is_empty() {
        return Ok(Vec::new());
    }
    let fail = || format!("{text:?} is not an address such as :15010 or 127.0.0.1:15010");
    match text.rsplit_once(':') {
        Some((host @ ("" | "localhost"), port)) => {
            let port: u16 = port.parse().map_err(|_| fail())?;
            let addresses: [std::net::IpAddr; 2] = if host.is_empty() {
                [std::net::Ipv6Addr::UNSPECIFIED.into(), std::net::Ipv4Addr::UNSPECIFIED.into()]
            } else {
                [std::net::Ipv4Addr::LOCALHOST.into(), std::net::Ipv6Addr::LOCALHOST.into()]
            };
            Ok(addresses.map(|ip| SocketAddr::new(ip, port)).to_vec())
        }
        _ => Ok(vec![text.parse().map_err(|_| fail())?]),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::args::{Cli, Command};
    use super::*;

    fn check(flags: &[&str]) -> Result<Config, Vec<String>> {
        let cli = Cli::try_parse_from(["pilot-discovery", "discovery"].iter().chain(flags)).unwrap();
        match cli.command {
            Command::Discovery(args) => Config::check(&args),
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn the_defaults_are_istios() {
        let config = check(&["--configDir", "/x"]).unwrap();
        assert_eq!(config.grpc.unwrap().addresses.len(), 2);
        assert_eq!(config.keepalive.interval, Duration::from_secs(30));
        assert_eq!(config.keepalive.max_age, None);
        assert_eq!(config.shutdown, Duration::from_secs(10));
    }

    #[test]
    fn an_empty_address_is_off() {
        assert_eq!(check(&["--configDir", "/x", "--httpAddr", ""]).unwrap().http, None);
    }

    #[test]
    fn all_faults_are_reported_and_each_names_its_flag() {
        let faults = check(&[
            "--registries=Consul",
            "--grpcAddr=nowhere",
            "--keepaliveInterval=soon",
            "--keepaliveMaxServerConnectionAge=old",
            "--log_output_level=loud",
        ])
        .unwrap_err();
        let flags: Vec<&str> = faults.iter().filter_map(|fault| fault.split(':').next()).collect();
        assert_eq!(
            flags,
            [
                "--registries",
                "--configDir",
                "--grpcAddr",
                "--keepaliveInterval",
                "--keepaliveMaxServerConnectionAge",
                "--log_output_level"
            ]
        );
    }

    #[test]
    fn an_unknown_flag_is_an_error() {
        assert!(Cli::try_parse_from(["pilot-discovery", "discovery", "--nope"]).is_err());
    }
}

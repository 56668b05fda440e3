//! Validated configuration, from command line and environment. All faults are reported at once.

pub(crate) mod args;
pub(crate) mod debug;
mod transport;

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use args::DiscoveryArgs;
use debug::DebugConfig;
use pilot_core::push::debounce::Params;
use pilot_proto::duration;
pub(crate) use transport::{Keepalive, Limits, Secure};

use crate::logging::Logging;
use crate::source::RegistryKind;

/// Validated configuration of the server.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    /// Registries to read (`--registries`).
    pub(crate) registries: BTreeSet<RegistryKind>,
    /// Directory of manifests, for the registry `File`.
    pub(crate) manifests: PathBuf,
    /// Mesh configuration file; watched.
    pub(crate) mesh_file: PathBuf,
    /// File of networks; watched.
    pub(crate) networks_file: PathBuf,
    /// `cluster.local`
    pub(crate) domain: String,
    /// Name of the cluster.
    pub(crate) cluster_id: String,
    /// Namespace of the control plane.
    pub(crate) namespace: String,
    /// Address of plaintext xDS; `None`: disabled.
    pub(crate) grpc: Option<Listen>,
    /// Address of readiness and debug pages; `None`: disabled.
    pub(crate) http: Option<Listen>,
    /// Address of metrics; `None`: disabled.
    pub(crate) monitoring: Option<Listen>,
    /// xDS over TLS; `None`: disabled.
    pub(crate) secure: Option<Secure>,
    /// gRPC keepalive.
    pub(crate) keepalive: Keepalive,
    /// Limits on clients.
    pub(crate) limits: Limits,
    /// Monitoring addresses of all instances, for rebalancing; empty: no rebalancing.
    pub(crate) peers: Vec<String>,
    /// Debounce of pushes.
    pub(crate) debounce: Params,
    /// `PILOT_PUSH_THROTTLE`: number of concurrent pushes. 0 or unset: 15, and 5 for each core, at most 100.
    pub(crate) push_throttle: usize,
    /// Longest time from SIGTERM to exit.
    pub(crate) shutdown: Duration,
    /// Log levels and format.
    pub(crate) logging: Logging,
    /// Name of this instance: that of the pod, if there is one.
    pub(crate) instance: String,
    /// Debug interface.
    pub(crate) debug: DebugConfig,
}

/// Address to listen on, and its flag for error messages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listen {
    /// For example `--grpcAddr`.
    pub(crate) flag: &'static str,
    /// Alternatives in order: `:15010` means all addresses, including IPv6 where the kernel supports it.
    pub(crate) addresses: Vec<SocketAddr>,
}

// === impl Config ===

impl Config {
    /// Validates the flags. Every fault is one line that begins with its flag.
    pub(crate) fn check(args: &DiscoveryArgs) -> Result<Self, Vec<String>> {
        let mut faults = Vec::new();
        let registries = registries(args, &mut faults);
        if registries.contains(&RegistryKind::File) && args.config_dir.is_none() {
            faults.push("--configDir: required for the registry File".to_owned());
        }
        let config_dir = args.config_dir.clone().unwrap_or_default();
        let mut listen = |flag, text: &str| match parse_listen(text) {
            Ok(addresses) if addresses.is_empty() => None,
            Ok(addresses) => Some(Listen { flag, addresses }),
            Err(why) => {
                faults.push(format!("{flag}: {why}"));
                None
            }
        };
        let grpc = listen("--grpcAddr", &args.grpc_addr);
        let secure = listen("--secureGRPCAddr", &args.secure_grpc_addr);
        let http = listen("--httpAddr", &args.http_addr);
        let monitoring = listen("--monitoringAddr", &args.monitoring_addr);
        let mut reader = transport::Reader { lookup: &|name| environment(&[name]), faults: &mut faults };
        let keepalive = reader.keepalive(args);
        let secure = reader.secure(args, secure);
        let (limits, peers) = (reader.limits(), reader.peers());
        let mut span = |flag, text: &str| {
            duration::parse(text).unwrap_or_else(|why| {
                faults.push(format!("{flag}: {why}"));
                Duration::ZERO
            })
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
        let throttle = environment(&["PILOT_PUSH_THROTTLE"]).unwrap_or_default();
        let push_throttle = match throttle.parse() {
            // As in Istio: more than cores, because a push mostly waits for the proxy.
            Ok(0) => None,
            Err(_) if throttle.is_empty() => None,
            Ok(count) => Some(count),
            Err(_) => {
                faults.push(format!("PILOT_PUSH_THROTTLE: {throttle:?} is not a number"));
                None
            }
        };
        let cores = std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get);
        let push_throttle = push_throttle.unwrap_or_else(|| (15 + 5 * cores).min(100));
        let logging = Logging::parse(&args.log_output_level, args.log_as_json).unwrap_or_else(|why| {
            faults.push(format!("--log_output_level: {why}"));
            Logging::default()
        });
        let debug = DebugConfig::read(&mut faults);
        if !faults.is_empty() {
            return Err(faults);
        }
        Ok(Self {
            registries,
            manifests: config_dir,
            mesh_file: args.mesh_config.clone(),
            networks_file: args.networks_config.clone(),
            domain: args.domain.clone(),
            cluster_id: args.cluster_id.clone(),
            namespace: args.namespace.clone().unwrap_or_else(|| {
                environment(&["POD_NAMESPACE"]).unwrap_or_else(|| "istio-system".to_owned())
            }),
            grpc,
            http,
            monitoring,
            secure,
            keepalive,
            limits,
            peers,
            debounce,
            push_throttle,
            shutdown,
            logging,
            instance: environment(&["POD_NAME", "HOSTNAME"]).unwrap_or_else(|| "pilot-discovery".to_owned()),
            debug,
        })
    }
}

/// Returns the registries of `--registries`.
fn registries(args: &DiscoveryArgs, faults: &mut Vec<String>) -> BTreeSet<RegistryKind> {
    let names = args.registries.iter().map(|name| name.trim()).filter(|name| !name.is_empty());
    let parsed: Vec<_> = names.map(RegistryKind::parse).collect();
    if parsed.is_empty() {
        faults.push("--registries: at least one registry is required".to_owned());
    }
    faults
        .extend(parsed.iter().filter_map(|result| Some(format!("--registries: {}", result.as_ref().err()?))));
    parsed.into_iter().flatten().collect()
}

/// Returns the first of these variables that is not empty.
#[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
fn environment(names: &[&str]) -> Option<String> {
    names.iter().filter_map(|name| std::env::var(name).ok()).find(|value| !value.is_empty())
}

/// Parses `:15010`, `127.0.0.1:15010`, `[::1]:15010`, `localhost:15010`. An empty text has no address.
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
    fn default_flags_are_those_of_istio() {
        let config = check(&["--configDir", "/x"]).unwrap();
        assert_eq!(config.grpc.unwrap().addresses.len(), 2);
        assert_eq!(config.keepalive.interval, Duration::from_secs(30));
        assert_eq!(config.keepalive.max_age, None);
        assert_eq!(config.shutdown, Duration::from_secs(10));
    }

    #[test]
    fn tls_requires_a_certificate_and_a_key() {
        let secure = |flags: &[&str]| {
            check(&[&["--configDir", "/x"][..], flags].concat()).map(|config| config.secure.is_some())
        };
        assert_eq!(secure(&[]), Ok(false));
        assert_eq!(secure(&["--tlsCertFile", "c", "--tlsKeyFile", "k"]), Ok(true));
        assert_eq!(secure(&["--tlsCertFile", "c", "--tlsKeyFile", "k", "--secureGRPCAddr", ""]), Ok(false));
        for (flags, flag) in [
            (["--tlsCertFile", "c"], "--tlsKeyFile"),
            (["--tlsKeyFile", "k"], "--tlsCertFile"),
            (["--caCertFile", "a"], "--caCertFile"),
        ] {
            assert!(secure(&flags).is_err_and(|faults| faults[0].starts_with(flag)), "{flags:?}");
        }
    }

    #[test]
    fn registries_are_a_list_of_case_insensitive_names() {
        let registries =
            |list: &str| check(&["--configDir", "/x", "--registries", list]).map(|config| config.registries);
        let file = BTreeSet::from([RegistryKind::File]);
        assert_eq!(registries("File"), Ok(file.clone()));
        assert_eq!(registries("file, FILE,"), Ok(file));
        for (list, faults) in [
            ("", &["at least one registry is required"][..]),
            ("File,Kubernetes", &["registry Kubernetes is not implemented yet; implemented: File"]),
            (
                "consul,Zookeeper",
                &[
                    "registry Consul is not implemented yet; implemented: File",
                    "unknown registry \"Zookeeper\"; implemented: File",
                ],
            ),
        ] {
            let faults: Vec<_> = faults.iter().map(|fault| format!("--registries: {fault}")).collect();
            assert_eq!(registries(list), Err(faults), "{list}");
        }
    }

    #[test]
    fn empty_address_disables_the_listener() {
        assert_eq!(check(&["--configDir", "/x", "--httpAddr", ""]).unwrap().http, None);
    }

    #[test]
    fn all_faults_are_reported_and_each_names_its_flag() {
        let faults = check(&[
            "--registries=File,Consul",
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
    fn keepalive_of_zero_is_rejected() {
        for flag in ["--keepaliveInterval", "--keepaliveTimeout", "--keepaliveMaxServerConnectionAge"] {
            let faults = check(&["--configDir", "/x", flag, "0s"]).unwrap_err();
            assert!(faults.len() == 1 && faults[0].starts_with(flag), "{faults:?}");
        }
    }

    #[test]
    fn unknown_flag_is_an_error() {
        assert!(Cli::try_parse_from(["pilot-discovery", "discovery", "--nope"]).is_err());
    }
}

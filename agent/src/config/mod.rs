//! Configuration: flags, variables and files are checked and combined to a [`Config`], or to a list of all errors.
//!
//! The environment and the files around the agent are read in this module only. Envoy's bootstrap is rendered by
//! [`crate::bootstrap`].

pub(crate) mod address;
mod cluster;
mod downward;
mod drain;
pub(crate) mod env;
mod envoy;
pub(crate) mod fault;
mod files;
mod interfaces;
pub(crate) mod level;
pub(crate) mod node;
mod proxy;
pub(crate) mod sizing;
pub(crate) mod source_files;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
pub(crate) mod xds;
mod yaml;

use std::num::NonZeroU16;
use std::time::Duration;

use pilot_proto::mesh::proxy_config::{AuthenticationPolicy, ProxyConfig};
use pilot_proto::node::NodeId;

use crate::cgroup::Limits;
use crate::cli::{LogFlags, LogTarget, Overrides, ProxyFlags};
use address::IpFamily;
pub(crate) use drain::Drain;
use drain::{DrainMode, DrainSettings};
use env::{Environment, Switch, Variables};
pub(crate) use envoy::{EnvoySettings, LogFormatSource};
use fault::Faults;
use files::Pod;
pub(crate) use files::Root;
pub(crate) use interfaces::Interfaces;
use level::{LogFormat, LogLevels};
use node::{Node, NodeInputs};
use sizing::{Concurrency, ConcurrencySource};
use xds::XdsTransport;

/// Everything the agent needs to know, checked.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// Identity of the proxy.
    pub(crate) node: Node,
    /// The effective `ProxyConfig`.
    pub(crate) proxy: ProxyConfig,
    /// The environment's part.
    pub(crate) variables: Variables,
    /// IP families of the proxy.
    pub(crate) family: IpFamily,
    /// Connection to the control plane.
    pub(crate) xds: XdsTransport,
    /// Envoy's settings besides its bootstrap.
    pub(crate) envoy: EnvoySettings,
    /// Limits of Envoy's drain.
    pub(crate) drain: Drain,
    /// The agent's log.
    pub(crate) log: Log,
    /// Warnings for the log, a line each.
    pub(crate) warnings: Vec<String>,
}

/// The agent's log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Log {
    /// Levels by scope.
    pub(crate) levels: LogLevels,
    /// Format of the agent's and Envoy's lines.
    pub(crate) format: LogFormat,
    /// Target of the log.
    pub(crate) target: LogTarget,
}

/// Purpose of loading the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Runs Envoy; its binary must exist.
    Run,
    /// Shows the configuration only.
    Show,
}

/// Everything a configuration is made of.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ConfigInputs<'a> {
    /// Flags of `proxy`.
    pub(crate) flags: &'a ProxyFlags,
    /// Flags of the log.
    pub(crate) log: &'a LogFlags,
    /// Values of `bootstrap` that replace detected ones.
    pub(crate) overrides: &'a Overrides,
    /// The environment.
    pub(crate) environment: &'a Environment,
    /// Folder of relative paths.
    pub(crate) root: &'a Root,
    /// Addresses of the machine.
    pub(crate) interfaces: &'a Interfaces,
    /// Resources of the container. Read once, so that a later load gives the same and Envoy keeps its number of threads over a
    /// hot restart.
    pub(crate) limits: &'a Limits,
}

// === impl Config ===

impl Config {
    /// Checks everything; the error is every mistake, not the first.
    pub(crate) fn load(inputs: ConfigInputs<'_>, purpose: Purpose) -> Result<Self, Faults> {
        let ConfigInputs { flags, log, overrides, environment, root, interfaces, limits } = inputs;
        let (mut faults, mut warnings) = (Faults::default(), flags.without_effect());
        let mut variables = Variables::read(environment, &mut faults);
        variables.envoy_status_port = overrides.envoy_status_port.unwrap_or(variables.envoy_status_port);
        variables.envoy_prometheus_port =
            overrides.prometheus_port.unwrap_or(variables.envoy_prometheus_port);
        let pod = root.pod(&mut faults);
        let read = proxy::read((flags, &variables, &pod, root), &mut faults, &mut warnings);
        // Errors of defaults are not reported to a user with an unreadable ProxyConfig.
        let (mut proxy, mut consequent) =
            (read.clone().unwrap_or_else(ProxyConfig::defaults), Faults::default());
        if proxy.custom_config_file.is_empty() && !flags.template_file.is_empty() {
            proxy.proxy_bootstrap_template_path.clone_from(&flags.template_file);
        }

        let concurrency = Concurrency::decide(flags.concurrency, proxy.concurrency, &variables, limits);
        match concurrency.source {
            // Node metadata contains configured values, not detected ones.
            ConcurrencySource::Quota | ConcurrencySource::Cores => {}
            _ => proxy.concurrency = Some(concurrency.threads.get()),
        }
        let max_heap = sizing::max_heap(overrides.memory_limit(limits), &mut warnings);

        let addresses = addresses(overrides, &variables, &pod, interfaces);
        let family = IpFamily::of(&addresses, variables.dual_stack());
        let pilot_san = pilot_san(&proxy, &variables, overrides);
        let xds =
            XdsTransport::decide(overrides.xds, (&proxy, &variables, root), &pilot_san, &mut consequent);
        let facts = NodeInputs {
            id: overrides.node_id.clone().unwrap_or_else(|| node_id(flags, &variables, &addresses)),
            addresses,
            pilot_san,
            outlier_log_path: &flags.outlier_log_path,
            version: overrides.version.as_deref().unwrap_or(env!("CARGO_PKG_VERSION")),
            proxy: &proxy,
            variables: &variables,
            pod: &pod,
        };
        let node = Node::collect(facts, environment, &mut faults);
        let envoy =
            EnvoySettings::read((flags, &proxy, &variables, root), (concurrency, max_heap), &mut faults);
        if purpose == Purpose::Run {
            envoy.check_binary(&mut consequent);
        }
        if read.is_some() {
            faults.extend(consequent);
        }
        let mode = if variables.is_on(Switch::ExitOnZeroActiveConnections) {
            DrainMode::ZeroConnections
        } else {
            DrainMode::FixedTime
        };
        let drain = Drain::of(DrainSettings {
            grace: flags.termination_grace_period,
            termination: termination(&proxy, &variables),
            minimum: variables.minimum_drain,
            mode,
        });
        let log = Log::of(log, &mut faults);
        faults.unless_any(Self { node, proxy, variables, family, xds, envoy, drain, log, warnings })
    }

    /// Port of the agent's status server; `None`: it is off.
    pub(crate) fn status_port(&self) -> Option<NonZeroU16> {
        NonZeroU16::new(self.proxy.status_port)
    }
}

/// The proxy's addresses, its own first.
fn addresses(
    overrides: &Overrides,
    variables: &Variables,
    pod: &Pod,
    interfaces: &Interfaces,
) -> Vec<String> {
    if !overrides.instance_ips.is_empty() {
        let mut given: Vec<String> = Vec::new();
        for ip in overrides.instance_ips.iter().map(ToString::to_string) {
            if !given.contains(&ip) {
                given.push(ip);
            }
        }
        return given;
    }
    let excluded = pod.annotations.get("traffic.sidecar.istio.io/excludeInterfaces");
    let excluded: Vec<_> =
        excluded.map(|names| names.split(',').map(str::trim).collect()).unwrap_or_default();
    interfaces.proxy_addresses(variables.instance_ip, &excluded)
}

fn node_id(flags: &ProxyFlags, variables: &Variables, addresses: &[String]) -> NodeId {
    let Variables { pod_name, pod_namespace, .. } = variables;
    NodeId {
        node_type: flags.role.node_type(),
        ip: addresses.first().cloned().unwrap_or_default(),
        id: format!("{pod_name}.{pod_namespace}"),
        dns_domain: if flags.domain.is_empty() {
            format!("{pod_namespace}.svc.cluster.local")
        } else {
            flags.domain.clone()
        },
    }
}

/// Istio's older variable counts where the newer setting has its default.
fn termination(proxy: &ProxyConfig, variables: &Variables) -> Option<Duration> {
    let usual = ProxyConfig::defaults().termination_drain_duration;
    let older = variables.termination_drain.filter(|_| proxy.termination_drain_duration == usual);
    older.or(proxy.termination_drain_duration)
}

/// Names the control plane must prove. One reached through a forwarded port proves its usual name.
fn pilot_san(proxy: &ProxyConfig, variables: &Variables, overrides: &Overrides) -> Vec<String> {
    if !overrides.pilot_sans.is_empty() {
        return overrides.pilot_sans.clone();
    }
    if proxy.control_plane_auth_policy == AuthenticationPolicy::None {
        return Vec::new();
    }
    let host = proxy.discovery_address.rsplit_once(':').map_or("", |(host, _)| host);
    let host = if host == "localhost" { "istiod.istio-system.svc" } else { host };
    vec![variables.istiod_san.clone().unwrap_or_else(|| host.to_owned())]
}

// === impl Log ===

impl Log {
    fn of(flags: &LogFlags, faults: &mut Faults) -> Self {
        let levels = flags.levels.parse().unwrap_or_else(|error| {
            faults.usage("--log_output_level", error);
            LogLevels::default()
        });
        let format = if flags.as_json { LogFormat::Json } else { LogFormat::Text };
        Self { levels, format, target: flags.target }
    }
}

//! Environment: one table of the variables that the agent uses, with defaults, read and checked once.
//!
//! No other module reads the environment. Variables that are only passed to node metadata (`ISTIO_META_*`) are collected in
//! [`super::node`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use pilot_proto::duration;

use super::address::DualStack;
use super::fault::Faults;

/// A snapshot of the environment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Environment(BTreeMap<String, String>);

/// Feature that can be turned on or off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Switch {
    /// Envoy writes core dumps.
    CoreDump,
    /// Envoy is silent about deprecated fields.
    SkipDeprecatedLogs,
    /// Configuration comes as differences.
    DeltaXds,
    /// A pod with addresses of both families uses both.
    DualStack,
    /// A drain ends with the last connection.
    ExitOnZeroActiveConnections,
    /// The health listener accepts the PROXY protocol.
    StatusPortProxyProtocol,
    /// `#fragment` is cut off a path. Istio's name is the wrong way round, and cannot be changed any more.
    StripFragment,
}

/// The variables we act on, with their values.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Variables {
    /// The pod's address.
    pub(crate) instance_ip: Option<IpAddr>,
    /// The pod's name.
    pub(crate) pod_name: String,
    /// The pod's namespace.
    pub(crate) pod_namespace: String,
    /// The pod's service account.
    pub(crate) service_account: Option<String>,
    /// The node's address.
    pub(crate) host_ip: Option<String>,
    /// CPUs of the container, rounded up; 0: no limit.
    pub(crate) cpu_limit: u32,
    /// A `ProxyConfig` in YAML.
    pub(crate) proxy_config: String,
    /// A bootstrap file instead of the rendered one.
    pub(crate) bootstrap: Option<String>,
    /// A file of what `--config-yaml` lays over the bootstrap.
    pub(crate) bootstrap_override: Option<String>,
    /// Port of Envoy's health listener.
    pub(crate) envoy_status_port: u16,
    /// Port of Envoy's Prometheus listener.
    pub(crate) envoy_prometheus_port: u16,
    /// Port of Envoy's own metrics with mutual TLS; 0: none.
    pub(crate) secure_metrics_port: u16,
    /// Port of the merged metrics with mutual TLS; 0: none.
    pub(crate) secure_merged_metrics_port: u16,
    /// Shortest drain when a drain may end with the last connection.
    pub(crate) minimum_drain: Option<Duration>,
    /// Maximum duration of a drain, unless `terminationDrainDuration` sets it. Istio's variable until 1.10.
    pub(crate) termination_drain: Option<Duration>,
    /// Discovery of `istio.workload`; unset: on if HBONE is on.
    pub(crate) peer_metadata_discovery: Option<bool>,
    /// `fips-140-2`, `fips-140-3` or nothing.
    pub(crate) compliance_policy: String,
    /// Name of the SDS socket in its folder.
    pub(crate) workload_identity_socket: String,
    /// Name that the control plane must prove instead of its host's.
    pub(crate) istiod_san: Option<String>,
    /// File of the roots the control plane is verified with, or `SYSTEM`.
    pub(crate) xds_root_ca: Option<String>,
    /// Listen address of the DNS proxy.
    pub(crate) dns_proxy_address: Option<String>,
    /// File that Kubernetes reads the container's last message from, if it is there.
    pub(crate) termination_log: String,
    on: BTreeSet<Switch>,
}

/// Switches: name and default.
const SWITCHES: [(Switch, &str, bool); 7] = [
    (Switch::CoreDump, "ISTIO_ENVOY_ENABLE_CORE_DUMP", false),
    (Switch::SkipDeprecatedLogs, "ENVOY_SKIP_DEPRECATED_LOGS", true),
    (Switch::DeltaXds, "ISTIO_DELTA_XDS", true),
    (Switch::DualStack, "ISTIO_DUAL_STACK", false),
    (Switch::ExitOnZeroActiveConnections, "EXIT_ON_ZERO_ACTIVE_CONNECTIONS", false),
    (Switch::StatusPortProxyProtocol, "ENVOY_STATUS_PORT_ENABLE_PROXY_PROTOCOL", false),
    (Switch::StripFragment, "HTTP_STRIP_FRAGMENT_FROM_PATH_UNSAFE_IF_DISABLED", true),
];

// === impl Environment ===

impl Environment {
    /// Of this process. A variable that is not UTF-8 is none of ours and is left out.
    #[expect(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub(crate) fn of_process() -> Self {
        Self(
            std::env::vars_os()
                .filter_map(|(k, v)| Some((k.into_string().ok()?, v.into_string().ok()?)))
                .collect(),
        )
    }

    /// The variable, unless unset or empty: Kubernetes writes a missing field as an empty one.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    /// Path of the termination message. Named after `terminationMessagePath`, for pods that set it.
    pub(crate) fn termination_log(&self) -> &str {
        self.get("TERMINATION_MESSAGE_PATH").unwrap_or("/dev/termination-log")
    }

    /// Every variable that begins so, without the beginning.
    pub(crate) fn with_prefix<'a>(&'a self, prefix: &'a str) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.0.iter().filter_map(move |(name, value)| Some((name.strip_prefix(prefix)?, value.as_str())))
    }

    fn text(&self, name: &str) -> Option<String> {
        self.get(name).map(ToOwned::to_owned)
    }

    fn parse<T: FromStr>(&self, name: &str, what: &str, faults: &mut Faults) -> Option<T> {
        let text = self.get(name)?;
        let value = text.parse().ok();
        if value.is_none() {
            faults.configuration(name, format!("{text:?} is not {what}"));
        }
        value
    }

    fn switch(&self, name: &str, faults: &mut Faults) -> Option<bool> {
        let text = self.get(name)?;
        // The spellings of Go's ParseBool, because a pod written for Istio uses them.
        match text {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => {
                faults.configuration(name, format!("{text:?} is neither true nor false"));
                None
            }
        }
    }
}

impl<K: Into<String>, V: Into<String>> FromIterator<(K, V)> for Environment {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(variables: I) -> Self {
        Self(variables.into_iter().map(|(name, value)| (name.into(), value.into())).collect())
    }
}

// === impl Variables ===

impl Variables {
    /// Reads the table. A bad value is noted and its default taken, so that the rest is checked too.
    pub(crate) fn read(env: &Environment, faults: &mut Faults) -> Self {
        let on = SWITCHES
            .into_iter()
            .filter(|(_, name, default)| env.switch(name, faults).unwrap_or(*default))
            .map(|(switch, _, _)| switch)
            .collect();
        let mut port = |name, default| env.parse(name, "a port", faults).unwrap_or(default);
        let [envoy_status_port, envoy_prometheus_port] =
            [port("ENVOY_STATUS_PORT", 15021), port("ENVOY_PROMETHEUS_PORT", 15090)];
        let [secure_metrics_port, secure_merged_metrics_port] =
            [port("ENVOY_SECURE_METRICS_PORT", 0), port("ENVOY_SECURE_MERGED_METRICS_PORT", 0)];
        let minimum_drain = env.get("MINIMUM_DRAIN_DURATION").and_then(|text| {
            duration::parse(text).map_err(|error| faults.configuration("MINIMUM_DRAIN_DURATION", error)).ok()
        });
        let termination_drain = env
            .parse("TERMINATION_DRAIN_DURATION_SECONDS", "a number of seconds", faults)
            .map(Duration::from_secs);
        Self {
            instance_ip: env.parse("INSTANCE_IP", "an IP address", faults),
            pod_name: env.text("POD_NAME").unwrap_or_default(),
            pod_namespace: env.text("POD_NAMESPACE").unwrap_or_default(),
            service_account: env.text("SERVICE_ACCOUNT"),
            host_ip: env.text("HOST_IP"),
            cpu_limit: env.parse("ISTIO_CPU_LIMIT", "a number of CPUs", faults).unwrap_or(0),
            proxy_config: env.text("PROXY_CONFIG").unwrap_or_default(),
            bootstrap: env.text("ISTIO_BOOTSTRAP"),
            bootstrap_override: env.text("ISTIO_BOOTSTRAP_OVERRIDE"),
            envoy_status_port,
            envoy_prometheus_port,
            secure_metrics_port,
            secure_merged_metrics_port,
            minimum_drain,
            termination_drain,
            peer_metadata_discovery: env.switch("PEER_METADATA_DISCOVERY", faults),
            compliance_policy: env.text("COMPLIANCE_POLICY").unwrap_or_default(),
            workload_identity_socket: env
                .text("WORKLOAD_IDENTITY_SOCKET_FILE")
                .unwrap_or_else(|| "socket".into()),
            istiod_san: env.text("ISTIOD_SAN"),
            xds_root_ca: env.text("XDS_ROOT_CA"),
            dns_proxy_address: env.text("DNS_PROXY_ADDR"),
            termination_log: env.termination_log().to_owned(),
            on,
        }
    }

    /// Returns `true` if the switch is on.
    pub(crate) fn is_on(&self, switch: Switch) -> bool {
        self.on.contains(&switch)
    }

    /// Returns the use of both families in a dual-stack pod.
    pub(crate) fn dual_stack(&self) -> DualStack {
        if self.is_on(Switch::DualStack) { DualStack::On } else { DualStack::Off }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(variables: &[(&str, &str)]) -> (Variables, Faults) {
        let mut faults = Faults::default();
        let variables = Variables::read(&variables.iter().copied().collect(), &mut faults);
        (variables, faults)
    }

    #[test]
    fn nothing_set_is_istios_defaults() {
        let (variables, faults) = read(&[("ENVOY_STATUS_PORT", ""), ("INSTANCE_IP", "")]);
        assert_eq!(faults, Faults::default());
        assert_eq!((variables.envoy_status_port, variables.envoy_prometheus_port), (15021, 15090));
        assert_eq!((variables.secure_metrics_port, variables.cpu_limit), (0, 0));
        assert_eq!(variables.minimum_drain, None);
        assert_eq!(variables.termination_log, "/dev/termination-log");
        assert_eq!(variables.workload_identity_socket, "socket");
        assert_eq!(variables.peer_metadata_discovery, None);
        let on = [Switch::SkipDeprecatedLogs, Switch::DeltaXds, Switch::StripFragment];
        assert_eq!(variables.on, BTreeSet::from(on));
    }

    #[test]
    fn what_is_set_is_read() {
        let (variables, faults) = read(&[
            ("INSTANCE_IP", "fd00::1"),
            ("ISTIO_CPU_LIMIT", "2"),
            ("ENVOY_STATUS_PORT", "1"),
            ("MINIMUM_DRAIN_DURATION", "1m"),
            ("ISTIO_DELTA_XDS", "0"),
            ("ISTIO_DUAL_STACK", "True"),
            ("PEER_METADATA_DISCOVERY", "false"),
        ]);
        assert_eq!(faults, Faults::default());
        assert_eq!(variables.instance_ip, Some("fd00::1".parse().unwrap()));
        assert_eq!((variables.cpu_limit, variables.envoy_status_port), (2, 1));
        assert_eq!(variables.minimum_drain, Some(Duration::from_mins(1)));
        assert!(!variables.is_on(Switch::DeltaXds));
        assert_eq!(variables.dual_stack(), DualStack::On);
        assert_eq!(variables.peer_metadata_discovery, Some(false));
    }

    #[test]
    fn every_bad_value_is_named() {
        let (_, faults) = read(&[
            ("INSTANCE_IP", "pod"),
            ("ENVOY_STATUS_PORT", "70000"),
            ("MINIMUM_DRAIN_DURATION", "5"),
            ("ISTIO_DELTA_XDS", "maybe"),
        ]);
        let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
        assert_eq!(
            lines,
            [
                "ISTIO_DELTA_XDS: \"maybe\" is neither true nor false",
                "ENVOY_STATUS_PORT: \"70000\" is not a port",
                "MINIMUM_DRAIN_DURATION: \"5\" is not a duration such as 10s, 1m30s or 250ms",
                "INSTANCE_IP: \"pod\" is not an IP address",
            ]
        );
    }
}

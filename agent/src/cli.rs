//! The command line, in Istio's spelling. What a value means is checked in [`crate::config`].
//!
//! Istio's agent ignores flags it does not know; ours refuses them: a misspelt flag is a setting lost.

use std::ffi::OsString;
use std::net::IpAddr;
use std::num::{NonZeroU16, NonZeroU64};
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand, ValueEnum};
use pilot_proto::duration;
use pilot_proto::node::{NodeId, NodeType};

use crate::cgroup::Limits;
use crate::peer::TrustedUids;

/// Entrypoint of the sidecar container: renders Envoy's bootstrap, runs Envoy, drains it.
#[derive(Debug, Parser)]
#[command(name = "pilot-agent")]
pub(crate) struct Cli {
    /// Subcommand to run
    #[command(subcommand)]
    pub(crate) command: Command,
    /// The agent's log.
    #[command(flatten)]
    pub(crate) log: LogFlags,
}

/// Subcommand.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run Envoy
    Proxy(ProxyFlags),
    /// Run Envoy and a command beside it, and end with the command
    Run(Box<RunFlags>),
    /// Print the bootstrap that `proxy` would give Envoy
    Bootstrap(Box<BootstrapFlags>),
    /// Make a request to Envoy's admin, or to the agent
    Request(RequestFlags),
    /// Show where in its life the sidecar is
    Status(StatusFlags),
    /// Wait until Envoy is ready
    Wait(WaitFlags),
    /// Print the version
    Version(VersionFlags),
    /// Print a completion script for a shell
    Completion {
        /// The shell
        shell: clap_complete::Shell,
    },
}

/// Flags of the agent's own log.
#[derive(Clone, Debug, Args)]
pub(crate) struct LogFlags {
    /// Levels of the agent's log, as default:info,scope:debug
    #[arg(
        long = "log_output_level",
        global = true,
        default_value = "default:info",
        hide_default_value = true
    )]
    pub(crate) levels: String,
    /// Write the agent's and Envoy's log as JSON
    #[arg(
        long = "log_as_json", global = true, default_value_t = false, value_name = "BOOL",
        num_args = 0..=1, require_equals = true, default_missing_value = "true", action = clap::ArgAction::Set
    )]
    pub(crate) as_json: bool,
    /// Target of the agent's log
    #[arg(long = "log_target", global = true, value_enum, default_value_t = LogTarget::Stdout)]
    pub(crate) target: LogTarget,
}

/// Target of the agent's log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogTarget {
    /// Standard output.
    #[default]
    Stdout,
    /// Standard error.
    Stderr,
}

/// Role of the proxy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Role {
    /// Beside an application
    #[default]
    Sidecar,
    /// A gateway
    Router,
}

/// Mode of hot restarts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum HotRestartMode {
    /// Mediated where Envoy's protocol is known, else native
    #[default]
    Auto,
    /// The agent holds the listening sockets and hands them on
    Mediated,
    /// Envoy's own protocol between the two
    Native,
    /// Not at all
    Off,
}

/// Policy for crashes of Envoy.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum RestartMode {
    /// Restarts it, until ten crashes in a row
    #[default]
    Always,
    /// The agent ends with its status
    Never,
}

/// Flags of `run`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RunFlags {
    /// As for `proxy`.
    #[command(flatten)]
    pub(crate) proxy: ProxyFlags,
    /// The command and its arguments, after --
    #[arg(last = true, required = true, value_name = "CMD")]
    pub(crate) command: Vec<OsString>,
}

/// Flags of `proxy`.
#[derive(Clone, Debug, Args)]
pub(crate) struct ProxyFlags {
    /// Role of the proxy
    #[arg(value_enum, default_value_t = Role::Sidecar)]
    pub(crate) role: Role,
    /// DNS domain of the proxy; if not given, `$POD_NAMESPACE.svc.cluster.local`
    #[arg(long, default_value = "", hide_default_value = true)]
    pub(crate) domain: String,
    /// File of the mesh's configuration; `PROXY_CONFIG` and the annotation proxy.istio.io/config outrank it
    #[arg(long = "meshConfig", default_value = "./etc/istio/config/mesh")]
    pub(crate) mesh_config: String,
    /// Envoy's log level, perhaps by component: warning,misc:error
    #[arg(long = "proxyLogLevel", default_value = "warning")]
    pub(crate) proxy_log_level: String,
    /// Envoy's log levels by component; deprecated, --proxyLogLevel can say it
    #[arg(long = "proxyComponentLogLevel", default_value = "", hide_default_value = true)]
    pub(crate) proxy_component_log_level: String,
    /// Number of Envoy's worker threads; 0: by ProxyConfig, or one per core
    #[arg(long, default_value_t = 0)]
    pub(crate) concurrency: u32,
    /// A bootstrap to use instead of the rendered one
    #[arg(long = "templateFile", default_value = "", hide_default_value = true)]
    pub(crate) template_file: String,
    /// Service name of a proxy whose ProxyConfig has none; deprecated
    #[arg(long = "serviceCluster", default_value = "istio-proxy")]
    pub(crate) service_cluster: String,
    /// File that outlier events are logged to
    #[arg(long = "outlierLogPath", default_value = "", hide_default_value = true)]
    pub(crate) outlier_log_path: String,
    /// The pod's terminationGracePeriodSeconds: Envoy has ended before it is over
    #[arg(long = "terminationGracePeriod", value_parser = duration::parse)]
    pub(crate) termination_grace_period: Option<Duration>,
    /// Delay between SIGTERM and the drain, for load balancers to notice
    #[arg(long = "preDrainDelay", value_parser = duration::parse, default_value = "0s", hide_default_value = true)]
    pub(crate) pre_drain_delay: Duration,
    /// Mode of hot restarts: the process that passes listening sockets to the new Envoy
    #[arg(long = "hotRestartMode", value_enum, default_value_t)]
    pub(crate) hot_restart_mode: HotRestartMode,
    /// Time limit for a new Envoy to become LIVE; after it the old one continues to serve
    #[arg(long = "hotRestartDeadline", value_parser = duration::parse, default_value = "60s")]
    pub(crate) hot_restart_deadline: Duration,
    /// Policy for crashes of Envoy; with never, the agent exits with Envoy's status
    #[arg(long = "restartPolicy", value_enum, default_value_t)]
    pub(crate) restart_policy: RestartMode,
    /// Leave Envoy's admin on its port, open to the whole pod, as Istio does
    #[arg(long = "rawAdmin")]
    pub(crate) raw_admin: bool,
    /// User ids that may use the admin and give orders besides root and our own: 1000,2000 or any
    #[arg(long = "trustedUids", default_value = "", hide_default_value = true)]
    pub(crate) trusted_uids: TrustedUids,
    /// Drains and exits when this process exits, with its exit code if the kernel reports it
    #[arg(long = "exitWith", value_name = "PID", value_parser = clap::value_parser!(i32).range(1..))]
    pub(crate) exit_with: Option<i32>,
    /// Accepted for Istio's templates, without effect
    #[arg(long = "stsPort", hide = true)]
    pub(crate) sts_port: Option<u16>,
    /// Accepted for Istio's templates, without effect
    #[arg(long = "tokenManagerPlugin", hide = true)]
    pub(crate) token_manager_plugin: Option<String>,
    /// Accepted for Istio's templates, without effect
    #[arg(long, hide = true, num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    pub(crate) profiling: Option<bool>,
}

/// Flags of `bootstrap`.
#[derive(Clone, Debug, Args)]
pub(crate) struct BootstrapFlags {
    /// As for `proxy`.
    #[command(flatten)]
    pub(crate) proxy: ProxyFlags,
    /// Overrides of detected values.
    #[command(flatten)]
    pub(crate) overrides: Overrides,
    /// File to write, or - for standard output
    #[arg(long, default_value = "-")]
    pub(crate) out: PathBuf,
}

/// Overrides of detected values for `bootstrap`, so that its output depends on nothing else.
#[derive(Clone, Debug, Default, PartialEq, Args)]
pub(crate) struct Overrides {
    /// The node's id: sidecar~10.1.1.1~pod.ns~ns.svc.cluster.local
    #[arg(long)]
    pub(crate) node_id: Option<NodeId>,
    /// Address of the proxy; several times for several
    #[arg(long = "instance-ip", value_delimiter = ',')]
    pub(crate) instance_ips: Vec<IpAddr>,
    /// Name the control plane must prove; several times for several
    #[arg(long = "pilot-san", value_delimiter = ',')]
    pub(crate) pilot_sans: Vec<String>,
    /// Port of Envoy's health listener
    #[arg(long)]
    pub(crate) envoy_status_port: Option<u16>,
    /// Port of Envoy's Prometheus listener
    #[arg(long)]
    pub(crate) prometheus_port: Option<u16>,
    /// Version of the agent
    #[arg(long)]
    pub(crate) version: Option<String>,
    /// Memory limit of the container in bytes; 0: none. If not given, the one there is, unless anything else is given
    #[arg(long)]
    pub(crate) memory_limit: Option<u64>,
    /// Connection of Envoy to the control plane
    #[arg(long, value_enum, default_value_t)]
    pub(crate) xds: XdsMode,
}

/// Transport of the xDS connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum XdsMode {
    /// Through the agent's socket
    Socket,
    /// Directly to discoveryAddress
    #[default]
    Direct,
}

/// Flags of `request`.
#[derive(Clone, Debug, Args)]
pub(crate) struct RequestFlags {
    /// Port on this host: Envoy's admin, or the agent's
    #[arg(long, default_value = "15000")]
    pub(crate) debug_port: NonZeroU16,
    /// GET, POST, ...
    pub(crate) method: String,
    /// With or without a leading slash
    pub(crate) path: String,
    /// Body of the request
    #[arg(default_value = "", hide_default_value = true)]
    pub(crate) body: String,
}

/// Flags of `status`.
#[derive(Clone, Debug, Args)]
pub(crate) struct StatusFlags {
    /// The agent's status port on this host
    #[arg(long, default_value = "15020")]
    pub(crate) port: NonZeroU16,
    /// Everything, for programs
    #[arg(long)]
    pub(crate) json: bool,
}

/// Flags of `wait`.
#[derive(Clone, Debug, Args)]
pub(crate) struct WaitFlags {
    /// Time limit in seconds
    #[arg(long = "timeoutSeconds", default_value_t = 60)]
    pub(crate) timeout_seconds: u32,
    /// Time limit of one request in milliseconds
    #[arg(long = "requestTimeoutMillis", default_value_t = 500)]
    pub(crate) request_timeout_millis: u32,
    /// Interval between requests in milliseconds
    #[arg(long = "periodMillis", default_value_t = 500)]
    pub(crate) period_millis: u32,
    /// URL that returns 200 when Envoy is ready
    #[arg(long, default_value = "http://localhost:15021/healthz/ready")]
    pub(crate) url: http::Uri,
}

/// Flags of `version`.
#[derive(Clone, Debug, Args)]
pub(crate) struct VersionFlags {
    /// The version and nothing else
    #[arg(short, long)]
    pub(crate) short: bool,
    /// For programs
    #[arg(short, long, value_enum)]
    pub(crate) output: Option<VersionFormat>,
}

/// Output format of `version`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum VersionFormat {
    /// An object
    Json,
    /// YAML
    Yaml,
}

// === impl Role ===

impl Role {
    /// As node ids have it.
    pub(crate) const fn node_type(self) -> NodeType {
        match self {
            Self::Sidecar => NodeType::Sidecar,
            Self::Router => NodeType::Router,
        }
    }
}

// === impl Overrides ===

impl Overrides {
    /// Returns the memory of the container in bytes. Any override describes another container than this one.
    pub(crate) fn memory_limit(&self, limits: &Limits) -> Option<NonZeroU64> {
        if *self == Self::default() { limits.memory } else { self.memory_limit.and_then(NonZeroU64::new) }
    }
}

// === impl ProxyFlags ===

impl ProxyFlags {
    /// A warning for each flag given that has no effect here.
    pub(crate) fn without_effect(&self) -> Vec<String> {
        [
            (self.sts_port.is_some_and(|port| port != 0), "--stsPort"),
            (
                self.token_manager_plugin.as_ref().is_some_and(|plugin| !plugin.is_empty()),
                "--tokenManagerPlugin",
            ),
            (self.profiling == Some(true), "--profiling"),
        ]
        .into_iter()
        .filter(|(given, _)| *given)
        .map(|(_, flag)| format!("{flag} has no effect"))
        .collect()
    }
}

//! Command line: names, defaults and help. `config` validates the values.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// Control plane of the mesh.
#[derive(Debug, Parser)]
#[command(name = "pilot-discovery", version, rename_all = "camelCase")]
pub(crate) struct Cli {
    /// Command.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// Commands.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the discovery service.
    Discovery(Box<DiscoveryArgs>),
    /// Evaluate a call against the configuration of a proxy: listener, route and cluster, and the object that decides each.
    /// Exits with 0 if the call reaches an endpoint, with 1 if not.
    Simulate(Box<SimulateArgs>),
    /// List the resources of proxies that differ between two directories. Exits with 0 if none differs, with 1 if some do.
    Diff(DiffArgs),
    /// Validate files of Kubernetes and Istio objects. Fails if one has an error.
    Validate(ValidateArgs),
    /// Print version information.
    Version(VersionArgs),
    /// Print a shell completion script.
    Completion {
        /// bash, zsh, fish, powershell or elvish.
        shell: clap_complete::Shell,
    },
}

/// Mesh in files, for commands without a server.
#[derive(Clone, Debug, Args)]
#[command(rename_all = "camelCase")]
pub(crate) struct MeshArgs {
    /// Mesh configuration file; defaults apply if it does not exist.
    #[arg(long, value_name = "FILE", default_value = "./etc/istio/config/mesh")]
    pub(crate) mesh_config: PathBuf,
    /// DNS domain suffix of the mesh.
    #[arg(long, default_value = "cluster.local")]
    pub(crate) domain: String,
}

/// Flags of `pilot-discovery simulate`.
#[derive(Clone, Debug, Args)]
#[command(rename_all = "camelCase")]
pub(crate) struct SimulateArgs {
    /// Calling workload: a Pod or WorkloadEntry of the directory, or with --labels or --ip one that is not declared.
    #[arg(long, value_name = "POD.NAMESPACE")]
    pub(crate) from: String,
    /// Directory of Kubernetes and Istio objects in YAML or JSON.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) config_dir: PathBuf,
    /// Mesh.
    #[command(flatten)]
    pub(crate) mesh: MeshArgs,
    /// Labels of a workload that is not declared: app=web,version=v1.
    #[arg(long, value_name = "LABELS")]
    pub(crate) labels: Option<String>,
    /// Address of a workload that is not declared.
    #[arg(long, value_name = "ADDR")]
    pub(crate) ip: Option<std::net::IpAddr>,
    /// The workload is a gateway, called from outside [default: if a Gateway selects it].
    #[arg(long)]
    pub(crate) router: bool,
    /// The call arrives at the workload.
    #[arg(long, conflicts_with = "router")]
    pub(crate) inbound: bool,
    /// Output format: json.
    #[arg(short, long, value_parser = ["json"])]
    pub(crate) output: Option<String>,
    /// Call: `[METHOD] URL [OPTIONS]`; schemes: http, https, http2, grpc, tcp, tls. Options: `-H 'name: value'`, `--tls`,
    /// `--sni NAME`, `--alpn LIST`, `--cert`, `--to ADDR:PORT`, `--client ADDR`, `-o json`.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CALL")]
    pub(crate) call: Vec<String>,
}

/// Call of `pilot-discovery simulate`.
#[derive(Clone, Debug, Parser)]
#[command(name = "CALL", no_binary_name = true, disable_help_flag = true, rename_all = "camelCase")]
pub(crate) struct CallArgs {
    /// `[METHOD] URL`
    #[arg(required = true, num_args = 1..=2, value_names = ["METHOD", "URL"])]
    pub(crate) target: Vec<String>,
    /// Header; `host` replaces the host of the URL.
    #[arg(short = 'H', value_name = "HEADER")]
    pub(crate) headers: Vec<String>,
    /// Use TLS with the host as SNI.
    #[arg(long)]
    pub(crate) tls: bool,
    /// SNI of TLS.
    #[arg(long, value_name = "NAME")]
    pub(crate) sni: Option<String>,
    /// Comma-separated ALPN protocols of TLS.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) alpn: Vec<String>,
    /// The client presents a certificate.
    #[arg(long)]
    pub(crate) cert: bool,
    /// Address to connect to instead of that of the host: `10.0.0.1:80`, `unix:///path`.
    #[arg(long, value_name = "ADDR")]
    pub(crate) to: Option<String>,
    /// Address of the client.
    #[arg(long, value_name = "ADDR")]
    pub(crate) client: Option<std::net::IpAddr>,
    /// Output format: json.
    #[arg(short, long, value_parser = ["json"])]
    pub(crate) output: Option<String>,
}

/// Flags of `pilot-discovery diff`.
#[derive(Clone, Debug, Args)]
#[command(rename_all = "camelCase")]
pub(crate) struct DiffArgs {
    /// Directory before the change.
    #[arg(long, value_name = "DIR")]
    pub(crate) before: PathBuf,
    /// Directory after the change.
    #[arg(long, value_name = "DIR")]
    pub(crate) after: PathBuf,
    /// Mesh before and after.
    #[command(flatten)]
    pub(crate) mesh: MeshArgs,
    /// Mesh configuration file after [default: the same].
    #[arg(long, value_name = "FILE")]
    pub(crate) after_mesh_config: Option<PathBuf>,
    /// Workload to compare; may be repeated [default: every Pod and WorkloadEntry of both directories].
    #[arg(long, value_name = "POD.NAMESPACE")]
    pub(crate) proxy: Vec<String>,
    /// Output format: json.
    #[arg(short, long, value_parser = ["json"])]
    pub(crate) output: Option<String>,
}

/// Flags of `pilot-discovery validate`, as of `istioctl validate`.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// File, directory with all files below, or - for standard input; may be repeated.
    #[arg(short, long, required = true, value_name = "PATH")]
    pub(crate) filename: Vec<PathBuf>,
    /// Output format: short (a line for each finding) or json (a list).
    #[arg(short, long, value_parser = ["json", "short"])]
    pub(crate) output: Option<String>,
}

/// Flags of `pilot-discovery version`.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Print only the version number.
    #[arg(short, long)]
    pub(crate) short: bool,
    /// Output format: json.
    #[arg(short, long, value_parser = ["json"])]
    pub(crate) output: Option<String>,
}

/// Flags of `pilot-discovery discovery`, as of Istio.
#[derive(Clone, Debug, Args)]
#[command(rename_all = "camelCase")]
pub(crate) struct DiscoveryArgs {
    /// Comma-separated registries to read, in any case. Implemented: File.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "File")]
    pub(crate) registries: Vec<String>,
    /// Directory of Kubernetes and Istio objects in YAML or JSON (registry File).
    #[arg(long, value_name = "DIR")]
    pub(crate) config_dir: Option<PathBuf>,
    /// Mesh configuration file; defaults apply if it does not exist.
    #[arg(long, value_name = "FILE", default_value = "./etc/istio/config/mesh")]
    pub(crate) mesh_config: PathBuf,
    /// File of networks and their gateways; without it there is one network.
    #[arg(long, value_name = "FILE", default_value = "./etc/istio/config/meshNetworks")]
    pub(crate) networks_config: PathBuf,
    /// DNS domain suffix of the mesh.
    #[arg(long, default_value = "cluster.local")]
    pub(crate) domain: String,
    /// Namespace of the control plane [default: of the pod, or istio-system].
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Name of the cluster this control plane runs in.
    #[arg(long = "clusterID", default_value = "Kubernetes")]
    pub(crate) cluster_id: String,
    /// Address of plaintext xDS; empty: disabled.
    #[arg(long, value_name = "ADDR", default_value = ":15010")]
    pub(crate) grpc_addr: String,
    /// Address of xDS over TLS; disabled without --tlsCertFile and --tlsKeyFile.
    #[arg(long = "secureGRPCAddr", alias = "secureGrpcAddr", value_name = "ADDR", default_value = ":15012")]
    pub(crate) secure_grpc_addr: String,
    /// Server certificate in PEM; reloaded when it changes.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// Private key of the certificate in PEM; reloaded when it changes.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key_file: Option<PathBuf>,
    /// Roots of client certificates in PEM; certificates that clients present are verified. Reloaded when it changes.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_cert_file: Option<PathBuf>,
    /// Address of /ready and /debug; empty: disabled.
    #[arg(long, value_name = "ADDR", default_value = ":8080")]
    pub(crate) http_addr: String,
    /// Address of /metrics, /version and /debug; empty: disabled.
    #[arg(long, value_name = "ADDR", default_value = ":15014")]
    pub(crate) monitoring_addr: String,
    /// Interval between pings of an idle gRPC connection.
    #[arg(long, env = "GRPC_KEEPALIVE_INTERVAL", value_name = "DURATION", default_value = "30s")]
    pub(crate) keepalive_interval: String,
    /// Time until an unanswered ping closes the connection.
    #[arg(long, env = "GRPC_KEEPALIVE_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    pub(crate) keepalive_timeout: String,
    /// Age at which a gRPC client is asked to reconnect, 10 % more or less; empty: never.
    #[arg(long, value_name = "DURATION", default_value = "")]
    pub(crate) keepalive_max_server_connection_age: String,
    /// Time that a gRPC client has to reconnect.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) keepalive_max_server_connection_age_grace: String,
    /// Time for an orderly shutdown; streams are ended one after another during most of it.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) shutdown_duration: String,
    /// Levels by scope: `info`, `default:info,ads:debug`. Levels: none, error, warn, info, debug, trace.
    #[arg(long = "log_output_level", value_name = "LEVELS", default_value = "default:info")]
    pub(crate) log_output_level: String,
    /// Log lines as JSON.
    #[arg(long = "log_as_json")]
    pub(crate) log_as_json: bool,
}

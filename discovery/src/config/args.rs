//! The command line, raw: names, defaults and help. What the values mean is checked in `config`.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

/// The control plane of the mesh.
#[derive(Debug, Parser)]
#[command(name = "pilot-discovery", version, rename_all = "camelCase")]
pub(crate) struct Cli {
    /// What to do.
    #[command(subcommand)]
    pub(crate) command: Command,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Start the discovery service.
    Discovery(Box<DiscoveryArgs>),
    /// Lead an imagined call through what a proxy would be told: which listener, route, cluster, and which object decided each.
    /// Ends with 0 if the call reaches an endpoint, with 1 if not.
    Simulate(Box<SimulateArgs>),
    /// Tell which resources of which proxies differ between two folders. Ends with 0 if none does, with 1 if some do.
    Diff(DiffArgs),
    /// Say whether files of Kubernetes and Istio objects can be used; fails if one cannot.
    Validate(ValidateArgs),
    /// Print version information.
    Version(VersionArgs),
    /// Print a shell completion script.
    Completion {
        /// bash, zsh, fish, powershell or elvish.
        shell: clap_complete::Shell,
    },
}

/// A mesh in files, for commands that start nothing.
#[derive(Clone, Debug, Args)]
#[command(rename_all = "camelCase")]
pub(crate) struct MeshArgs {
    /// Mesh configuration file; defaults hold when it does not exist.
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
    /// The workload that calls: a Pod or WorkloadEntry of the folder. With --labels or --ip it may be one that no file declares.
    #[arg(long, value_name = "POD.NAMESPACE")]
    pub(crate) from: String,
    /// Folder of Kubernetes and Istio objects in YAML or JSON.
    #[arg(long, value_name = "DIR", default_value = ".")]
    pub(crate) config_dir: PathBuf,
    /// Which mesh.
    #[command(flatten)]
    pub(crate) mesh: MeshArgs,
    /// Labels of a workload that no file declares: app=web,version=v1.
    #[arg(long, value_name = "LABELS")]
    pub(crate) labels: Option<String>,
    /// Address of a workload that no file declares.
    #[arg(long, value_name = "ADDR")]
    pub(crate) ip: Option<std::net::IpAddr>,
    /// It is a gateway, called from outside [default: if a Gateway selects it].
    #[arg(long)]
    pub(crate) router: bool,
    /// The call arrives at the workload.
    #[arg(long, conflicts_with = "router")]
    pub(crate) inbound: bool,
    /// `json`: as JSON.
    #[arg(short, long, value_parser = ["json"])]
    pub(crate) output: Option<String>,
    /// What is asked: `[METHOD] URL [OPTIONS]`; schemes: http, https, http2, grpc, tcp, tls. What follows is read as `-H 'name: value'`,
    /// `--tls`, `--sni NAME`, `--alpn LIST`, `--cert`, `--to ADDR:PORT`, `--client ADDR`, `-o json`.
    #[arg(required = true, trailing_var_arg = true, allow_hyphen_values = true, value_name = "CALL")]
    pub(crate) call: Vec<String>,
}

/// What `pilot-discovery simulate` takes after the URL.
#[derive(Clone, Debug, Parser)]
#[command(name = "CALL", no_binary_name = true, disable_help_flag = true, rename_all = "camelCase")]
pub(crate) struct CallArgs {
    /// `[METHOD] URL`
    #[arg(required = true, num_args = 1..=2, value_names = ["METHOD", "URL"])]
    pub(crate) target: Vec<String>,
    /// A header; `host` says another host than the one that is connected to.
    #[arg(short = 'H', value_name = "HEADER")]
    pub(crate) headers: Vec<String>,
    /// Inside TLS that asks for the host.
    #[arg(long)]
    pub(crate) tls: bool,
    /// The name that TLS asks for instead.
    #[arg(long, value_name = "NAME")]
    pub(crate) sni: Option<String>,
    /// Protocols that TLS offers, comma-separated.
    #[arg(long, value_name = "LIST", value_delimiter = ',')]
    pub(crate) alpn: Vec<String>,
    /// The client shows a certificate.
    #[arg(long)]
    pub(crate) cert: bool,
    /// Where to connect to, whatever the host means: `10.0.0.1:80`, `unix:///path`.
    #[arg(long, value_name = "ADDR")]
    pub(crate) to: Option<String>,
    /// The client's address.
    #[arg(long, value_name = "ADDR")]
    pub(crate) client: Option<std::net::IpAddr>,
    /// `json`: as JSON.
    #[arg(short, long, value_parser = ["json"])]
    pub(crate) output: Option<String>,
}

/// Flags of `pilot-discovery diff`.
#[derive(Clone, Debug, Args)]
#[command(rename_all = "camelCase")]
pub(crate) struct DiffArgs {
    /// Folder as it is.
    #[arg(long, value_name = "DIR")]
    pub(crate) before: PathBuf,
    /// Folder as it would be.
    #[arg(long, value_name = "DIR")]
    pub(crate) after: PathBuf,
    /// Which mesh, before and after.
    #[command(flatten)]
    pub(crate) mesh: MeshArgs,
    /// Mesh configuration file after [default: the same].
    #[arg(long, value_name = "FILE")]
    pub(crate) after_mesh_config: Option<PathBuf>,
    /// Only these workloads [default: every Pod and WorkloadEntry of both folders].
    #[arg(long, value_name = "POD.NAMESPACE")]
    pub(crate) proxy: Vec<String>,
    /// `json`: as JSON.
    #[arg(short, long, value_parser = ["json"])]
    pub(crate) output: Option<String>,
}

/// Flags of `pilot-discovery validate`, spelt as `istioctl validate` spells them.
#[derive(Debug, Args)]
pub(crate) struct ValidateArgs {
    /// A file, a folder and all below it, or - for standard input; may be repeated.
    #[arg(short, long, required = true, value_name = "PATH")]
    pub(crate) filename: Vec<PathBuf>,
    /// short: a line for each finding; json: a list.
    #[arg(short, long, value_parser = ["json", "short"])]
    pub(crate) output: Option<String>,
}

/// Flags of `pilot-discovery version`.
#[derive(Debug, Args)]
pub(crate) struct VersionArgs {
    /// Only the version.
    #[arg(short, long)]
    pub(crate) short: bool,
    /// `json`: as JSON.
    #[arg(short, long, value_parser = ["json"])]
    pub(crate) output: Option<String>,
}

/// Flags of `pilot-discovery discovery`, spelt as Istio spells them.
#[derive(Clone, Debug, Args)]
#[command(rename_all = "camelCase")]
pub(crate) struct DiscoveryArgs {
    /// Comma-separated registries to read, in any case. Implemented: File.
    #[arg(long, value_name = "NAMES", value_delimiter = ',', default_value = "File")]
    pub(crate) registries: Vec<String>,
    /// Folder of Kubernetes and Istio objects in YAML or JSON (registry File).
    #[arg(long, value_name = "DIR")]
    pub(crate) config_dir: Option<PathBuf>,
    /// Mesh configuration file; defaults hold when it does not exist.
    #[arg(long, value_name = "FILE", default_value = "./etc/istio/config/mesh")]
    pub(crate) mesh_config: PathBuf,
    /// File that tells networks and their gateways; there is one network when it does not exist.
    #[arg(long, value_name = "FILE", default_value = "./etc/istio/config/meshNetworks")]
    pub(crate) networks_config: PathBuf,
    /// DNS domain suffix of the mesh.
    #[arg(long, default_value = "cluster.local")]
    pub(crate) domain: String,
    /// Namespace of the control plane [default: that of the pod, or istio-system].
    #[arg(short, long)]
    pub(crate) namespace: Option<String>,
    /// Name of the cluster this control plane runs in.
    #[arg(long = "clusterID", default_value = "Kubernetes")]
    pub(crate) cluster_id: String,
    /// Plaintext xDS; empty: off.
    #[arg(long, value_name = "ADDR", default_value = ":15010")]
    pub(crate) grpc_addr: String,
    /// xDS over TLS; off without --tlsCertFile and --tlsKeyFile.
    #[arg(long = "secureGRPCAddr", alias = "secureGrpcAddr", value_name = "ADDR", default_value = ":15012")]
    pub(crate) secure_grpc_addr: String,
    /// Certificate of this server in PEM; read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_cert_file: Option<PathBuf>,
    /// Its private key in PEM; read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub(crate) tls_key_file: Option<PathBuf>,
    /// Roots of client certificates in PEM, which are verified where they are given; read again when it changes.
    #[arg(long, value_name = "FILE")]
    pub(crate) ca_cert_file: Option<PathBuf>,
    /// /ready and /debug; empty: off.
    #[arg(long, value_name = "ADDR", default_value = ":8080")]
    pub(crate) http_addr: String,
    /// /metrics, /version and /debug; empty: off.
    #[arg(long, value_name = "ADDR", default_value = ":15014")]
    pub(crate) monitoring_addr: String,
    /// How often idle gRPC connections are pinged.
    #[arg(long, env = "GRPC_KEEPALIVE_INTERVAL", value_name = "DURATION", default_value = "30s")]
    pub(crate) keepalive_interval: String,
    /// How long a ping may stay unanswered.
    #[arg(long, env = "GRPC_KEEPALIVE_TIMEOUT", value_name = "DURATION", default_value = "10s")]
    pub(crate) keepalive_timeout: String,
    /// How long a gRPC connection lives before it is asked to reconnect (10 % more or less); empty: for ever.
    #[arg(long, value_name = "DURATION", default_value = "")]
    pub(crate) keepalive_max_server_connection_age: String,
    /// How long a gRPC connection that was asked to may take to end.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) keepalive_max_server_connection_age_grace: String,
    /// How long the process may take to stop; streams are told to end at moments spread over most of it.
    #[arg(long, value_name = "DURATION", default_value = "10s")]
    pub(crate) shutdown_duration: String,
    /// Levels by scope: `info`, `default:info,ads:debug`. Levels: none, error, warn, info, debug, trace.
    #[arg(long = "log_output_level", value_name = "LEVELS", default_value = "default:info")]
    pub(crate) log_output_level: String,
    /// Log lines as JSON.
    #[arg(long = "log_as_json")]
    pub(crate) log_as_json: bool,
}

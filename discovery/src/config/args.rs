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
    /// Print version information.
    Version(VersionArgs),
    /// Print a shell completion script.
    Completion {
        /// bash, zsh, fish, powershell or elvish.
        shell: clap_complete::Shell,
    },
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
    /// Service registries to read, comma-separated: File.
    #[arg(long, value_delimiter = ',', default_value = "File")]
    pub(crate) registries: Vec<String>,
    /// Folder of Kubernetes and Istio objects in YAML or JSON (registry File).
    #[arg(long, value_name = "DIR")]
    pub(crate) config_dir: Option<PathBuf>,
    /// Mesh configuration file; defaults hold when it does not exist.
    #[arg(long, value_name = "FILE", default_value = "./etc/istio/config/mesh")]
    pub(crate) mesh_config: PathBuf,
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

//! What Envoy is started with besides its bootstrap: the binary, its flags' values, and the files that users
//! put in the place of, or over, the bootstrap we render.

use std::num::NonZeroU32;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use pilot_proto::mesh::proxy::ProxyConfig;
use serde_json::Value;

use super::env::Variables;
use super::fault::{FaultKind, Faults};
use super::files::Root;
use super::level::EnvoyLevels;
use super::yaml;
use crate::cli::ProxyFlags;

/// What Envoy is started with, besides its bootstrap.
#[derive(Clone, Debug, PartialEq)]
pub struct Envoy {
    /// The binary. Checked to be there only when it is to be run.
    pub binary: PathBuf,
    /// Its log levels.
    pub levels: EnvoyLevels,
    /// Worker threads; `None`: one per core.
    pub concurrency: Option<NonZeroU32>,
    /// A bootstrap that replaces the rendered one.
    pub custom_bootstrap: Option<Value>,
    /// What `--config-yaml` lays over the bootstrap, as JSON.
    pub overlay: Option<String>,
}

// === impl Envoy ===

impl Envoy {
    pub(super) fn read(
        (flags, proxy, variables, root): (&ProxyFlags, &ProxyConfig, &Variables, &Root),
        faults: &mut Faults,
    ) -> Self {
        let levels = EnvoyLevels::parse(&flags.proxy_log_level, &flags.proxy_component_log_level);
        let levels = levels.unwrap_or_else(|error| {
            faults.usage("--proxyLogLevel", error);
            EnvoyLevels { level: "warning".into(), components: Vec::new() }
        });
        let custom = variables.bootstrap.as_deref().into_iter();
        let mut custom =
            custom.chain([proxy.custom_config_file.as_str(), proxy.proxy_bootstrap_template_path.as_str()]);
        let custom = custom.find(|path| !path.is_empty());
        Self {
            binary: root.program(&proxy.binary_path),
            levels,
            concurrency: proxy.concurrency.and_then(NonZeroU32::new),
            custom_bootstrap: custom.and_then(|path| custom_bootstrap(path, root, faults)),
            overlay: variables
                .bootstrap_override
                .as_deref()
                .and_then(|path| overlay(path, variables, root, faults)),
        }
    }

    /// Notes a binary that is not there or cannot be executed.
    pub(super) fn check_binary(&self, faults: &mut Faults) {
        let path = &self.binary;
        let place = format!("binaryPath {}", path.display());
        match std::fs::metadata(path) {
            Err(error) => faults.add(FaultKind::NoBinary, place, format!("no Envoy there: {error}")),
            Ok(file) if !file.is_file() || file.permissions().mode() & 0o111 == 0 => {
                faults.add(FaultKind::NotExecutable, place, "is not an executable file");
            }
            Ok(_) => {}
        }
    }
}

/// A bootstrap of the user's own. Istio runs it through Go's templates; we say so instead of passing braces
/// to Envoy.
fn custom_bootstrap(path: &str, root: &Root, faults: &mut Faults) -> Option<Value> {
    let text = root.required(path, faults)?;
    if text.contains("{{") {
        faults.configuration(
            path,
            "is a Go template, which this agent does not run; give it a finished bootstrap, or lay changes over \
             ours with ISTIO_BOOTSTRAP_OVERRIDE",
        );
        return None;
    }
    match yaml::read(&text) {
        Ok(bootstrap) if bootstrap.is_object() => return Some(bootstrap),
        Ok(_) => faults.configuration(path, "is not a bootstrap"),
        Err(problem) => faults.configuration(path, problem),
    }
    None
}

/// What `--config-yaml` lays over the bootstrap, with the node's address filled in.
fn overlay(path: &str, variables: &Variables, root: &Root, faults: &mut Faults) -> Option<String> {
    const HOST_IP: &str = "$(HOST_IP)";
    let text = root.required(path, faults)?;
    let host_ip = variables.host_ip.as_deref().unwrap_or_default();
    let text = if host_ip.contains(':') {
        // `host:port` wants brackets around IPv6, unless the user wrote them.
        let bracketed = format!("[{host_ip}]");
        text.replace(&format!("[{HOST_IP}]"), &bracketed).replace(HOST_IP, &bracketed)
    } else {
        text.replace(HOST_IP, host_ip)
    };
    match yaml::read(&text) {
        Ok(value) => Some(value.to_string()),
        Err(problem) => {
            faults.configuration(path, problem);
            None
        }
    }
}

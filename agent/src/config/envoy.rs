//! Envoy's settings besides its bootstrap: binary, flags, and files of users that replace or overlay the rendered bootstrap.

use std::num::NonZeroU64;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use pilot_proto::mesh::proxy_config::ProxyConfig;
use serde_json::Value;

use super::env::Variables;
use super::fault::{FaultKind, Faults};
use super::files::Root;
use super::level::EnvoyLevels;
use super::sizing::Concurrency;
use super::yaml;
use crate::cli::ProxyFlags;

/// Envoy's settings besides its bootstrap.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct EnvoySettings {
    /// The binary. Checked to be there only when it is to be run.
    pub(crate) binary: PathBuf,
    /// Its log levels.
    pub(crate) levels: EnvoyLevels,
    /// Worker threads.
    pub(crate) concurrency: Concurrency,
    /// Limit of its heap in bytes; `None` without a limit, or if the user has an overload manager.
    pub(crate) max_heap: Option<NonZeroU64>,
    /// The form of its log lines.
    pub(crate) log_form: LogFormatSource,
    /// A bootstrap that replaces the rendered one.
    pub(crate) custom_bootstrap: Option<Value>,
    /// Overlay of the bootstrap for `--config-yaml`, as JSON.
    pub(crate) overlay: Option<String>,
}

/// Source of Envoy's log format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LogFormatSource {
    /// We: they are read back, and go out in the form of our own.
    Agents,
    /// `application_log_config.log_format` in a bootstrap of the user's. Envoy does not start if we say it too; each
    /// line goes out as one that is not understood.
    Users,
}

// === impl EnvoySettings ===

impl EnvoySettings {
    pub(super) fn read(
        (flags, proxy, variables, root): (&ProxyFlags, &ProxyConfig, &Variables, &Root),
        (concurrency, max_heap): (Concurrency, Option<NonZeroU64>),
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
        let custom_bootstrap = custom.and_then(|path| custom_bootstrap(path, root, faults));
        let overlay = variables.bootstrap_override.as_deref();
        let overlay = overlay.and_then(|path| overlay_of(path, variables, root, faults));
        let users = [&custom_bootstrap, &overlay];
        let users = |path: &[[&str; 2]]| users.into_iter().flatten().any(|value| has(value, path));
        Self {
            binary: root.program(&proxy.binary_path),
            levels,
            concurrency,
            // Envoy refuses to have the same monitor twice, and `--config-yaml` adds to lists.
            max_heap: max_heap.filter(|_| !users(&[["overload_manager", "overloadManager"]])),
            log_form: if users(&[
                ["application_log_config", "applicationLogConfig"],
                ["log_format", "logFormat"],
            ]) {
                LogFormatSource::Users
            } else {
                LogFormatSource::Agents
            },
            custom_bootstrap,
            overlay: overlay.as_ref().map(Value::to_string),
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

/// Returns the overlay for `--config-yaml`, with the node's address filled in.
fn overlay_of(path: &str, variables: &Variables, root: &Root, faults: &mut Faults) -> Option<Value> {
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
        Ok(value) => Some(value),
        Err(problem) => {
            faults.configuration(path, problem);
            None
        }
    }
}

/// Returns `true` if a value exists at this path; each part of the path has two spellings.
fn has(value: &Value, path: &[[&str; 2]]) -> bool {
    match path {
        [] => !value.is_null(),
        [names, rest @ ..] => names.iter().filter_map(|name| value.get(name)).any(|value| has(value, rest)),
    }
}

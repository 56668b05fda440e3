//! Envoy's command line. Pure: which epoch it is, and whether it is a hot restart, are arguments.

use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::time::Duration;

use crate::config::env::Switch;
use crate::config::{Config, LogFormatSource};
use crate::logs::envoy::FORMAT;

/// Istio's default before it gave up hot restarts.
const PARENT_SHUTDOWN: Duration = Duration::from_mins(1);
/// Below this, requests in progress at a hand-over are cut.
const SHORTEST: Duration = Duration::from_secs(1);
/// Access logs reach the file within a second, or with 64 KiB.
const FLUSH: Duration = Duration::from_secs(1);

/// Arguments of one start of Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LaunchArgs<'a> {
    /// The bootstrap's file.
    pub(crate) bootstrap: &'a Path,
    /// Hot-restart arguments.
    pub(crate) hot_restart: HotRestartFlags<'a>,
}

/// Hot-restart arguments of Envoy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HotRestartFlags<'a> {
    /// Hot restart is off.
    Off,
    /// It does, through sockets that only Envoys of this agent may use.
    On {
        /// Distinguishes agents on one machine.
        base_id: u32,
        /// `@name` or a path; Envoy appends role, base id and epoch.
        socket_path: &'a Path,
        /// Number of predecessors in the chain of hot restarts.
        epoch: u32,
        /// Time from LIVE until the predecessor is terminated.
        parent_shutdown: Duration,
    },
}

/// Returns the time that a predecessor has after a hand-over: Istio's `parentShutdownDuration`.
pub(crate) fn parent_shutdown(config: &Config) -> Duration {
    config.proxy.parent_shutdown_duration.unwrap_or(PARENT_SHUTDOWN).max(SHORTEST)
}

/// The arguments, without the binary.
pub(crate) fn argv(config: &Config, launch: LaunchArgs<'_>) -> Vec<OsString> {
    let (proxy, envoy) = (&config.proxy, &config.envoy);
    let drain = proxy.drain_duration.unwrap_or_default().as_secs();
    let flush = proxy.file_flush_interval.unwrap_or(FLUSH);

    let mut argv = Argv::default();
    argv.with("-c", launch.bootstrap);
    argv.number("--drain-time-s", drain);
    argv.with("--drain-strategy", "immediate");
    argv.with("--local-address-ip-version", config.family.local_address_version());
    argv.number("--file-flush-interval-msec", flush.as_millis());
    if proxy.file_flush_min_size_kb > 0 {
        argv.number("--file-flush-min-size-kb", proxy.file_flush_min_size_kb);
    }
    argv.flag("--allow-unknown-static-fields");
    match launch.hot_restart {
        HotRestartFlags::Off => argv.flag("--disable-hot-restart"),
        HotRestartFlags::On { base_id, socket_path, epoch, parent_shutdown } => {
            argv.number("--restart-epoch", epoch);
            argv.number("--parent-shutdown-time-s", parent_shutdown.as_secs());
            argv.number("--base-id", base_id);
            argv.with("--socket-path", socket_path);
            argv.with("--socket-mode", "600");
        }
    }
    argv.with("-l", &envoy.levels.level);
    if !envoy.levels.components.is_empty() {
        argv.with("--component-log-level", envoy.levels.components.join(","));
    }
    match envoy.log_form {
        LogFormatSource::Agents => argv.with("--log-format", FORMAT),
        LogFormatSource::Users => {}
    }
    if config.variables.is_on(Switch::SkipDeprecatedLogs) {
        argv.flag("--skip-deprecated-logs");
    }
    if config.variables.is_on(Switch::CoreDump) {
        argv.flag("--enable-core-dump");
    }
    if let Some(overlay) = &envoy.overlay {
        argv.with("--config-yaml", overlay);
    }
    argv.number("--concurrency", envoy.concurrency.threads.get());
    argv.0
}

#[derive(Default)]
struct Argv(Vec<OsString>);

impl Argv {
    fn flag(&mut self, name: &str) {
        self.0.push(name.into());
    }

    fn with(&mut self, name: &str, value: impl AsRef<OsStr>) {
        self.0.extend([name.into(), value.as_ref().to_owned()]);
    }

    fn number(&mut self, name: &str, value: impl Into<u128>) {
        self.with(name, value.into().to_string());
    }
}

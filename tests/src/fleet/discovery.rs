//! `pilot-discovery` on a generated mesh, and the pushes in its log.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use nix::unistd::Pid;
use serde_json::Value;

use super::generated_mesh::GeneratedMesh;
use super::orders::now;
use crate::load::Identity;
use crate::net::{free_port, get_ok, local};
use crate::process::Process;

/// Time limit for reading a mesh of thousands of files on a busy machine.
const START: Duration = Duration::from_mins(1);

/// Settings of `pilot-discovery`.
#[derive(Clone)]
pub struct DiscoveryOptions {
    /// Path of the binary.
    pub program: PathBuf,
    /// `PILOT_DEBOUNCE_AFTER`: quiet period.
    pub debounce: Duration,
    /// `PILOT_DEBOUNCE_MAX`: longest delay of a change.
    pub debounce_max: Duration,
    /// Identity for TLS in addition to plaintext.
    pub identity: Option<Identity>,
}

/// A running `pilot-discovery`.
pub struct DiscoveryProcess {
    process: Process,
    dir: PathBuf,
    /// Plaintext xDS.
    pub grpc: SocketAddr,
    /// TLS xDS, with an identity.
    pub secure: SocketAddr,
    /// `/debug`.
    pub http: SocketAddr,
    /// `/metrics`.
    pub monitoring: SocketAddr,
}

/// A push in the log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedPush {
    /// Start of the push in microseconds since 1970.
    pub at: u64,
    /// Number of affected proxies.
    pub proxies: u64,
}

// === impl DiscoveryProcess ===

impl DiscoveryProcess {
    /// Starts `pilot-discovery` and waits until it is ready. Its log is in `dir`.
    pub async fn start(dir: &Path, mesh: &GeneratedMesh, tuning: &DiscoveryOptions) -> Result<Self> {
        let mut ports = [local(0); 4];
        for port in &mut ports {
            *port = local(free_port()?);
        }
        let [grpc, secure, http, monitoring] = ports;
        let mut command = Command::new(&tuning.program);
        command.args(["discovery", "--registries", "File", "--log_as_json", "--configDir"]);
        command.arg(mesh.folder.path()).arg("--meshConfig").arg(&mesh.mesh_file).current_dir(dir);
        let flags = [("--grpcAddr", grpc), ("--httpAddr", http), ("--monitoringAddr", monitoring)];
        for (flag, address) in flags {
            command.args([flag, &address.to_string()]);
        }
        command.env("PILOT_DEBOUNCE_AFTER", format!("{}ms", tuning.debounce.as_millis()));
        command.env("PILOT_DEBOUNCE_MAX", format!("{}ms", tuning.debounce_max.as_millis()));
        if let Some(identity) = &tuning.identity {
            let (certificate, key) = (dir.join("cert.pem"), dir.join("key.pem"));
            std::fs::write(&certificate, &identity.certificate_pem).context("write a certificate")?;
            std::fs::write(&key, &identity.key_pem).context("write a key")?;
            command.args(["--secureGRPCAddr", &secure.to_string()]);
            command.arg("--tlsCertFile").arg(&certificate).arg("--tlsKeyFile").arg(&key);
            command.arg("--caCertFile").arg(&certificate);
        }
        let mut process = Process::spawn("pilot", &mut command, dir)?;
        let ready = async || get_ok(http, "/ready").await.map(drop);
        process.until(START, "pilot-discovery is ready", ready).await?;
        Ok(Self { process, dir: dir.to_owned(), grpc, secure, http, monitoring })
    }

    /// Returns the process id.
    pub fn pid(&self) -> Pid {
        self.process.pid()
    }

    /// Returns the path of the log.
    pub fn log(&self) -> PathBuf {
        self.dir.join("pilot.log")
    }

    /// Returns the pushes in the log since this time (microseconds since 1970), the latest first.
    pub fn pushes(&self, since: u64) -> Vec<LoggedPush> {
        let log = self.process.log();
        log.lines()
            .rev()
            .map_while(|line| log_time(line).map(|at| (line, at)))
            .take_while(|(_, at)| *at >= since)
            .filter_map(|(line, at)| push(line, at))
            .collect()
    }

    /// Returns the sum of a metric over all labels.
    pub async fn metric(&self, name: &str) -> Result<f64> {
        let page = get_ok(self.monitoring, "/metrics").await?;
        let values = page.lines().filter_map(|line| {
            let (key, value) = line.rsplit_once(' ')?;
            (key.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
        });
        let values: Vec<f64> = values.collect();
        ensure!(!values.is_empty(), "there is no metric {name}");
        Ok(values.iter().sum())
    }
}

/// Returns the time of a log line.
fn log_time(line: &str) -> Option<u64> {
    const DAY: u64 = 86_400_000_000;
    let line: Value = serde_json::from_str(line).ok()?;
    let time = line.get("time")?.as_str()?.split_once('T')?.1.strip_suffix('Z')?;
    let mut parts = time.split(':');
    let (hours, minutes): (u64, u64) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    let seconds: f64 = parts.next()?.parse().ok()?;
    let seconds = u64::try_from(Duration::try_from_secs_f64(seconds).ok()?.as_micros()).ok()?;
    let of_day = (hours * 60 + minutes) * 60_000_000 + seconds;
    // A log line is in the past: its day is the last one on which this time of day has passed.
    Some(now().checked_sub(of_day)? / DAY * DAY + of_day)
}

fn push(line: &str, at: u64) -> Option<LoggedPush> {
    let line: Value = serde_json::from_str(line).ok()?;
    (line.get("msg")?.as_str()? == "push").then_some(())?;
    let proxies = line.get("proxies")?;
    let proxies = proxies.as_u64().or_else(|| proxies.as_str()?.parse().ok())?;
    Some(LoggedPush { at, proxies })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pushes_are_parsed_from_the_log() {
        let line = r#"{"time":"2026-11-23T00:00:01.500000Z","level":"info","msg":"push","proxies":7}"#;
        let at = log_time(line).unwrap();
        assert_eq!(at % 86_400_000_000, 1_500_000);
        assert!(at <= now() && now() - at <= 86_400_000_000);
        assert_eq!(push(line, at), Some(LoggedPush { at, proxies: 7 }));
        assert_eq!(push(&line.replace("\"push\"", "\"sent\""), at), None);
        assert_eq!(log_time("Error: no such file"), None);
    }
}

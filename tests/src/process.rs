//! A child process. Its output goes to a file, and it is killed when its owner is dropped, also by a panic.
//!
//! Signals are sent to process ids, never to names. Processes below a child are read from `/proc`, so that a test needs neither
//! `ps` nor `nsenter`.

use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;

use crate::wait::eventually;

/// Environment variables that a child inherits; all others must be set on the command.
const INHERITED: [&str; 3] = ["PATH", "HOME", "RUST_BACKTRACE"];

/// A child process. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in a process group of its own, so that a Ctrl-C reaches the test first. The environment is `INHERITED`
    /// and what the command sets. The output is appended to `<name>.log` in `folder`.
    pub fn spawn(name: &str, command: &mut Command, folder: &Path) -> Result<Self> {
        let log = folder.join(format!("{name}.log"));
        let output = File::options().create(true).append(true).open(&log).context("open a log")?;
        let given: Vec<_> =
            command.get_envs().filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned()))).collect();
        command
            .env_clear()
            .envs(INHERITED.into_iter().filter_map(|key| Some((key, std::env::var_os(key)?))))
            .envs(given);
        command.process_group(0).stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output);
        let child =
            command.spawn().with_context(|| format!("start {}", command.get_program().to_string_lossy()))?;
        Ok(Self { name: name.to_owned(), child, log })
    }

    /// Returns the process id in the test's PID namespace.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Returns the output so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Returns the exit status if the process has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("wait for {}", self.name))
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal::kill(self.pid(), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Waits until the process exits.
    pub async fn exit(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        eventually(within, &what, async || self.ended()?.context("it is running")).await
    }

    /// Returns an error with the end of the log if the process has ended. Waits call it so that they stop at once.
    pub fn check(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({}):\n{}", self.name, exit_description(status), self.tail(30)),
        }
    }

    /// Waits until `attempt` succeeds. The end of the process ends the wait with an error that has the last lines of its log.
    pub async fn until(
        &mut self,
        within: Duration,
        what: &str,
        mut attempt: impl AsyncFnMut() -> Result<()>,
    ) -> Result<()> {
        let waited =
            eventually(within, what, async || if self.check().is_err() { Ok(()) } else { attempt().await });
        waited.await.with_context(|| self.tail(30))?;
        self.check()
    }

    /// Returns the last lines of the log.
    pub fn tail(&self, lines: usize) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(lines).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that the process has ended and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- last of {}:\n{}", self.log.display(), self.tail(40));
        }
    }
}

/// Returns `exit code 1` or `signal 15`.
pub fn exit_description(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// A process as shown by `/proc`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Process id in the test's PID namespace.
    pub pid: Pid,
    /// Process id in its own PID namespace.
    pub pid_in_namespace: i32,
    /// Process id of the parent.
    pub parent: Pid,
    /// State: `R`, `S`, `Z`, ...
    pub state: char,
    /// Name, truncated to 15 characters by the kernel.
    pub name: String,
}

impl ProcessInfo {
    /// Reads one process, or returns `None` if it does not exist.
    pub fn read(pid: Pid) -> Option<Self> {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        let field = |name: &str| {
            status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':').map(str::trim))
        };
        Some(Self {
            pid,
            pid_in_namespace: field("NSpid")?.split_whitespace().last()?.parse().ok()?,
            parent: Pid::from_raw(field("PPid")?.parse().ok()?),
            state: field("State")?.chars().next()?,
            name: field("Name")?.to_owned(),
        })
    }
}

/// Returns the children of a process, including zombies.
pub fn children(of: Pid) -> Result<Vec<ProcessInfo>> {
    let entries = fs::read_dir("/proc").context("read /proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut found: Vec<ProcessInfo> = pids
        .filter_map(|pid| ProcessInfo::read(Pid::from_raw(pid)))
        .filter(|process| process.parent == of)
        .collect();
    found.sort_by_key(|process| process.pid);
    Ok(found)
}

/// Draws a process and its descendants as a tree, with ids of their own namespaces.
pub fn process_tree(root: Pid) -> Result<String> {
    fn draw(process: &ProcessInfo, depth: usize, out: &mut Vec<String>) -> Result<()> {
        out.push(format!("{:>5} {}{}", process.pid_in_namespace, "  └─ ".repeat(depth), process.name));
        for child in children(process.pid)? {
            draw(&child, depth + 1, out)?;
        }
        Ok(())
    }
    let mut out = Vec::new();
    draw(&ProcessInfo::read(root).context("the process is gone")?, 0, &mut out)?;
    Ok(out.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, folder: &Path) -> Process {
        Process::spawn("sh", Command::new("sh").args(["-c", script]), folder).unwrap()
    }

    #[tokio::test]
    async fn output_and_exit_status_of_a_child_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell("echo out; echo err >&2; exit 3", folder.path());
        let status = child.exit(Duration::from_secs(5)).await.unwrap();
        assert_eq!(exit_description(status), "exit code 3");
        assert_eq!(child.log(), "out\nerr\n");
        assert!(child.check().unwrap_err().to_string().contains("exit code 3"));
    }

    #[tokio::test]
    async fn dropping_a_process_kills_it() {
        let folder = tempfile::tempdir().unwrap();
        let child = shell("sleep 60 & wait", folder.path());
        let pid = child.pid();
        let below = eventually(Duration::from_secs(5), "sleep starts", async || {
            children(pid)?.into_iter().find(|process| process.name == "sleep").context("no sleep yet")
        });
        let below = below.await.unwrap();
        assert!(process_tree(pid).unwrap().ends_with("└─ sleep"));
        drop(child);
        assert_eq!(ProcessInfo::read(pid), None);
        signal::kill(below.pid, Signal::SIGKILL).unwrap();
    }

    #[test]
    fn a_child_inherits_only_the_listed_environment_variables() {
        let folder = tempfile::tempdir().unwrap();
        let mut command = Command::new("env");
        let mut child = Process::spawn("env", command.env("GIVEN", "yes"), folder.path()).unwrap();
        child.child.wait().unwrap();
        let names: Vec<String> =
            child.log().lines().filter_map(|line| Some(line.split_once('=')?.0.to_owned())).collect();
        assert!(names.contains(&"GIVEN".to_owned()));
        assert!(names.iter().all(|name| name == "GIVEN" || INHERITED.contains(&name.as_str())), "{names:?}");
    }
}

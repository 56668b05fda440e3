//! One child: its output goes to a file, and it does not outlive its owner, not even by a panic.
//!
//! Signals go to a process by its id and never by a name. Processes below it are read from `/proc`, so that a test needs neither
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

/// What a child inherits of the environment; everything else is given.
const INHERITED: [&str; 3] = ["PATH", "HOME", "RUST_BACKTRACE"];

/// A child. Dropping it kills it.
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command` in a process group of its own (a Ctrl-C is ours to hear first), with nothing of our environment but the
    /// little every program needs. Its output goes to `<name>.log` in
    /// `folder`, after what is there already.
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

    /// Its process id, as we see it.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Everything it printed so far.
    pub fn log(&self) -> String {
        fs::read(&self.log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
    }

    /// Its status, if it has ended.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        self.child.try_wait().with_context(|| format!("wait for {}", self.name))
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal::kill(self.pid(), signal).with_context(|| format!("send {signal} to {}", self.name))
    }

    /// Waits for its end.
    pub async fn exit(&mut self, within: Duration) -> Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        eventually(within, &what, async || self.ended()?.context("it is running")).await
    }

    /// An error with the end of its log if it has ended: what a wait for it asks each time, so as not to wait for the dead.
    pub fn check(&mut self) -> Result<()> {
        match self.ended()? {
            None => Ok(()),
            Some(status) => bail!("{} ended ({}):\n{}", self.name, exit_description(status), self.tail(30)),
        }
    }

    /// Waits until `attempt` succeeds; its own end ends the wait, and its last lines say why.
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

    /// The last lines of its log.
    pub fn tail(&self, lines: usize) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().rev().take(lines).collect();
        lines.into_iter().rev().collect::<Vec<_>>().join("\n")
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // An error means that it has ended and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
        if std::thread::panicking() {
            eprintln!("--- last of {}:\n{}", self.log.display(), self.tail(40));
        }
    }
}

/// `exit code 1`, `signal 15`
pub fn exit_description(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (None, Some(signal)) => format!("signal {signal}"),
        (None, None) => status.to_string(),
    }
}

/// A process as `/proc` shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessInfo {
    /// Its id as we see it.
    pub pid: Pid,
    /// Its id in its own PID namespace.
    pub pid_in_namespace: i32,
    /// Its parent.
    pub parent: Pid,
    /// `R`, `S`, `Z`, ...
    pub state: char,
    /// Its name, cut to 15 characters by the kernel.
    pub name: String,
}

impl ProcessInfo {
    /// Reads one process; `None` when it is gone.
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

/// The children of a process, dead ones that nobody waited for included.
pub fn children(of: Pid) -> Result<Vec<ProcessInfo>> {
    let entries = fs::read_dir("/proc").context("read /proc")?;
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    let mut found: Vec<ProcessInfo> = pids
        .filter_map(|pid| ProcessInfo::read(Pid::from_raw(pid)))
        .filter(|seen| seen.parent == of)
        .collect();
    found.sort_by_key(|seen| seen.pid);
    Ok(found)
}

/// Everything below a process, drawn as a tree with the ids of its own namespace.
pub fn process_tree(root: Pid) -> Result<String> {
    fn draw(seen: &ProcessInfo, depth: usize, out: &mut Vec<String>) -> Result<()> {
        out.push(format!("{:>5} {}{}", seen.pid_in_namespace, "  └─ ".repeat(depth), seen.name));
        for child in children(seen.pid)? {
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
    async fn output_and_status_are_kept() {
        let folder = tempfile::tempdir().unwrap();
        let mut child = shell("echo out; echo err >&2; exit 3", folder.path());
        let status = child.exit(Duration::from_secs(5)).await.unwrap();
        assert_eq!(exit_description(status), "exit code 3");
        assert_eq!(child.log(), "out\nerr\n");
        assert!(child.check().unwrap_err().to_string().contains("exit code 3"));
    }

    #[tokio::test]
    async fn a_dropped_child_is_dead_and_its_parent_sees_it() {
        let folder = tempfile::tempdir().unwrap();
        let child = shell("sleep 60 & wait", folder.path());
        let pid = child.pid();
        let below = eventually(Duration::from_secs(5), "sleep starts", async || {
            children(pid)?.into_iter().find(|seen| seen.name == "sleep").context("no sleep yet")
        });
        let below = below.await.unwrap();
        assert!(process_tree(pid).unwrap().ends_with("└─ sleep"));
        drop(child);
        assert_eq!(ProcessInfo::read(pid), None);
        signal::kill(below.pid, Signal::SIGKILL).unwrap();
    }

    #[test]
    fn little_of_our_environment_is_inherited() {
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

//! Starts Envoy and other programs, signals them, and reaps all children. The only module that does.
//!
//! * One thread spawns, and lives as long as the agent: Linux ties `PR_SET_PDEATHSIG` to the *thread* that
//!   forked, so an Envoy that is started by a thread pool is signalled when its idle thread expires.
//! * One reaper waits: as PID 1 the agent inherits every orphan of the container, and two waiters would
//!   steal each other's statuses. Reaping and signalling happen on the same thread, so a pid in the table
//!   is valid until it is removed from the table: the kernel cannot have reused it.
//!
//! The supervisor decides which processes to start and to signal.

pub(crate) mod pidfd;

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io,
    os::unix::process::CommandExt,
    path::PathBuf,
    process::{ChildStderr, ChildStdout, Stdio},
    sync::mpsc,
    thread,
};

use nix::{
    errno::Errno,
    sys::{
        prctl,
        resource::{Resource, getrlimit, setrlimit},
        signal::{SigHandler, SigSet, Signal, kill, killpg, signal},
        wait::{WaitPidFlag, WaitStatus, waitpid},
    },
    unistd::{Pid, getpid, getppid},
};
use tokio::sync::oneshot;

use crate::supervisor::{EnvoySignal, ExitStatus, Launch, Revision, SpawnFailure};

/// One child, by what it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum ChildId {
    /// An Envoy that is to serve.
    Envoy(Launch),
    /// Validates a configuration without starting to serve.
    Validation(Revision),
    /// Prints the hot-restart protocol version.
    Version(Revision),
    /// Command that runs beside Envoy.
    Command,
}

/// Program to execute.
#[derive(Clone, Debug)]
pub(crate) struct Program {
    /// The binary; without a slash it is looked for on the `PATH`.
    pub(crate) path: PathBuf,
    /// Its arguments, without its name.
    pub(crate) arguments: Vec<OsString>,
    /// Standard input and output.
    pub(crate) stdio: ChildStdio,
}

/// Standard input and output of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildStdio {
    /// No input; the output is read.
    Piped,
    /// Its own are ours.
    Inherited,
}

/// Output of a child. Both pipes must be read to the end, or it blocks when they are full.
#[derive(Debug)]
pub(crate) struct ChildOutput {
    /// Access logs, if they go to `/dev/stdout`.
    pub(crate) stdout: ChildStdout,
    /// Everything else.
    pub(crate) stderr: ChildStderr,
}

/// The children alive, and the thread that starts them.
#[derive(Debug)]
pub(crate) struct ChildProcesses {
    spawner: mpsc::Sender<SpawnRequest>,
    pids: BTreeMap<ChildId, Pid>,
    orphans: u64,
}

#[derive(Debug)]
struct SpawnRequest {
    program: Program,
    reply: oneshot::Sender<io::Result<Spawned>>,
}

#[derive(Debug)]
struct Spawned {
    pid: Pid,
    output: Option<ChildOutput>,
}

/// Raises the soft limit of open files to the hard one, for us and for every Envoy we start.
pub(crate) fn raise_open_files() -> nix::Result<u64> {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard)?;
    }
    Ok(hard)
}

// === impl Children ===

impl ChildProcesses {
    /// No children yet, and a thread to start them.
    pub(crate) fn new() -> io::Result<Self> {
        let (spawner, requests) = mpsc::channel();
        let run = move || spawn_requested(&requests);
        thread::Builder::new().name("spawner".into()).stack_size(64 * 1024).spawn(run)?;
        Ok(Self { spawner, pids: BTreeMap::new(), orphans: 0 })
    }

    /// Starts a child; returns its output if it is to be read. Must not be cancelled, and nothing may be reaped meanwhile: std
    /// waits for a child whose exec failed, and panics if it was reaped already.
    pub(crate) async fn spawn(
        &mut self,
        child: ChildId,
        program: Program,
    ) -> io::Result<(Pid, Option<ChildOutput>)> {
        let (reply, answer) = oneshot::channel();
        let gone = || io::Error::other("the spawner thread is gone");
        self.spawner.send(SpawnRequest { program, reply }).map_err(|_| gone())?;
        let Spawned { pid, output } = answer.await.map_err(|_| gone())??;
        self.pids.insert(child, pid);
        Ok((pid, output))
    }

    /// Sends an Envoy what an Envoy may be sent; to one that is gone already, nothing.
    pub(crate) fn signal(&self, launch: Launch, what: EnvoySignal) -> nix::Result<()> {
        match what {
            EnvoySignal::Terminate => self.send(ChildId::Envoy(launch), Signal::SIGTERM),
            EnvoySignal::ReopenLogs => self.send(ChildId::Envoy(launch), Signal::SIGUSR1),
            EnvoySignal::Kill => self.kill(ChildId::Envoy(launch)),
        }
    }

    /// Sends a child a signal; to one that is gone already, nothing.
    pub(crate) fn send(&self, child: ChildId, signal: Signal) -> nix::Result<()> {
        self.pids.get(&child).map_or(Ok(()), |&pid| unless_gone(kill(pid, signal)))
    }

    /// Sends SIGKILL to a child and everything it has started.
    pub(crate) fn kill(&self, child: ChildId) -> nix::Result<()> {
        self.pids.get(&child).map_or(Ok(()), |&pid| unless_gone(killpg(pid, Signal::SIGKILL)))
    }

    /// Waits for every child that has ended: those we started are returned, orphans only counted.
    pub(crate) fn reap(&mut self) -> Vec<(ChildId, ExitStatus)> {
        let mut ended = Vec::new();
        loop {
            let (pid, status) = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
                Ok(WaitStatus::Exited(pid, code)) => (pid, ExitStatus::Exited(low_byte(code))),
                Ok(WaitStatus::Signaled(pid, signal, _)) => {
                    (pid, ExitStatus::Signaled(low_byte(signal as i32)))
                }
                Err(Errno::EINTR) => continue,
                // No other child has ended, or there are no children.
                Ok(_) | Err(_) => return ended,
            };
            match self.pids.iter().find(|&(_, &known)| known == pid).map(|(&child, _)| child) {
                Some(child) => {
                    self.pids.remove(&child);
                    ended.push((child, status));
                }
                None => self.orphans = self.orphans.saturating_add(1),
            }
        }
    }

    /// Returns the number of reaped orphans.
    pub(crate) fn orphans(&self) -> u64 {
        self.orphans
    }
}

/// Classifies the error of a failed start.
pub(crate) fn failure(error: &io::Error) -> SpawnFailure {
    match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENOENT | Errno::ENOTDIR) => SpawnFailure::NotFound,
        Some(Errno::EACCES | Errno::EPERM | Errno::ENOEXEC | Errno::EISDIR) => SpawnFailure::NotExecutable,
        _ => SpawnFailure::Transient,
    }
}

fn unless_gone(sent: nix::Result<()>) -> nix::Result<()> {
    match sent {
        Err(Errno::ESRCH) => Ok(()),
        other => other,
    }
}

/// Exit codes and signals fit a byte, although the kernel's types are wider.
fn low_byte(number: i32) -> u8 {
    u8::try_from(number).unwrap_or(u8::MAX)
}

fn spawn_requested(requests: &mpsc::Receiver<SpawnRequest>) {
    for SpawnRequest { program, reply } in requests {
        // The receiver is gone only when the agent is about to exit, and Envoy exits with it.
        drop(reply.send(spawn(&program)));
    }
}

#[expect(clippy::disallowed_types, reason = "this is the file that may")]
fn spawn(program: &Program) -> io::Result<Spawned> {
    let mut command = std::process::Command::new(&program.path);
    command.args(&program.arguments);
    match program.stdio {
        ChildStdio::Piped => command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()),
        ChildStdio::Inherited => &mut command,
    };
    // A terminal's Ctrl-C is for us alone, or Envoy would be gone before it has drained.
    command.process_group(0);
    start_clean(&mut command);

    let mut child = command.spawn()?;
    let pid = Pid::from_raw(i32::try_from(child.id()).map_err(io::Error::other)?);
    let output = match (child.stdout.take(), child.stderr.take()) {
        (Some(stdout), Some(stderr)) => Some(ChildOutput { stdout, stderr }),
        _ => None,
    };
    Ok(Spawned { pid, output })
}

/// A child inherits blocked and ignored signals over exec, and std leaves it at that: an Envoy started
/// with SIGTERM blocked can only be killed. And it must not outlive us, holding our ports.
#[expect(unsafe_code, reason = "between fork and exec there is no safe way to run code")]
#[expect(clippy::disallowed_types, reason = "this is the file that may")]
fn start_clean(command: &mut std::process::Command) {
    let agent = getpid();
    let before_exec = move || {
        for number in Signal::iterator().filter(|s| !matches!(s, Signal::SIGKILL | Signal::SIGSTOP)) {
            // SAFETY: only the default disposition is installed, so no handler can run.
            unsafe { signal(number, SigHandler::SigDfl) }?;
        }
        SigSet::empty().thread_set_mask()?;
        prctl::set_pdeathsig(Signal::SIGTERM)?;
        // The agent may have died between fork and here: then no process would send the signal.
        if getppid() == agent { Ok(()) } else { Err(Errno::ESRCH.into()) }
    };
    // SAFETY: the closure calls nothing but async-signal-safe system calls and allocates nothing.
    unsafe { command.pre_exec(before_exec) };
}

#[cfg(test)]
mod tests;

//! Converts signals to values that the driver can wait for.
//!
//! Their meaning is decided by the driver. Two equal signals within one turn of the driver count once, as they do in the kernel.

use std::{collections::VecDeque, io, os::unix::net::UnixStream as Pipe};

use nix::sys::signal::Signal;
use signal_hook::{
    consts::signal::{SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, SIGWINCH},
    iterator::{backend::SignalDelivery, exfiltrator::SignalOnly},
};
use tokio::{io::Interest, net::UnixStream};

/// A signal the agent has a use for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AgentSignal {
    /// SIGTERM or SIGINT.
    Terminate(Signal),
    /// SIGCHLD: a child has ended.
    Child,
    /// SIGUSR1.
    ReopenLogs,
    /// SIGHUP.
    Hangup,
    /// SIGQUIT.
    Dump,
    /// SIGUSR2 or SIGWINCH: nothing to us, but perhaps to a command beside Envoy.
    Other(Signal),
}

/// The signals, in the order they are noticed.
#[derive(Debug)]
pub(crate) struct Signals {
    delivery: SignalDelivery<UnixStream, SignalOnly>,
    pending: VecDeque<AgentSignal>,
}

// === impl Caught ===

impl AgentSignal {
    /// Returns the signal of the kernel.
    pub(crate) fn signal(self) -> Signal {
        match self {
            Self::Terminate(signal) | Self::Other(signal) => signal,
            Self::Child => Signal::SIGCHLD,
            Self::ReopenLogs => Signal::SIGUSR1,
            Self::Hangup => Signal::SIGHUP,
            Self::Dump => Signal::SIGQUIT,
        }
    }
}

// === impl Signals ===

impl Signals {
    /// Catches from now on. Must come before the first child, or its end may go unnoticed.
    pub(crate) fn catch() -> io::Result<Self> {
        let (read, write) = Pipe::pair()?;
        read.set_nonblocking(true)?;
        let read = UnixStream::from_std(read)?;
        let wanted = [SIGTERM, SIGINT, SIGCHLD, SIGUSR1, SIGHUP, SIGQUIT, SIGUSR2, SIGWINCH];
        let delivery = SignalDelivery::with_pipe(read, write, SignalOnly, wanted)?;
        Ok(Self { delivery, pending: VecDeque::new() })
    }

    /// The next signal. May be cancelled; nothing is lost.
    pub(crate) async fn next(&mut self) -> io::Result<AgentSignal> {
        loop {
            if let Some(signal) = self.pending.pop_front() {
                return Ok(signal);
            }
            self.delivery.get_read().readable().await?;
            // Tokio's readiness is cleared first: what arrives from here on makes an edge of its own.
            let cleared = || Err::<(), _>(io::ErrorKind::WouldBlock.into());
            drop(self.delivery.get_read().try_io(Interest::READABLE, cleared));
            self.pending.extend(self.delivery.pending().filter_map(meaning));
        }
    }
}

fn meaning(signal: i32) -> Option<AgentSignal> {
    match signal {
        SIGTERM => Some(AgentSignal::Terminate(Signal::SIGTERM)),
        SIGINT => Some(AgentSignal::Terminate(Signal::SIGINT)),
        SIGCHLD => Some(AgentSignal::Child),
        SIGUSR1 => Some(AgentSignal::ReopenLogs),
        SIGHUP => Some(AgentSignal::Hangup),
        SIGQUIT => Some(AgentSignal::Dump),
        SIGUSR2 => Some(AgentSignal::Other(Signal::SIGUSR2)),
        SIGWINCH => Some(AgentSignal::Other(Signal::SIGWINCH)),
        _ => None,
    }
}

//! A fleet in a process of its own.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sys::signal::{self, Signal};
use nix::unistd::Pid;
use serde::de::DeserializeOwned;
use serde_json::Value;

use super::orders::{ClientRange, FleetConfig, Goal, GoalTimes, HeldResources, Order, ResumeState, Totals};

/// A fleet in a process of its own. Dropping it kills the process.
pub struct Fleet {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

// === impl Fleet ===

impl Fleet {
    /// Starts the program `fleet` without any connection.
    pub fn spawn(program: &Path, setup: &FleetConfig) -> Result<Self> {
        let setup = serde_json::to_string(setup).context("write the setup")?;
        let mut command = Command::new(program);
        command.arg(setup).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| format!("start {}", program.display()))?;
        let (Some(orders), Some(answers)) = (child.stdin.take(), child.stdout.take()) else {
            bail!("the fleet has no pipes")
        };
        Ok(Self { child, orders, answers: BufReader::new(answers) })
    }

    /// Returns the process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends a signal to the process: SIGSTOP stops all clients at once.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal::kill(self.pid(), signal).context("signal the fleet")
    }

    /// Sends an order and waits for the answer.
    pub fn order<T: DeserializeOwned>(&mut self, order: &Order) -> Result<T> {
        self.begin(order)?;
        self.answer()
    }

    /// Sends an order. Its answer must be read with [`Self::answer`].
    pub fn begin(&mut self, order: &Order) -> Result<()> {
        let line = serde_json::to_string(order).context("write an order")?;
        writeln!(self.orders, "{line}").and_then(|()| self.orders.flush()).context("send an order")
    }

    /// Reads the answer to the oldest order without one.
    pub fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.answers.read_line(&mut line).context("read an answer of the fleet")? == 0 {
            bail!("the fleet has ended");
        }
        let answer: Value = serde_json::from_str(&line).context("read an answer")?;
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            bail!("fleet: {error}");
        }
        serde_json::from_value(answer).context("read an answer")
    }

    /// Connects all clients without state. Returns the time of the order in microseconds since 1970.
    pub fn connect(&mut self) -> Result<u64> {
        self.at(&Order::Connect { which: ClientRange::ALL, memory: ResumeState::Blank })
    }

    /// Sends an order that is answered with the time of its execution, in microseconds since 1970.
    pub fn at(&mut self, order: &Order) -> Result<u64> {
        let answer: Value = self.order(order)?;
        answer.get("at").and_then(Value::as_u64).context("an answer without a time")
    }

    /// Starts counting towards this goal.
    pub fn mark(&mut self, goal: Goal) -> Result<()> {
        self.at(&Order::Mark { goal }).map(drop)
    }

    /// Waits until these clients have reached the goal, or the time limit.
    pub fn reached(&mut self, which: ClientRange, within: Duration) -> Result<GoalTimes> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.order(&Order::Await { which, within_ms })
    }

    /// Waits until all clients have reached the goal. The error has the number of missing clients and the totals.
    pub fn all_reached(&mut self, within: Duration) -> Result<GoalTimes> {
        let reached = self.reached(ClientRange::ALL, within)?;
        if reached.missing > 0 {
            let totals = self.totals()?;
            bail!(
                "{} of {} clients did not reach the goal within {within:?}: {totals:?}",
                reached.missing,
                { reached.at.len() + reached.missing as usize }
            );
        }
        Ok(reached)
    }

    /// Returns the counters since the mark.
    pub fn totals(&mut self) -> Result<Totals> {
        self.order(&Order::Totals)
    }

    /// Returns the resources held by one client.
    pub fn holdings(&mut self, client: u32) -> Result<HeldResources> {
        self.order(&Order::Holdings { client })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // An error means that the process has ended and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

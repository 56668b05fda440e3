//! A fleet as a process beside us: it is told and it answers.

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

/// Clients in a process of their own. Dropping it kills them.
pub struct Fleet {
    child: Child,
    orders: ChildStdin,
    answers: BufReader<ChildStdout>,
}

// === impl Fleet ===

impl Fleet {
    /// Starts the program `fleet`; nobody is connected yet.
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

    /// Its process id.
    pub fn pid(&self) -> Pid {
        Pid::from_raw(self.child.id().cast_signed())
    }

    /// Sends the whole process a signal: SIGSTOP stops all its clients at once.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        signal::kill(self.pid(), signal).context("signal the fleet")
    }

    /// Gives an order and waits for its answer.
    pub fn order<T: DeserializeOwned>(&mut self, order: &Order) -> Result<T> {
        self.begin(order)?;
        self.answer()
    }

    /// Gives an order whose answer [`Self::answer`] will wait for.
    pub fn begin(&mut self, order: &Order) -> Result<()> {
        let line = serde_json::to_string(order).context("write an order")?;
        writeln!(self.orders, "{line}").and_then(|()| self.orders.flush()).context("give an order")
    }

    /// The answer to the oldest order that has none.
    pub fn answer<T: DeserializeOwned>(&mut self) -> Result<T> {
        let mut line = String::new();
        if self.answers.read_line(&mut line).context("hear from the fleet")? == 0 {
            bail!("the fleet has ended");
        }
        let answer: Value = serde_json::from_str(&line).context("read an answer")?;
        if let Some(error) = answer.get("error").and_then(Value::as_str) {
            bail!("the fleet says: {error}");
        }
        serde_json::from_value(answer).context("read an answer")
    }

    /// Connects all_clients, blank. Returns when they began, in microseconds since 1970.
    pub fn connect(&mut self) -> Result<u64> {
        self.at(&Order::Connect { which: ClientRange::ALL, memory: ResumeState::Blank })
    }

    /// An order that is answered by the time when it was obeyed, in microseconds since 1970.
    pub fn at(&mut self, order: &Order) -> Result<u64> {
        let answer: Value = self.order(order)?;
        answer.get("at").and_then(Value::as_u64).context("an answer without a time")
    }

    /// Counts from now on, towards this goal.
    pub fn mark(&mut self, goal: Goal) -> Result<()> {
        self.at(&Order::Mark { goal }).map(drop)
    }

    /// Waits until these have reached the goal, or the time is up.
    pub fn reached(&mut self, which: ClientRange, within: Duration) -> Result<GoalTimes> {
        let within_ms = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
        self.order(&Order::Await { which, within_ms })
    }

    /// Waits until all_clients has reached the goal; an error says who has not and why.
    pub fn all_reached(&mut self, within: Duration) -> Result<GoalTimes> {
        let reached = self.reached(ClientRange::ALL, within)?;
        if reached.missing > 0 {
            let totals = self.totals()?;
            bail!("{} of {} clients are not there within {within:?}: {totals:?}", reached.missing, {
                reached.at.len() + reached.missing as usize
            });
        }
        Ok(reached)
    }

    /// What came since the mark.
    pub fn totals(&mut self) -> Result<Totals> {
        self.order(&Order::Totals)
    }

    /// What one client holds.
    pub fn holdings(&mut self, client: u32) -> Result<HeldResources> {
        self.order(&Order::Holdings { client })
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // An error means that it has ended and was waited for.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

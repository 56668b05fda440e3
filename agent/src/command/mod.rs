//! Subcommands. Each returns its result; `main.rs` sets the exit code.

pub(crate) mod bootstrap;
mod http;
pub(crate) mod proxy;
pub(crate) mod request;
pub(crate) mod status;
pub(crate) mod version;
pub(crate) mod wait;

use std::io::{self, Write as _};

use clap::CommandFactory as _;
use clap_complete::Shell;

use crate::cli::Cli;
use crate::config::fault::Faults;

/// Error of a subcommand.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Invalid configuration.
    Faults(Faults),
    /// Something else went wrong.
    Error(anyhow::Error),
}

impl From<Faults> for Failure {
    fn from(faults: Faults) -> Self {
        Self::Faults(faults)
    }
}

impl<E: Into<anyhow::Error>> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::Error(error.into())
    }
}

impl Failure {
    /// The process's exit code.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::Faults(faults) => faults.exit_code(),
            Self::Error(_) => 1,
        }
    }

    /// One line for each thing that went wrong.
    pub(crate) fn lines(&self) -> Vec<String> {
        match self {
            Self::Faults(faults) => faults.iter().map(ToString::to_string).collect(),
            Self::Error(error) => vec![format!("{error:#}")],
        }
    }
}

/// Prints a completion script.
pub(crate) fn completion(shell: Shell) -> Result<(), Failure> {
    // Into memory first: the generator panics on a closed pipe.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "pilot-agent", &mut script);
    Ok(io::stdout().write_all(&script)?)
}

/// A runtime for a command that makes a few requests.
fn block_on<T>(work: impl Future<Output = T>) -> io::Result<T> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(work))
}

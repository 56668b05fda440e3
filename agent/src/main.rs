//! `pilot-agent`: entrypoint of the sidecar container.
//!
//! Chooses the command and makes its result the process's exit code: 0; 1 if it failed; 64 for a mistake in
//! the flags, 78 in configuration; 127 and 126 for an Envoy that is not there or cannot be executed.

mod admin_proxy;
mod bootstrap;
mod cgroup;
mod cli;
mod command;
mod config;
mod desired;
mod driver;
mod envoy_admin;
mod handover;
mod hot_restart;
mod lifecycle;
mod listen;
mod logs;
mod peer;
mod process;
mod report;
mod signals;
mod sockets;
mod status;
mod supervisor;

use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::{Cli, Command};
use crate::command::Failure;
use crate::config::fault::FaultKind;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => return refuse(&error),
    };
    match run(cli) {
        Ok(code) => code.into(),
        Err(failure) => {
            for line in failure.lines() {
                eprintln!("pilot-agent: {line}");
            }
            failure.exit_code().into()
        }
    }
}

/// Help is an answer and goes out whole; a mistake is one line, like every other mistake.
fn refuse(error: &clap::Error) -> ExitCode {
    let text = error.to_string();
    if let (true, Some(mistake)) = (error.use_stderr(), text.strip_prefix("error: ")) {
        let line: Vec<_> = mistake.lines().take_while(|line| !line.is_empty()).map(str::trim).collect();
        eprintln!("pilot-agent: {}", line.join(" "));
    } else if error.print().is_err() {
        return ExitCode::FAILURE;
    }
    if error.use_stderr() { FaultKind::Usage.exit_code().into() } else { ExitCode::SUCCESS }
}

fn run(cli: Cli) -> Result<u8, Failure> {
    match cli.command {
        Command::Proxy(flags) => return command::proxy::run(&flags, None, &cli.log),
        Command::Run(flags) => return command::proxy::run(&flags.proxy, Some(flags.command), &cli.log),
        Command::Bootstrap(flags) => {
            warn(command::bootstrap::run(&flags, &cli.log)?.iter());
        }
        Command::Request(flags) => command::request::run(&flags)?,
        Command::Status(flags) => command::status::run(&flags)?,
        Command::Wait(flags) => command::wait::run(&flags)?,
        Command::Version(flags) => command::version::run(&flags)?,
        Command::Completion { shell } => command::completion(shell)?,
    }
    Ok(0)
}

/// Warnings of a command that has no log: beside its output, not in it.
fn warn<'a>(warnings: impl Iterator<Item = &'a String>) {
    for warning in warnings {
        eprintln!("pilot-agent: warning: {warning}");
    }
}

//! `pilot-agent`: entrypoint of the sidecar container.
//!
//! Chooses the command and makes its result the process's exit code: 0; 1 if it failed; 64 for a mistake in
//! the flags, 78 in configuration; 127 and 126 for an Envoy that is not there or cannot be executed.

use std::process::ExitCode;

use clap::Parser as _;
use pilot_agent::cli::{Cli, Command};
use pilot_agent::command::{self, Failure, bootstrap, proxy, request, status, version, wait};
use pilot_agent::config::fault::FaultKind;

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
        Command::Proxy(flags) => return proxy::run(&flags, None, &cli.log),
        Command::Run(flags) => return proxy::run(&flags.proxy, Some(flags.command), &cli.log),
        Command::Bootstrap(flags) => {
            warn(bootstrap::run(&flags, &cli.log)?.iter());
        }
        Command::Request(flags) => request::run(&flags)?,
        Command::Status(flags) => status::run(&flags)?,
        Command::Wait(flags) => wait::run(&flags)?,
        Command::Version(flags) => version::run(&flags)?,
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

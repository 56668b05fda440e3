//! `pilot-discovery`: control plane for Envoy proxies.
//!
//! Parses the command line and runs the command.

mod ads;
mod config;
mod debug;
mod http;
mod inspect;
mod logging;
mod mesh;
mod metrics;
mod moment;
mod offline;
mod pusher;
mod server;
mod source;
mod transport;
mod validate;
mod version;

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser as _};
use config::args::{Cli, Command};

/// `sysexits.h`: invalid command line.
const EX_USAGE: u8 = 64;
/// `sysexits.h`: invalid configuration.
const EX_CONFIG: u8 = 78;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) if error.use_stderr() => {
            // One line, like every other error; the usage is in --help.
            let text = error.to_string();
            let message = text.lines().next().unwrap_or_default();
            eprintln!("pilot-discovery: {}", message.trim_start_matches("error: "));
            return ExitCode::from(EX_USAGE);
        }
        // --help and --version.
        Err(answer) => return if answer.print().is_ok() { ExitCode::SUCCESS } else { ExitCode::FAILURE },
    };
    match cli.command {
        Command::Discovery(args) => discovery(&args),
        Command::Simulate(args) => offline::simulate(&args),
        Command::Diff(args) => offline::diff(&args),
        Command::Validate(args) => validate::run(&args),
        Command::Version(args) => version::print(&args),
        Command::Completion { shell } => {
            clap_complete::generate(shell, &mut Cli::command(), "pilot-discovery", &mut std::io::stdout());
            ExitCode::SUCCESS
        }
    }
}

fn discovery(args: &config::args::DiscoveryArgs) -> ExitCode {
    let config = match config::Config::check(args) {
        Ok(config) => config,
        Err(faults) => {
            for fault in &faults {
                eprintln!("pilot-discovery: {fault}");
            }
            return ExitCode::from(EX_CONFIG);
        }
    };
    logging::start(&config.logging);
    match server::run(config) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

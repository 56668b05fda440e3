//! Many xDS clients in one process: `fleet '{"to": "127.0.0.1:15010", "streams": 1000, "codec": "delta"}'`, orders on standard
//! input, answers on standard output (see `pilot_tests::fleet`).

use std::process::ExitCode;

use anyhow::{Context, Result};
use pilot_tests::fleet;

fn main() -> ExitCode {
    match run() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fleet: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run() -> Result<()> {
    let setup = std::env::args().nth(1).context("usage: fleet SETUP, which is JSON")?;
    fleet::run(serde_json::from_str(&setup).context("read the setup")?)
}

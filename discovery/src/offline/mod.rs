//! Commands without a server: the effect of files on a call (`simulate`), and of a change of files on proxies (`diff`).
//!
//! ```text
//! directory ─▶ file source ─▶ World ─▶ PushContext ─▶ resources of a proxy ─▶ Trace | MeshDifference ─▶ text or JSON
//! ```
//!
//! The resources are generated as by the server; no control plane is involved.

mod call_args;
mod json_diff;
mod mesh_diff;
mod mesh_files;
mod print;
mod proxy_select;

use std::process::ExitCode;

use anyhow::Context as _;
use pilot_core::simulate::Client;
use serde_json::Value;

use crate::config::args::{DiffArgs, SimulateArgs};
use mesh_diff::MeshDifference;
use mesh_files::MeshFiles;

/// Exit code if the call reaches an endpoint, or nothing differs.
const SUCCESS: u8 = 0;
/// Exit code if the call reaches no endpoint, or something differs.
const DIFFERENT: u8 = 1;
/// Exit code after an error, as of `diff(1)`.
const ERROR: u8 = 2;

/// `pilot-discovery simulate`.
pub(crate) fn simulate(args: &SimulateArgs) -> ExitCode {
    exit_code(run_simulate(args))
}

/// `pilot-discovery diff`.
pub(crate) fn diff(args: &DiffArgs) -> ExitCode {
    exit_code(run_diff(args))
}

fn exit_code(outcome: anyhow::Result<u8>) -> ExitCode {
    match outcome {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("pilot-discovery: {error:#}");
            ERROR.into()
        }
    }
}

fn run_simulate(args: &SimulateArgs) -> anyhow::Result<u8> {
    let parsed = call_args::parse(&args.call)?;
    let files = MeshFiles::read(&args.config_dir, &args.mesh.mesh_config, &args.mesh.domain)?;
    print_problems(&files);
    let proxy = proxy_select::caller(&files.push, args)?;
    let caller = Client::new(&files.push, proxy).context("generate the resources of the proxy")?;
    let call = if args.inbound { caller.arriving(parsed.line)? } else { caller.leaving(parsed.line)? };
    let trace = caller.told.call(&call);
    let json = parsed.output.is_some() || args.output.is_some();
    print!(
        "{}",
        if json { pretty(&print::json(&caller, &call, &trace)) } else { print::text(&caller, &call, &trace) }
    );
    Ok(if trace.reaches() { SUCCESS } else { DIFFERENT })
}

fn run_diff(args: &DiffArgs) -> anyhow::Result<u8> {
    let before = MeshFiles::read(&args.before, &args.mesh.mesh_config, &args.mesh.domain)?;
    let after_mesh = args.after_mesh_config.as_ref().unwrap_or(&args.mesh.mesh_config);
    let after = MeshFiles::read(&args.after, after_mesh, &args.mesh.domain)?;
    print_problems(&before);
    print_problems(&after);
    let proxies = proxy_select::all(&before.push, &after.push, &args.proxy)?;
    let difference = MeshDifference::between(&before.push, &after.push, &proxies)?;
    print!("{}", if args.output.is_some() { pretty(&difference.json()) } else { difference.to_string() });
    Ok(if difference.is_none() { SUCCESS } else { DIFFERENT })
}

/// Prints the problems of the files. Invalid objects are left out, as by the server.
fn print_problems(files: &MeshFiles) {
    for problem in &files.problems {
        eprintln!("pilot-discovery: {problem}");
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

//! Commands that start nothing: what files would mean to a proxy (`simulate`), and what a change of them would (`diff`).
//!
//! ```text
//! folder ─▶ file source ─▶ World ─▶ PushContext ─▶ Told (what one proxy would be told) ─▶ Trace | Difference ─▶ text or JSON
//! ```
//!
//! The way is that of the server, up to the resources; no control plane is asked.

mod call;
mod changes;
mod difference;
mod folder;
mod print;
mod who;

use std::process::ExitCode;

use anyhow::Context as _;
use pilot_core::simulate::Caller;
use serde_json::Value;

use crate::config::args::{DiffArgs, SimulateArgs};
use difference::Difference;
use folder::Folder;

/// What was asked for is so: the call reaches an endpoint; nothing differs.
const YES: u8 = 0;
/// It is not.
const NO: u8 = 1;
/// It could not be told, as `diff(1)` has it.
const TROUBLE: u8 = 2;

/// `pilot-discovery simulate`.
pub(crate) fn simulate(args: &SimulateArgs) -> ExitCode {
    ended(simulated(args))
}

/// `pilot-discovery diff`.
pub(crate) fn diff(args: &DiffArgs) -> ExitCode {
    ended(differing(args))
}

fn ended(outcome: anyhow::Result<u8>) -> ExitCode {
    match outcome {
        Ok(code) => code.into(),
        Err(error) => {
            eprintln!("pilot-discovery: {error:#}");
            TROUBLE.into()
        }
    }
}

fn simulated(args: &SimulateArgs) -> anyhow::Result<u8> {
    let asked = call::asked(&args.call)?;
    let folder = Folder::read(&args.config_dir, &args.mesh.mesh_config, &args.mesh.domain)?;
    tell(&folder);
    let proxy = who::caller(&folder.push, args)?;
    let caller = Caller::new(&folder.push, proxy).context("imagine what the proxy is told")?;
    let call = if args.inbound { caller.arriving(asked.line)? } else { caller.leaving(asked.line)? };
    let trace = caller.told.call(&call);
    let json = asked.output.is_some() || args.output.is_some();
    print!(
        "{}",
        if json { pretty(&print::json(&caller, &call, &trace)) } else { print::text(&caller, &call, &trace) }
    );
    Ok(if trace.reaches() { YES } else { NO })
}

fn differing(args: &DiffArgs) -> anyhow::Result<u8> {
    let before = Folder::read(&args.before, &args.mesh.mesh_config, &args.mesh.domain)?;
    let after_mesh = args.after_mesh_config.as_ref().unwrap_or(&args.mesh.mesh_config);
    let after = Folder::read(&args.after, after_mesh, &args.mesh.domain)?;
    tell(&before);
    tell(&after);
    let proxies = who::everybody(&before.push, &after.push, &args.proxy)?;
    let difference = Difference::between(&before.push, &after.push, &proxies)?;
    print!("{}", if args.output.is_some() { pretty(&difference.json()) } else { difference.to_string() });
    Ok(if difference.is_none() { YES } else { NO })
}

/// What cannot be used of the files is said and left out, as the server does.
fn tell(folder: &Folder) {
    for problem in &folder.problems {
        eprintln!("pilot-discovery: {problem}");
    }
}

fn pretty(value: &Value) -> String {
    format!("{value:#}\n")
}

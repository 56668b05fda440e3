//! Compares our bootstraps with Istio's own, case by case, and lets a real Envoy judge ours:
//!
//! ```text
//! goldens FOLDER      pkg/bootstrap/testdata of a checkout of Istio
//! ```
//!
//! Each case is rendered by `pilot-agent bootstrap` from what Istio's test is given, and both sides go through Envoy's own messages, so
//! that only what Envoy would see counts. The order of every list counts too. A difference is either in [`accepted`], with
//! the reason why ours is right, or a failure; so is one accepted that is no longer there. Istio's data is read where it
//! lies; of it, nothing is kept here but the inputs that are in no file of Istio's, in [`cases`].

mod accepted;
mod cases;
mod difference;
mod prototext;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::{Command, ExitCode, Output, Stdio};

use anyhow::{Context, Result, bail, ensure};
use pilot_proto::envoy::config::bootstrap::v3::Bootstrap;
use pilot_proto::json;
use pilot_tests::envoy::envoy;
use pilot_tests::programs::programs;
use serde_json::{Map, Value};

use crate::accepted::{ACCEPTED, AcceptedDifference, UNKNOWN_TO_ENVOY};
use crate::cases::{ANNOTATIONS, BootstrapCase, FLAGS, LEFT_OVER};
use crate::difference::{Difference, differences};

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder] = arguments.as_slice() else {
        eprintln!("usage: goldens FOLDER (pkg/bootstrap/testdata of a checkout of Istio)");
        return ExitCode::from(64);
    };
    match compare(Path::new(folder)) {
        Ok(0) => ExitCode::SUCCESS,
        Ok(faults) => {
            eprintln!("goldens: {faults} faults");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("goldens: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Prints what came of every case, and gives the number of faults.
fn compare(folder: &Path) -> Result<usize> {
    let cases = cases::all();
    ensure_all_known(folder, &cases)?;
    let (mut faults, mut found) = (0, BTreeSet::new());
    for case in &cases {
        let (golden, ours) = (golden(folder, case)?, ours(folder, case)?);
        let differences = differences(&golden, &canonical(&case.in_places_of_golden(&ours))?);
        let (accepted, others): (Vec<_>, Vec<_>) = differences
            .into_iter()
            .map(|difference| (accepted::find(&difference), difference))
            .partition(|(found, _)| found.is_some());
        found.extend(accepted.into_iter().filter_map(|(number, _)| number));
        let verdict = validate(case, &ours)?;
        let word = if others.is_empty() { "equal" } else { "DIFFERENT" };
        println!("{word:9} {:48} {verdict}", case.name);
        for (_, difference) in &others {
            println!("          {difference}");
        }
        faults += others.len() + usize::from(matches!(verdict, Verdict::Refused(_)));
    }
    println!("\n{} cases. Ours are other than Istio's in this, in every case it concerns:", cases.len());
    for (number, AcceptedDifference { path, why, .. }) in ACCEPTED.iter().enumerate() {
        let there = found.contains(&number);
        println!("  {path}: {}{why}", if there { "" } else { "NO LONGER SO: " });
        faults += usize::from(!there);
    }
    Ok(faults)
}

/// A case of Istio's that this program does not know is one that is not looked at.
fn ensure_all_known(folder: &Path, cases: &[BootstrapCase]) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix("_golden.json") else { continue };
        let known = name == LEFT_OVER || cases.iter().any(|case| case.name == name);
        ensure!(known, "{name}: is a case of Istio's that cases.rs does not have");
    }
    Ok(())
}

fn golden(folder: &Path, case: &BootstrapCase) -> Result<Value> {
    let path = folder.join(format!("{}_golden.json", case.name));
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    canonical(&text).with_context(|| format!("read {}", path.display()))
}

/// The bootstrap as Envoy sees it: one spelling for whatever means the same to it.
fn canonical(bootstrap: &str) -> Result<Value> {
    let bootstrap: Bootstrap = json::from_value(&serde_json::from_str(bootstrap)?)?;
    Ok(json::to_value(&bootstrap)?)
}

/// What our agent makes of the case.
fn ours(folder: &Path, case: &BootstrapCase) -> Result<String> {
    let path = folder.join(format!("{}.proxycfg", case.proxy_config));
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    let proxy_config = prototext::json(&text).with_context(|| format!("read {}", path.display()))?;

    let home = tempfile::tempdir()?;
    let annotations = home.path().join("etc/istio/pod/annotations");
    fs::create_dir_all(annotations.parent().context("a file is in a folder")?)?;
    let lines = case.annotations.iter().map(|(name, value)| format!("{name}={}\n", Value::from(*value)));
    fs::write(&annotations, lines.collect::<String>())?;

    let mut command = Command::new(&programs()?.agent);
    command.arg("bootstrap").args(FLAGS).current_dir(home.path()).env_clear();
    let annotations: Map<_, _> =
        case.annotations.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
    command.env(ANNOTATIONS, Value::from(annotations).to_string());
    command.envs(cases::ENVIRONMENT).envs(case.environment.iter().copied());
    command.env("PROXY_CONFIG", case.with_what_istios_test_sets(proxy_config).to_string());
    let Output { status, stdout, stderr } =
        command.stdin(Stdio::null()).output().context("run pilot-agent bootstrap")?;
    ensure!(
        status.success(),
        "{}: pilot-agent bootstrap: {status}: {}",
        case.name,
        String::from_utf8_lossy(&stderr)
    );
    Ok(String::from_utf8(stdout)?)
}

/// What the real Envoy thinks of a bootstrap of ours.
enum Verdict {
    /// It would start with it.
    Taken,
    /// It has no such extension, as is known of this case.
    Unknown(&'static str),
    /// It would not start with it.
    Refused(String),
}

fn validate(case: &BootstrapCase, bootstrap: &str) -> Result<Verdict> {
    let home = tempfile::tempdir()?;
    let path = home.path().join("bootstrap.json");
    fs::write(&path, bootstrap)?;
    let mut command = Command::new(envoy()?);
    command.args(["--mode", "validate", "--allow-unknown-static-fields", "-l", "error", "-c"]).arg(&path);
    let output = command.current_dir(home.path()).stdin(Stdio::null()).output().context("run Envoy")?;
    if output.status.success() {
        return Ok(Verdict::Taken);
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if said.is_empty() {
        bail!("{}: envoy --mode validate: {} without a word", case.name, output.status);
    }
    let missing = |(name, extension): &&(&str, &str)| {
        *name == case.name
            && said.contains(&format!("Didn't find a registered implementation for '{extension}'"))
    };
    Ok(match UNKNOWN_TO_ENVOY.iter().find(missing) {
        Some((_, extension)) => Verdict::Unknown(extension),
        None => Verdict::Refused(said),
    })
}

// === impl Verdict ===

impl std::fmt::Display for Verdict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Taken => out.write_str("Envoy takes it"),
            Self::Unknown(extension) => {
                write!(out, "Envoy would but for {extension}, which only Istio's has")
            }
            Self::Refused(said) => write!(out, "ENVOY REFUSES: {said}"),
        }
    }
}

// === impl Difference ===

impl std::fmt::Display for Difference {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let side = |value: &Option<Value>| value.as_ref().map_or("nothing".to_owned(), Value::to_string);
        write!(out, "{}: Istio has {}, ours {}", self.path, side(&self.golden), side(&self.ours))
    }
}

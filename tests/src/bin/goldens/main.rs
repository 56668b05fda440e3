//! Compares our bootstraps with Istio's golden files, case by case, and validates ours with a real Envoy:
//!
//! ```text
//! goldens FOLDER      pkg/bootstrap/testdata of a checkout of Istio
//! ```
//!
//! Each case is rendered by `pilot-agent bootstrap` from the inputs of Istio's test. Both sides are parsed as Envoy's messages, so
//! that only differences visible to Envoy count, including the order of lists. A difference must be listed in [`accepted`] with
//! the reason for it, and a listed difference must exist. Istio's data is read from the checkout; the repository contains only
//! the inputs that are in no file of Istio's, in [`cases`].

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
use pilot_proto::proto3_json;
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

/// Prints the result of every case and returns the number of faults.
fn compare(folder: &Path) -> Result<usize> {
    let cases = cases::all();
    ensure_all_cases_known(folder, &cases)?;
    let (mut faults, mut found) = (0, BTreeSet::new());
    for case in &cases {
        let (golden, ours) = (golden(folder, case)?, ours(folder, case)?);
        let differences = differences(&golden, &canonical(&case.with_golden_paths(&ours))?);
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
    println!("\n{} cases. Accepted differences from Istio:", cases.len());
    for (number, AcceptedDifference { path, why, .. }) in ACCEPTED.iter().enumerate() {
        let there = found.contains(&number);
        println!("  {path}: {}{why}", if there { "" } else { "NO LONGER DIFFERENT: " });
        faults += usize::from(!there);
    }
    Ok(faults)
}

/// Returns an error if the checkout has a case that this program does not know.
fn ensure_all_cases_known(folder: &Path, cases: &[BootstrapCase]) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("read {}", folder.display()))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let Some(name) = name.strip_suffix("_golden.json") else { continue };
        let known = name == LEFT_OVER || cases.iter().any(|case| case.name == name);
        ensure!(known, "{name}: case is missing in cases.rs");
    }
    Ok(())
}

fn golden(folder: &Path, case: &BootstrapCase) -> Result<Value> {
    let path = folder.join(format!("{}_golden.json", case.name));
    let text = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
    canonical(&text).with_context(|| format!("read {}", path.display()))
}

/// Returns the bootstrap in canonical form: equal for every spelling with the same meaning to Envoy.
fn canonical(bootstrap: &str) -> Result<Value> {
    let bootstrap: Bootstrap = proto3_json::from_value(&serde_json::from_str(bootstrap)?)?;
    Ok(proto3_json::to_value(&bootstrap)?)
}

/// Renders the case with pilot-agent.
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
    command.env("PROXY_CONFIG", case.with_overrides_of_the_istio_test(proxy_config).to_string());
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

/// Result of `envoy --mode validate`.
enum Verdict {
    /// Envoy accepts the bootstrap.
    Taken,
    /// Envoy lacks an extension, as expected for this case.
    Unknown(&'static str),
    /// Envoy rejects the bootstrap.
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
    let errors = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    if errors.is_empty() {
        bail!("{}: envoy --mode validate: {} without output", case.name, output.status);
    }
    let missing = |(name, extension): &&(&str, &str)| {
        *name == case.name
            && errors.contains(&format!("Didn't find a registered implementation for '{extension}'"))
    };
    Ok(match UNKNOWN_TO_ENVOY.iter().find(missing) {
        Some((_, extension)) => Verdict::Unknown(extension),
        None => Verdict::Refused(errors),
    })
}

// === impl Verdict ===

impl std::fmt::Display for Verdict {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Taken => out.write_str("accepted by Envoy"),
            Self::Unknown(extension) => {
                write!(out, "accepted except for {extension}, which only Istio's Envoy has")
            }
            Self::Refused(errors) => write!(out, "REJECTED BY ENVOY: {errors}"),
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

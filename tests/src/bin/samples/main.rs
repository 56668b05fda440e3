//! Runs Istio's own samples in a mesh with real Envoys:
//!
//! ```text
//! samples FOLDER      samples/ of a checkout of Istio
//! ```
//!
//! ```text
//! sets       files that are applied together      for each sample: every file by itself, with the files it depends on
//! cluster    objects that Kubernetes would add     pods, endpoint slices, addresses of services
//! sds        certificates                          an SDS server for proxies that need a certificate
//! mesh       a control plane and an Envoy for      waits until each has acknowledged everything, of every type
//!            each workload, and a gateway
//! ```
//!
//! One line for each set, named by the file under test. It has the number of objects read, findings of `pilot-discovery
//! validate`, Envoys, resources held, and rejected responses. The program fails on an error or a rejection. Istio's files are
//! read from the checkout; the repository contains none.

mod cluster;
mod mesh;
mod sds;
mod sets;

use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};

use anyhow::{Context, Result};
use pilot_tests::programs::programs;
use serde_json::Value;

use crate::cluster::Cluster;
use crate::mesh::{Outcome, SampleMesh};
use crate::sets::{SAMPLES, Sample, Set};

#[tokio::main]
async fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [folder] = arguments.as_slice() else {
        eprintln!("usage: samples FOLDER (samples/ of a checkout of Istio)");
        return ExitCode::from(64);
    };
    match run(Path::new(folder)).await {
        Ok(0) => ExitCode::SUCCESS,
        Ok(faults) => {
            eprintln!("samples: {faults} faults");
            ExitCode::FAILURE
        }
        Err(error) => {
            eprintln!("samples: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Runs every set of every sample and returns the number of faults.
async fn run(folder: &Path) -> Result<usize> {
    let line = |cells: [&str; 7]| {
        let [sample, files, objects, findings, proxies, resources, rejected] = cells;
        println!(
            "{sample:11} {files:86} {objects:>7} {findings:>8} {proxies:>7} {resources:>9} {rejected:>8}"
        );
    };
    line(["sample", "files", "objects", "findings", "proxies", "resources", "rejected"]);
    let (mut tried, mut faults, mut unread) = (0, 0, Vec::new());
    for name in SAMPLES {
        let sample = Sample::read(folder, name)?;
        let mut mesh = SampleMesh::start().await?;
        for set in &sample.sets {
            let findings = findings(folder, set)?;
            let cluster = Cluster::apply(folder, set, sample.gateway)?;
            let Outcome { proxies, resources, rejected, problems } = mesh.of(&cluster).await?;
            let counts =
                [cluster.read(), findings.len(), proxies, resources, rejected].map(|n| n.to_string());
            let [objects, finding_count, proxies, resources, refused] = counts.each_ref().map(String::as_str);
            line([name, &set.to_string(), objects, finding_count, proxies, resources, refused]);
            for finding in &findings {
                println!("            {}", finding.text);
            }
            for problem in &problems {
                println!("            {problem}");
            }
            tried += 1;
            let fault =
                rejected > 0 || !problems.is_empty() || findings.iter().any(|finding| finding.is_error);
            faults += usize::from(fault);
        }
        let refused = mesh.end().await?;
        for problem in &refused {
            println!("            {problem}");
        }
        faults += usize::from(!refused.is_empty());
        unread.extend(sample.unread);
    }
    println!("\nnot read:");
    for (file, why) in unread {
        println!("  {}: {why}", file.display());
    }
    println!("\n{tried} sets, {faults} faults");
    Ok(faults)
}

/// A finding of `validate`.
struct Finding {
    text: String,
    is_error: bool,
}

/// Runs `validate` on the files of a set.
fn findings(folder: &Path, set: &Set) -> Result<Vec<Finding>> {
    let mut validate = Command::new(&programs()?.discovery);
    validate.args(["validate", "-o", "json"]).current_dir(folder);
    for file in &set.files {
        validate.arg("-f").arg(file);
    }
    let output = validate.output().context("run pilot-discovery validate")?;
    let found: Vec<Value> = serde_json::from_slice(&output.stdout).context("parse findings of validate")?;
    let text =
        |finding: &Value, key: &str| finding.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let finding = |finding: &Value| {
        let severity = text(finding, "severity");
        let file = PathBuf::from(text(finding, "file"));
        let [object, field, message] = ["object", "field", "message"].map(|key| text(finding, key));
        Finding {
            text: format!("{severity}: {}: {object}: {field}: {message}", file.display()),
            is_error: severity != "warning",
        }
    };
    Ok(found.iter().map(finding).collect())
}

//! `pilot-discovery validate` on users' files.

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use anyhow::{Context, Result, ensure};
use pilot_tests::programs::programs;
use serde_json::{Value, json};

const GOOD: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: web}}]}]
";
const WARNED: &str = "apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: web, namespace: shop}
spec: {host: web, workloadSelector: {}, trafficPolicy: {connectionPool: {tcp: {maxConnections: 1}}}}
";
const BAD: &str = "apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: web}
spec:
  hosts: [web]
  http: [{route: [{destination: {host: web}, wait: 1}], retries: {attempts: -1}}]
";

/// Returns exit code and standard output.
fn validate(folder: &Path, arguments: &[&str], input: &str) -> Result<(i32, String)> {
    let mut program = Command::new(&programs()?.discovery)
        .arg("validate")
        .args(arguments)
        .current_dir(folder)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .context("start pilot-discovery validate")?;
    program.stdin.take().context("its standard input")?.write_all(input.as_bytes())?;
    let Output { status, stdout, .. } = program.wait_with_output()?;
    Ok((status.code().context("it was killed")?, String::from_utf8(stdout)?))
}

#[test]
fn validate_prints_one_line_per_finding_and_exits_with_1_on_errors() -> Result<()> {
    let folder = tempfile::tempdir()?;
    fs::create_dir(folder.path().join("mesh"))?;
    fs::write(folder.path().join("good.yaml"), GOOD)?;
    fs::write(folder.path().join("mesh/warned.yml"), WARNED)?;
    fs::write(folder.path().join("mesh/bad.yaml"), format!("{GOOD}---\n{BAD}"))?;
    fs::write(folder.path().join("mesh/not.txt"), "{")?;
    let warning = "mesh/warned.yml:1: warning: document 1: DestinationRule shop/web: \
                   spec.workloadSelector.matchLabels: is empty: selects every workload of the namespace\n";
    let errors = "mesh/bad.yaml:7: document 2: VirtualService default/web: \
                  spec.http[0].retries.attempts: -1 is less than 0\n\
                  mesh/bad.yaml:7: document 2: VirtualService default/web: \
                  spec.http[0].route[0].wait: unknown field\n";
    for (arguments, input, code, printed) in [
        (&["-f", "good.yaml"][..], "", 0, String::new()),
        (&["-f", "mesh/warned.yml"], "", 0, warning.to_owned()),
        (&["-f", "mesh"], "", 1, format!("{errors}{warning}")),
        (&["--filename", "good.yaml", "--filename", "mesh/bad.yaml"], "", 1, errors.to_owned()),
        (
            &["-f", "-", "-o", "short"],
            BAD,
            1,
            errors.replace("mesh/bad.yaml:7: document 2", "-:1: document 1"),
        ),
        (&["-f", "-"], "", 0, String::new()),
        (&["-f", "-"], "a: [1", 1, "-:1: document 1: ".to_owned()),
        (&["-f", "nowhere.yaml"], "", 1, "nowhere.yaml: No such file or directory (os error 2)\n".to_owned()),
    ] {
        let (found, stdout) = validate(folder.path(), arguments, input)?;
        let fits = if printed.ends_with('\n') { stdout == printed } else { stdout.starts_with(&printed) };
        ensure!((found, fits) == (code, true), "{arguments:?} with {input:?}: {found}, {stdout}");
    }
    Ok(())
}

#[test]
fn validate_prints_findings_as_json() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let (code, printed) =
        validate(folder.path(), &["-f", "-", "-o", "json"], &format!("{WARNED}---\n{{kind: Gateway}}"))?;
    let listed: Value = serde_json::from_str(&printed)?;
    ensure!(code == 1, "{printed}");
    assert_eq!(
        listed,
        json!([
            {"severity": "warning", "file": "-", "line": 1, "document": 1, "item": null, "object": "DestinationRule shop/web",
                "field": "spec.workloadSelector.matchLabels", "message": "is empty: selects every workload of the namespace"},
            {"severity": "error", "file": "-", "line": 5, "document": 2, "item": null, "object": null,
                "field": "apiVersion", "message": "is missing"},
        ])
    );
    assert_eq!(validate(folder.path(), &["-f", "-", "-o", "json"], GOOD)?, (0, "[]\n".into()));
    Ok(())
}

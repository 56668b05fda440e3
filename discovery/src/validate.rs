//! `pilot-discovery validate`: validates manifests before they are applied.

use std::io::{self, Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use pilot_core::validate::Severity;
use serde_json::{Value, json};

use crate::config::args::ValidateArgs;
use crate::source::Problem;
use crate::source::file::check;

/// Path that means standard input.
const STDIN: &str = "-";

/// Prints the problems of the files. Fails if there is an error.
pub(crate) fn run(args: &ValidateArgs) -> ExitCode {
    let problems: Vec<Problem> = args.filename.iter().flat_map(look).collect();
    let has_error = problems.iter().any(|problem| problem.severity == Severity::Error);
    let printed = if args.output.as_deref() == Some("json") {
        json_lines(&problems)
    } else {
        problems.iter().fold(String::new(), |text, problem| text + &problem.to_string() + "\n")
    };
    // The reader may have closed the pipe (`| head`); the exit code is the same.
    let written = io::stdout().write_all(printed.as_bytes());
    if has_error || written.is_err() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}

fn look(path: &PathBuf) -> Vec<Problem> {
    if path != Path::new(STDIN) {
        return check::path(path);
    }
    let mut text = String::new();
    match io::stdin().read_to_string(&mut text) {
        Ok(_) => check::text(path, &text),
        Err(error) => vec![Problem::of_file(path, error.to_string())],
    }
}

/// Returns a JSON list.
fn json_lines(problems: &[Problem]) -> String {
    let listed: Vec<Value> = problems
        .iter()
        .map(|problem| {
            json!({
                "severity": match problem.severity { Severity::Error => "error", Severity::Warning => "warning" },
                "file": problem.file,
                "line": problem.line,
                "document": problem.document,
                "item": problem.item,
                "object": problem.object,
                "field": problem.field,
                "message": problem.message,
            })
        })
        .collect();
    format!("{:#}\n", Value::Array(listed))
}

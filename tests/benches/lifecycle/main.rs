//! Envoy's lifecycle under load, in figures: `cargo bench -p pilot-tests --bench lifecycle -- [PART...] [OPTION...]`.
//!
//! ```text
//! hot-restart   one revision after the other: failed requests, resets, spawn to LIVE    comparison: a bare start, hot-restarter.py
//! crash         kill -9 of Envoy: refused connections, time to serving                  comparison: a bare restart
//! shutdown      SIGTERM: failed requests, exit after the last request                   comparison: Istio's fixed sequence
//! resting       memory over minutes and restarts, CPU without load
//! exec          time from the agent's exec to Envoy's exec
//! ```
//!
//! One JSON object for each measurement goes to stdout, notes to stderr. Times are milliseconds. Figures are comparable within one
//! run only. There are no limits: the exit code is 0 when everything could be measured.

mod crash;
mod exec;
mod hot_restart;
mod plan;
mod report_json;
mod restarter;
mod resting;
mod shutdown;

use std::process::ExitCode;

use serde_json::{Value, json};

use self::plan::{LifecyclePlan, Part};

#[tokio::main]
async fn main() -> ExitCode {
    let plan = match LifecyclePlan::read(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("{error:#}\n\n{}", plan::USAGE);
            return ExitCode::from(64);
        }
    };
    let mut broken = 0;
    for part in &plan.parts {
        eprintln!("--- {}", part.name());
        let measured = match part {
            Part::HotRestart => hot_restart::measure(&plan).await,
            Part::Crash => crash::measure(&plan).await,
            Part::Shutdown => shutdown::measure(&plan).await,
            Part::Resting => resting::measure(&plan).await,
            Part::Exec => exec::measure(&plan).await,
        };
        for (who, figures) in measured {
            broken += u32::from(figures.is_err());
            print(part.name(), &who, figures);
        }
    }
    if broken == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints one line: part, subject, and the figures or the error.
fn print(part: &str, who: &str, figures: anyhow::Result<Value>) {
    let figures = figures.unwrap_or_else(|error| {
        eprintln!("{who}: {error:#}");
        let text = format!("{error:#}");
        json!({"error": text.lines().take(2).collect::<Vec<_>>().join(" ")})
    });
    let mut line = json!({"part": part, "who": who});
    if let (Some(line), Value::Object(figures)) = (line.as_object_mut(), figures) {
        line.extend(figures);
    }
    println!("{line}");
}

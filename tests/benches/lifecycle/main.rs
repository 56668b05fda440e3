//! Envoy's life under load, in figures: `cargo bench -p pilot-tests --bench lifecycle -- [PART...] [OPTION...]`.
//!
//! ```text
//! hot-restart   revisions one after the other: failed requests, resets, spawn to LIVE    beside: a bare start, hot-restarter.py
//! crash         kill -9 of Envoy: refused connections, time to serving                   beside: a bare respawn
//! shutdown      SIGTERM: failed requests, exit after the last request                    beside: Istio's fixed sequence
//! resting       memory over minutes and restarts, CPU without load
//! exec          the agent's exec to Envoy's exec
//! ```
//!
//! One JSON object per line and measurement goes to stdout; notes for people go to stderr. Times are milliseconds. Figures are
//! worth comparing within one run only. Nothing is judged here: the exit code is 0 when everything could be measured.

mod crash;
mod exec;
mod figures;
mod hot_restart;
mod peer;
mod plan;
mod resting;
mod shutdown;

use std::process::ExitCode;

use serde_json::{Value, json};

use self::plan::{Part, Plan};

#[tokio::main]
async fn main() -> ExitCode {
    let plan = match Plan::read(std::env::args().skip(1)) {
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

/// One line: what was measured, of whom, and the figures or the reason why there are none.
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

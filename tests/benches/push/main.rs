//! Cost of a push: `cargo bench -p pilot-tests --bench push -- [CASE...] [OPTION...]`.
//!
//! ```text
//! storm      all streams connect at once                until the last is configured      also: memory of an idle stream
//! full       every cluster and every assignment changes until the last has all of them    median of several
//! endpoint   one endpoint of one service moves          until the last has it             median of several
//! route      one cluster IP changes, thus one route     until the last has it             clients subscribe to LDS and RDS too
//! churn      100 endpoints move each second             each of them, until each client has it
//! reconnect  all streams are closed and reconnect without state
//! return     the same, with the versions of held resources: until the last has a change made meanwhile; delta
//! stopped    a tenth of the clients is stopped by SIGSTOP: `full` of the others, compared with the undisturbed case
//! ```
//!
//! One line of JSON for each measurement goes to stdout, a table to stderr. There are three processes: the server, the clients,
//! and this one. For each case the same clients also connect to a **floor**: a minimal server that broadcasts precomputed bytes
//! of the same sizes, one shared block for all streams; the table has the ratio of both. Figures are comparable within one run
//! only. There are no limits: the exit code is 0 when everything could be measured.
//!
//! `p50_ms`, `p99_ms` and `last_ms` count from the log line `push`, so without debounce and reading of files; `written_*` from
//! the write of the file. The floor has neither. `cpu_s` is the server's, user and system, including its work on ACKs.

mod cases;
mod floor;
mod plan;
mod row;
mod server;
mod stopped;

use std::process::ExitCode;

use self::plan::PushPlan;
use self::row::Row;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1).peekable();
    if arguments.peek().is_some_and(|first| first == floor::ARGUMENT) {
        return ended(floor::run(arguments.nth(1).as_deref()));
    }
    let plan = match PushPlan::read(arguments) {
        Ok(plan) => plan,
        Err(error) => {
            eprintln!("{error:#}\n\n{}", plan::USAGE);
            return ExitCode::from(64);
        }
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    ended(runtime.map_err(Into::into).and_then(|runtime| runtime.block_on(measure(&plan))))
}

async fn measure(plan: &PushPlan) -> anyhow::Result<()> {
    let mut broken = 0;
    let mut rows: Vec<Row> = Vec::new();
    for shape in &plan.shapes {
        eprintln!("--- {shape}");
        let measured = cases::measure(plan, shape).await.unwrap_or_else(|error| {
            broken += 1;
            eprintln!("{shape}: {error:#}");
            Vec::new()
        });
        rows.extend(measured);
    }
    eprint!("{}", row::table(&rows));
    anyhow::ensure!(broken == 0, "{broken} shapes could not be measured");
    Ok(())
}

fn ended(result: anyhow::Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("push: {error:#}");
            ExitCode::FAILURE
        }
    }
}

//! `pilot-discovery version`.

use std::process::ExitCode;

use crate::config::args::VersionArgs;

/// Version of this build.
pub(crate) const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Prints the version.
pub(crate) fn print(args: &VersionArgs) -> ExitCode {
    match args.output.as_deref() {
        Some(_) => println!("{}", serde_json::json!({"clientVersion": {"version": VERSION}})),
        None if args.short => println!("{VERSION}"),
        None => println!("version.BuildInfo{{Version:{VERSION:?}}}"),
    }
    ExitCode::SUCCESS
}

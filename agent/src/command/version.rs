//! `version`, in the shapes that Istio's `version` has.

use std::io::Write as _;

use serde_json::json;

use super::Failure;
use crate::cli::{VersionFlags, VersionFormat};

/// Prints the version.
pub(crate) fn run(flags: &VersionFlags) -> Result<(), Failure> {
    Ok(writeln!(std::io::stdout(), "{}", text(flags))?)
}

fn text(flags: &VersionFlags) -> String {
    let version = env!("CARGO_PKG_VERSION");
    match flags.output {
        Some(VersionFormat::Json) => format!("{:#}", json!({"clientVersion": {"version": version}})),
        Some(VersionFormat::Yaml) => format!("clientVersion:\n  version: {version}"),
        None if flags.short => version.to_owned(),
        None => format!("pilot-agent {version}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn programs_find_the_version_where_istio_has_it() {
        let json = text(&VersionFlags { short: false, output: Some(VersionFormat::Json) });
        let json: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(json["clientVersion"]["version"], env!("CARGO_PKG_VERSION"));
        let yaml = text(&VersionFlags { short: false, output: Some(VersionFormat::Yaml) });
        assert_eq!(serde_saphyr::from_str::<serde_json::Value>(&yaml).unwrap(), json);
        assert_eq!(text(&VersionFlags { short: true, output: None }), env!("CARGO_PKG_VERSION"));
    }
}

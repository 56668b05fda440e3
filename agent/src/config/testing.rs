//! A folder that plays the root of a container, and the configuration that comes of it.

use std::num::NonZeroU32;
use std::path::Path;

use clap::Parser as _;

use super::env::Environment;
use super::fault::Faults;
use super::{Config, ConfigInputs, Interfaces, Purpose, Root};
use crate::cgroup::Limits;
use crate::cli::{Cli, Command};

/// Loads the configuration of these flags of `bootstrap`, this environment and this folder.
pub(crate) fn load(
    flags: &[&str],
    environment: &Environment,
    root: &Path,
    purpose: Purpose,
) -> Result<Config, Faults> {
    let arguments = ["pilot-agent", "bootstrap"].iter().chain(flags);
    let cli = Cli::try_parse_from(arguments).unwrap();
    let Command::Bootstrap(flags) = cli.command else { unreachable!("bootstrap was asked for") };
    let inputs = ConfigInputs {
        flags: &flags.proxy,
        log: &cli.log,
        overrides: &flags.overrides,
        environment,
        root: &Root::new(root),
        limits: &Limits { cores: NonZeroU32::MIN, quota: None, memory: None },
        interfaces: &Interfaces::from([("eth0", &["10.9.9.9".parse().unwrap()][..])]),
    };
    Config::load(inputs, purpose)
}

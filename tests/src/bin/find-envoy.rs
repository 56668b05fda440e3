//! Prints the path of the real Envoy for scripts: found or fetched as in the tests.

use anyhow::Result;

fn main() -> Result<()> {
    println!("{}", pilot_tests::envoy::envoy()?.display());
    Ok(())
}

//! Prints where the real Envoy is, for scripts: found or fetched as the tests find it.

use anyhow::Result;

fn main() -> Result<()> {
    println!("{}", pilot_tests::envoy::envoy()?.display());
    Ok(())
}

//! Placeholder.
mod source;
fn main() {}

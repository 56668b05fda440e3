//! `pilot-agent`: entrypoint of the sidecar container.

fn main() {}

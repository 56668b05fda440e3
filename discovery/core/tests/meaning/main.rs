//! What users write, and what it means: calls in a mesh of manifests, each named for the rule that it proves.
//!
//! One module for each object of the API. A case is a rule, a call, and where the call ends: see `fixture/calls.rs`.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

#[path = "../fixture/mod.rs"]
mod fixture;
mod gateway;
mod sidecar;
mod virtual_service;
mod virtual_service_l4;

use std::fmt::Write as _;

use fixture::Client;

/// A rule, a call, and where the call ends.
type Case<'a> = (&'a str, &'a str, &'a str);

/// Every case, whatever became of those before it.
fn check(client: &Client, cases: &[Case<'_>]) {
    let mut wrong = String::new();
    for (rule, call, expected) in cases {
        let trace = client.ask(call);
        if trace.to_string() != *expected {
            writeln!(wrong, "{rule}\n   call {call}\n   want {expected}\n   have {trace}").unwrap();
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

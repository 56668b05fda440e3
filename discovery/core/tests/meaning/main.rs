//! Meaning of configuration: calls in a mesh of manifests, each named after the rule that it proves.
//!
//! One module for each object of the API, and for node metadata. A case is a rule, a call, and its expected destination: see
//! `table.rs`. Every module lists its tables, for the census.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::print_stdout,
    clippy::unwrap_used,
    reason = "helpers of tests fail as tests do"
)]

mod destination_rule;
mod envoy_filter;
#[path = "../fixture/mod.rs"]
mod fixture;
mod gateway;
mod mesh_config;
mod proxy;
mod service_entry;
mod sidecar;
mod table;
mod virtual_service;
mod workload;

/// Tables of cases; each is a test of its own too.
type Tables = &'static [fn()];

/// All tables, by subject.
const OBJECTS: [(&str, &[Tables]); 9] = [
    ("DestinationRule", destination_rule::TABLES),
    ("EnvoyFilter", envoy_filter::TABLES),
    ("Gateway", gateway::TABLES),
    ("MeshConfig", &[mesh_config::TABLES]),
    ("proxies", &[proxy::TABLES]),
    ("ServiceEntry", service_entry::TABLES),
    ("Sidecar", sidecar::TABLES),
    ("VirtualService", virtual_service::TABLES),
    ("WorkloadEntry, pods", &[workload::TABLES]),
];

#[test]
fn three_hundred_rules_are_proved_and_no_two_have_one_name() {
    let (mut all, mut twice) = (0, Vec::new());
    drop(table::checked());
    for (object, modules) in OBJECTS {
        for table in modules.iter().copied().flatten() {
            table();
        }
        let mut rules = table::checked();
        println!("{object:20} {:4}", rules.len());
        all += rules.len();
        rules.sort();
        let same = rules.windows(2).filter(|pair| pair[0] == pair[1]);
        twice.extend(same.map(|pair| format!("{object}: {}", pair[0])));
    }
    println!("{:20} {all:4}", "together");
    assert_eq!(twice, Vec::<String>::new());
    assert!(all >= 300, "{all}");
}

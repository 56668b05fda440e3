//! Locality load balancing.

use pilot_core::model::{Endpoint, Locality};

use super::*;

pub(super) const TABLES: Tables = &[failover, distribute, failover_priority, mesh_and_rule, zone_aware];

/// Service `b` in five localities.
fn everywhere() -> Declared {
    let at = |text: &'static str| move |it: &mut Endpoint| it.locality = Locality::parse(text);
    kubernetes("b.default")
        .port("http", 80)
        .vip("10.0.0.2")
        .endpoint("10.1.0.1", at("r1/z1/s1"))
        .endpoint("10.1.0.2", at("r1/z1/s2"))
        .endpoint("10.1.0.3", at("r1/z2/s1"))
        .endpoint("10.1.0.4", at("r2/z1/s1"))
        .endpoint("10.1.0.5", at("r3/z1/s1"))
}

/// Returns a client in `r1/z1/s1` with this policy for `b` and this mesh configuration.
fn near(policy: &str, mesh: &str) -> Client {
    let rule = object("DestinationRule", "b", &format!("host: b\ntrafficPolicy: {{{policy}}}"));
    let mut proxy = sidecar("10.9.0.1", "default");
    proxy.locality = Locality::parse("r1/z1/s1");
    Mesh::of([everywhere()], &rule).config(mesh).proxy(proxy)
}

/// Formats the priorities: for each, the last numbers of addresses and the weights of their localities.
fn order(client: &Client) -> String {
    let trace = client.ask("http://b/");
    let mut groups: std::collections::BTreeMap<u32, Vec<String>> = std::collections::BTreeMap::new();
    for endpoint in trace.shares()[0].upstream.endpoints() {
        let last = endpoint.address.trim_start_matches("10.1.0.").trim_end_matches(":80").to_owned();
        let share = endpoint.locality_weight.filter(|share| *share != 1);
        let share = share.map(|share| format!("={share}")).unwrap_or_default();
        groups.entry(endpoint.priority).or_default().push(last + &share);
    }
    groups.into_values().map(|group| group.join(" ")).collect::<Vec<_>>().join(", then ")
}

const OUTLIERS: &str = "outlierDetection: {consecutive5xxErrors: 5}";

#[test]
fn failover() {
    check_found(
        |said| order(&near(said, "{}")),
        &[
            ("who cannot tell that endpoints are bad takes all alike", "tls: {mode: DISABLE}", "1 2 3 4 5"),
            (
                "who can tell goes to his sub-zone, zone, region and then elsewhere",
                OUTLIERS,
                "1, then 2, then 3, then 4 5",
            ),
            (
                "the region that takes over comes before others",
                &format!(
                    "{OUTLIERS}, loadBalancer: {{localityLbSetting: {{failover: [{{from: r1, to: r2}}]}}}}"
                ),
                "1, then 2, then 3, then 4, then 5",
            ),
            (
                "what takes over for another region does not for this",
                &format!(
                    "{OUTLIERS}, loadBalancer: {{localityLbSetting: {{failover: [{{from: r2, to: r3}}]}}}}"
                ),
                "1, then 2, then 3, then 4 5",
            ),
            (
                "a rule may turn off what is near",
                &format!("{OUTLIERS}, loadBalancer: {{localityLbSetting: {{enabled: false}}}}"),
                "1 2 3 4 5",
            ),
        ],
    );
}

#[test]
fn distribute() {
    let share = |from: &str, to: &str| {
        format!("loadBalancer: {{localityLbSetting: {{distribute: [{{from: {from}, to: {to}}}]}}}}")
    };
    check_found(
        |said| order(&near(said, "{}")),
        &[
            (
                "places get shares, and those that are not named nothing",
                &share("r1/z1/*", "{'r1/z1/*': 70, 'r2/*': 30}"),
                "1=35 2=35 4=30",
            ),
            (
                "a share is divided, and rounded up",
                &share("r1/*", "{'r1/*': 80, 'r2/*': 20}"),
                "1=27 2=27 3=27 4=20",
            ),
            ("shares from elsewhere are not for this client", &share("r2/*", "{'r2/*': 100}"), "1 2 3 4 5"),
            ("shares of `*` are for clients everywhere", &share("'*'", "{'r3/*': 100}"), "5=100"),
        ],
    );
}

#[test]
fn failover_priority() {
    let by = |labels: &str| {
        format!("{OUTLIERS}, loadBalancer: {{localityLbSetting: {{failoverPriority: [{labels}]}}}}")
    };
    check_found(
        |said| order(&near(said, "{}")),
        &[
            (
                "who has more labels in common comes first",
                &by("topology.kubernetes.io/region, topology.kubernetes.io/zone"),
                "1 2, then 3, then 4 5",
            ),
            ("labels may be asked for by value", &by("topology.kubernetes.io/region=r3"), "5, then 1 2 3 4"),
            (
                "labels do not count before outliers are detected",
                "loadBalancer: {localityLbSetting: {failoverPriority: [topology.kubernetes.io/region]}}",
                "1 2 3 4 5",
            ),
        ],
    );
}

#[test]
fn mesh_and_rule() {
    check_found(
        |mesh| order(&near(OUTLIERS, mesh)),
        &[
            ("the mesh may turn off what is near", "localityLbSetting: {enabled: false}", "1 2 3 4 5"),
            (
                "the mesh may say which region takes over",
                "localityLbSetting: {failover: [{from: r1, to: r3}]}",
                "1, then 2, then 3, then 5, then 4",
            ),
            (
                "the mesh may give shares",
                "localityLbSetting: {distribute: [{from: '*', to: {'r1/z1/*': 100}}]}",
                "1=50 2=50",
            ),
        ],
    );
    let own =
        format!("{OUTLIERS}, loadBalancer: {{localityLbSetting: {{failover: [{{from: r1, to: r2}}]}}}}");
    check_found(
        |mesh| order(&near(&own, mesh)),
        &[(
            "the rule wins over the mesh",
            "localityLbSetting: {enabled: false}",
            "1, then 2, then 3, then 4, then 5",
        )],
    );
}

#[test]
fn zone_aware() {
    check_each(
        Look::Settings("near zones"),
        "http://b/",
        |said| near(&format!("loadBalancer: {{zoneAwareLbSetting: {said}}}"), "{}"),
        &[
            ("near zones come first as far as they suffice", "{}", "near zones first"),
            (
                "near zones come first from so many endpoints on",
                "{minClusterSize: 9}",
                "near zones first from 9 endpoints",
            ),
            ("a rule may turn zones off", "{enabled: false}", ""),
        ],
    );
}

//! Endpoints and the resulting localities of an assignment.

#![allow(clippy::needless_pass_by_value, reason = "values of a table are written where they are used")]

mod networks;

use std::collections::BTreeSet;

use pilot_proto::envoy::config::core::v3::address::Address;
use pilot_proto::envoy::config::endpoint::v3::{LbEndpoint, lb_endpoint::HostIdentifier};
use serde_json::{Value, json};

use super::*;
use crate::api::destination_rule::TrafficPolicy;
use crate::generate::IpFamilies;
use crate::generate::traffic_policy::{MergedTrafficPolicy, MeshPolicy};
use crate::model::{Labels, TlsMode};
use crate::push::Rule;

/// `address labels`, for example `10.0.0.1 app=web,version=v1`.
fn endpoint(text: &str, place: &str) -> Endpoint {
    let (address, labels) = text.split_once(' ').unwrap_or((text, ""));
    Endpoint {
        address: EndpointAddress::Ip(address.parse().unwrap()),
        port: 80,
        port_name: "http".into(),
        labels: pairs(labels),
        service_account: "".into(),
        network: "".into(),
        locality: Locality::parse(place),
        weight: 1,
        health: Health::Healthy,
        tls_mode: TlsMode::Disabled,
        namespace: "".into(),
        workload: "".into(),
        node: "".into(),
    }
}

fn pairs(text: &str) -> Labels {
    let pair = |pair: &str| pair.split_once('=').map(|(key, value)| (key.to_owned(), value.to_owned()));
    text.split(',').filter_map(pair).collect::<Map>().into()
}

fn selection(endpoints: Vec<Endpoint>) -> EndpointSelection {
    EndpointSelection {
        cluster: None,
        service: "web.shop".into(),
        endpoints: Arc::<[Endpoint]>::from(endpoints).into(),
        port_name: "http".into(),
        labels: Map::new(),
        node: None,
        unhealthy: UnhealthyEndpoints::Included,
        tls_mode_metadata: TlsModeMetadata::Included,
        locality_priority: None,
        networks: None,
    }
}

/// `priority place weight: address*weight ...` of every group.
fn rendered(selection: EndpointSelection) -> Vec<String> {
    let (assignment, _) =
        assignment(&AssignmentInputs { cluster: "outbound|80||web.shop".into(), selection: Some(selection) });
    let group = |group: &LocalityLbEndpoints| {
        let place = group.locality.as_ref().unwrap();
        let locality = Locality {
            region: place.region.as_str().into(),
            zone: place.zone.as_str().into(),
            sub_zone: place.sub_zone.as_str().into(),
        };
        let hosts: Vec<String> = group.lb_endpoints.iter().map(lb_endpoint).collect();
        let weight = group.load_balancing_weight.unwrap().value;
        format!("{} {locality} {weight}: {}", group.priority, hosts.join(" "))
    };
    assignment.endpoints.iter().map(group).collect()
}

fn lb_endpoint(host: &LbEndpoint) -> String {
    let Some(HostIdentifier::Endpoint(endpoint)) = &host.host_identifier else { panic!("{host:?}") };
    let Some(Address::SocketAddress(socket)) = &endpoint.address.as_ref().unwrap().address else { panic!() };
    let mut text = socket.address.clone();
    match host.load_balancing_weight.unwrap().value {
        1 => {}
        weight => text = format!("{text}*{weight}"),
    }
    if host
        .metadata
        .as_ref()
        .is_some_and(|it| it.filter_metadata.contains_key("envoy.transport_socket_match"))
    {
        text += "+tls";
    }
    text
}

/// Evaluates the locality load balancing of a policy for a client.
fn locality_priority(policy: &Value, client: &ClientLocality) -> Option<LocalityPriority> {
    let rule = Rule {
        host: "web.shop".into(),
        namespace: "shop".into(),
        selector: Map::new(),
        traffic_policy: Some(serde_json::from_value::<TrafficPolicy>(policy.clone()).unwrap()),
        subsets: Vec::new(),
        export_to: BTreeSet::new(),
        duplicate_subsets: Vec::new(),
        sources: Vec::new(),
    };
    let mesh = MeshPolicy::of(&pilot_proto::mesh::MeshConfig::default());
    LocalityPriority::of(&MergedTrafficPolicy::of(Some(&rule), None, 80, &mesh.into()), client)
}

/// Checks the assignment of a client with a locality and labels, for one endpoint per locality, from 10.0.0.1 on.
#[expect(clippy::needless_pass_by_value, reason = "tables are written in place")]
fn check(rule: &str, lb: Value, client: (&str, &str), endpoints: &[(&str, &str)], expected: &[&str]) {
    let policy = json!({"loadBalancer": lb, "outlierDetection": {}});
    let vantage = ClientLocality {
        locality: Locality::parse(client.0),
        labels: pairs(client.1),
        network: "n1".into(),
        ..ClientLocality::default()
    };
    let number = |(at, (place, labels)): (usize, &(&str, &str))| {
        endpoint(&format!("10.0.0.{} {labels}", at + 1), place)
    };
    let endpoints = endpoints.iter().enumerate().map(number).collect();
    let lines = rendered(EndpointSelection {
        locality_priority: locality_priority(&policy, &vantage),
        ..selection(endpoints)
    });
    let short: Vec<String> = lines.iter().map(|line| line.replace("10.0.0.", ".")).collect();
    assert_eq!(short, expected, "{rule}");
}

const EVERYWHERE: [(&str, &str); 5] =
    [("r1/z1/s1", ""), ("r1/z1/s2", ""), ("r1/z2/s1", ""), ("r2/z1/s1", ""), ("r3/z1/s1", "")];

#[test]
fn outlier_detection_enables_locality_priorities() {
    let ordered =
        ["0 r1/z1/s1 1: .1", "1 r1/z1/s2 1: .2", "2 r1/z2/s1 1: .3", "3 r2/z1/s1 1: .4", "3 r3/z1/s1 1: .5"];
    check("default", json!({}), ("r1/z1/s1", ""), &EVERYWHERE, &ordered);
    let sparse =
        ["1 r1/z1/s1 1: .1", "1 r1/z1/s2 1: .2", "1 r1/z2/s1 1: .3", "1 r2/z1/s1 1: .4", "0 r3/z1/s1 1: .5"];
    check("priorities have no gaps", json!({}), ("r3/z1/s1", ""), &EVERYWHERE, &sparse);
    let off = json!({"localityLbSetting": {"enabled": false}});
    let alike =
        ["0 r1/z1/s1 1: .1", "0 r1/z1/s2 1: .2", "0 r1/z2/s1 1: .3", "0 r2/z1/s1 1: .4", "0 r3/z1/s1 1: .5"];
    check("turned off", off, ("r1/z1/s1", ""), &EVERYWHERE, &alike);
    let blind = locality_priority(
        &json!({}),
        &ClientLocality { locality: Locality::parse("r1"), ..ClientLocality::default() },
    );
    assert_eq!(blind, None, "whoever does not see what is bad leaves nobody");
}

#[test]
fn failover_region_precedes_other_regions() {
    let failover =
        json!({"localityLbSetting": {"failover": [{"from": "r1", "to": "r3"}, {"from": "r2", "to": "r1"}]}});
    let ordered =
        ["0 r1/z1/s1 1: .1", "1 r1/z1/s2 1: .2", "2 r1/z2/s1 1: .3", "4 r2/z1/s1 1: .4", "3 r3/z1/s1 1: .5"];
    check("failover", failover, ("r1/z1/s1", ""), &EVERYWHERE, &ordered);
}

#[test]
fn distribute_sets_locality_weights() {
    let distribute = |to: Value| {
        json!({"localityLbSetting": {"distribute": [
            {"from": "r9/*", "to": {"r2/*": 100}}, {"from": "r1/z1/*", "to": to},
        ]}})
    };
    for (rule, to, expected) in [
        ("one place", json!({"r1/z1/s1": 100}), vec!["0 r1/z1/s1 100: .1"]),
        (
            "a share is divided, and rounded up",
            json!({"r1/z1/*": 75, "r2/*": 25}),
            vec!["0 r1/z1/s1 38: .1", "0 r1/z1/s2 38: .2", "0 r2/z1/s1 25: .4"],
        ),
        ("zones may be left out", json!({"r3": 1}), vec!["0 r3/z1/s1 1: .5"]),
    ] {
        check(rule, distribute(to), ("r1/z1/s1", ""), &EVERYWHERE, &expected);
    }
    let elsewhere = distribute(json!({"r1/*": 100}));
    let client = ClientLocality { locality: Locality::parse("r5/z1"), ..ClientLocality::default() };
    assert_eq!(
        locality_priority(&json!({"loadBalancer": elsewhere}), &client),
        None,
        "a rule for other clients"
    );
}

#[test]
fn failover_priority_ranks_by_labels() {
    let by = |labels: &[&str]| json!({"localityLbSetting": {"failoverPriority": labels}});
    let pods = [("r1", "rack=1,row=1"), ("r1", "rack=1,row=2"), ("r2", "rack=2,row=1"), ("r2", "")];
    for (rule, labels, client, expected) in [
        (
            "the first label counts most",
            &["rack", "row"][..],
            "rack=1,row=1",
            vec!["0 r1 1: .1", "1 r1 1: .2", "2 r2 2: .3 .4"],
        ),
        (
            "a value that is not the client's",
            &["rack=2"],
            "rack=1",
            vec!["1 r1 2: .1 .2", "0 r2 1: .3", "1 r2 1: .4"],
        ),
        (
            "the region is a label",
            &["topology.kubernetes.io/region"],
            "",
            vec!["0 r1 2: .1 .2", "1 r2 2: .3 .4"],
        ),
        ("nobody has it", &["floor"], "rack=1", vec!["0 r1 2: .1 .2", "0 r2 2: .3 .4"]),
    ] {
        check(rule, by(labels), ("r1", client), &pods, &expected);
    }
    let mut both = by(&["rack"]);
    both["localityLbSetting"]["failover"] = json!([{"from": "r1", "to": "r2"}]);
    let then = ["0 r1 2: .1 .2", "1 r2 2: .3 .4"];
    check("regions count among those with equal labels", both, ("r1", "rack=1"), &pods, &then);
}

#[test]
fn failover_priority_ranks_other_networks_last() {
    let labels = json!(["topology.istio.io/network", "rack"]);
    let by_network = json!({"localityLbSetting": {"failoverPriority": labels}});
    let label = |network: &str, rack: &str| format!("topology.istio.io/network={network},rack={rack}");
    let (a, b, c, d) = (label("n1", "1"), label("n1", "2"), label("n2", "1"), label("n2", "2"));
    let pods = [("r1", &*a), ("r1", &*b), ("r1", &*c), ("r1", &*d)];
    let expected = ["0 r1 1: .1", "1 r1 1: .2", "2 r1 1: .3", "3 r1 1: .4"];
    check("network first", by_network, ("r1", "rack=1"), &pods, &expected);
}

#[test]
fn zone_aware_lb_sets_priorities_by_region_only() {
    let zone = json!({"zoneAwareLbSetting": {"failover": [{"from": "r1", "to": "r3"}]}});
    let ordered =
        ["0 r1/z1/s1 1: .1", "0 r1/z1/s2 1: .2", "0 r1/z2/s1 1: .3", "2 r2/z1/s1 1: .4", "1 r3/z1/s1 1: .5"];
    check("zoneAwareLbSetting", zone, ("r1/z1/s1", ""), &EVERYWHERE, &ordered);
}

#[test]
fn subset_selects_endpoints_by_labels() {
    let mut far = endpoint("10.0.0.3 version=v1", "r2");
    far.node = "n7".into();
    let all = vec![endpoint("10.0.0.1 app=web,version=v1", "r1"), endpoint("10.0.0.2 version=v2", "r1"), far];
    for (labels, expected) in [
        ("", vec!["0 r1 2: 10.0.0.1 10.0.0.2", "0 r2 1: 10.0.0.3"]),
        ("version=v1", vec!["0 r1 1: 10.0.0.1", "0 r2 1: 10.0.0.3"]),
        ("version=v1,app=web", vec!["0 r1 1: 10.0.0.1"]),
        ("version=v3", vec![]),
        ("topology.kubernetes.io/region=r2", vec!["0 r2 1: 10.0.0.3"]),
        ("kubernetes.io/hostname=n7", vec!["0 r2 1: 10.0.0.3"]),
    ] {
        let labels = (*pairs(labels)).clone();
        assert_eq!(
            rendered(EndpointSelection { labels: labels.clone(), ..selection(all.clone()) }),
            expected,
            "{labels:?}"
        );
    }
}

#[test]
fn unhealthy_endpoints_are_sent_unless_excluded() {
    let with = |address: &str, health| Endpoint { health, ..endpoint(address, "r1") };
    let all = vec![
        with("10.0.0.1", Health::Healthy),
        with("10.0.0.2", Health::Unhealthy),
        with("10.0.0.3", Health::Draining),
        with("10.0.0.4", Health::Terminating),
    ];
    for (unhealthy, expected) in [
        (UnhealthyEndpoints::Included, "0 r1 2: 10.0.0.1 10.0.0.2"),
        (UnhealthyEndpoints::Excluded, "0 r1 1: 10.0.0.1"),
    ] {
        assert_eq!(
            rendered(EndpointSelection { unhealthy, ..selection(all.clone()) }),
            [expected],
            "{unhealthy:?}"
        );
    }
}

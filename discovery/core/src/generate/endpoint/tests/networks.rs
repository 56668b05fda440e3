//! Networks and their gateways.

use super::*;

fn in_network(address: &str, network: &str, tls_mode: TlsMode) -> Endpoint {
    Endpoint { network: network.into(), tls_mode, ..endpoint(address, "r1") }
}

#[test]
fn mutual_tls_endpoints_have_tls_mode_metadata_unless_omitted() {
    let all = vec![in_network("10.0.0.1", "", TlsMode::Istio), in_network("10.0.0.2", "", TlsMode::Disabled)];
    for (tls_mode_metadata, expected) in [
        (TlsModeMetadata::Included, "0 r1 2: 10.0.0.1+tls 10.0.0.2"),
        (TlsModeMetadata::Omitted, "0 r1 2: 10.0.0.1 10.0.0.2"),
    ] {
        assert_eq!(
            rendered(EndpointSelection { tls_mode_metadata, ..selection(all.clone()) }),
            [expected],
            "{tls_mode_metadata:?}"
        );
    }
}

#[test]
fn network_gateways_replace_endpoints_of_other_networks() {
    let all = vec![
        in_network("10.0.0.1", "", TlsMode::Istio),
        in_network("10.0.0.2", "n1", TlsMode::Istio),
        in_network("10.0.0.3", "n2", TlsMode::Istio),
        in_network("10.0.0.4", "n2", TlsMode::Istio),
        in_network("10.0.0.5", "n2", TlsMode::Disabled),
        in_network("10.0.0.6", "n3", TlsMode::Istio),
        in_network("10.0.0.7", "n4", TlsMode::Istio),
    ];
    let gateway = |network: &str, address: &str| NetworkGateway {
        network: network.into(),
        address: EndpointAddress::Ip(address.parse().unwrap()),
        port: 15443,
    };
    let gateways: Arc<NetworkGateways> = Arc::new(
        [
            gateway("n2", "20.0.2.1"),
            gateway("n2", "20.0.2.2"),
            gateway("n3", "20.0.3.1"),
            gateway("n3", "20.0.3.2"),
            gateway("n3", "20.0.3.3"),
            gateway("n1", "20.0.1.1"),
        ]
        .into_iter()
        .collect(),
    );
    let rendered = |client_network: &str,
                    requested: Option<&[&str]>,
                    families,
                    gateways: &Arc<NetworkGateways>,
                    tls_mode_metadata| {
        let requested =
            requested.map(|networks| networks.iter().map(|&network| network.to_owned()).collect());
        let networks = NetworkView {
            client_network: client_network.into(),
            requested,
            families,
            gateways: gateways.clone(),
        };
        rendered(EndpointSelection {
            networks: Some(networks.into()),
            tls_mode_metadata,
            ..selection(all.clone())
        })
    };
    let marked = TlsModeMetadata::Included;
    assert_eq!(
        rendered("n1", None, IpFamilies::V4, &gateways, marked),
        // Weights are multiples of 6: two endpoints are behind two gateways, one is behind three, one is directly reachable.
        [
            "0 r1 36: 10.0.0.1*6+tls 10.0.0.2*6+tls 10.0.0.7*6+tls 20.0.2.1*6+tls 20.0.2.2*6+tls 20.0.3.1*2+tls 20.0.3.2*2+tls 20.0.3.3*2+tls"
        ],
        "from network n1"
    );
    assert_eq!(
        rendered("n2", Some(&["n2", "n3"]), IpFamilies::V4, &gateways, marked),
        [
            "0 r1 30: 10.0.0.1*6+tls 10.0.0.3*6+tls 10.0.0.4*6+tls 10.0.0.5*6 20.0.3.1*2+tls 20.0.3.2*2+tls 20.0.3.3*2+tls"
        ],
        "who wants to see two networks only"
    );
    assert_eq!(
        rendered("n1", Some(&["n2"]), IpFamilies::V6, &gateways, marked),
        ["0 r1 6: 10.0.0.1*6+tls"],
        "no gateway has an address of the client's family"
    );
    assert_eq!(
        rendered("n1", Some(&["n2"]), IpFamilies::V4, &gateways, TlsModeMetadata::Omitted),
        ["0 r1 6: 10.0.0.1*6"],
        "without mutual TLS no gateway knows where to go"
    );
    assert_eq!(
        rendered("", Some(&["n1"]), IpFamilies::V4, &gateways, marked),
        ["0 r1 12: 10.0.0.1*6+tls 20.0.1.1*6+tls"],
        "a client that does not know its network takes the gateway"
    );
    let none: Arc<NetworkGateways> = Arc::new([].into_iter().collect());
    assert_eq!(
        rendered("n1", Some(&["n3"]), IpFamilies::V4, &none, marked),
        ["0 r1 2: 10.0.0.1+tls 10.0.0.6+tls"],
        "without gateways everybody reaches everybody"
    );
}

#[test]
fn network_follows_address_range_without_a_label() {
    let mesh_networks = json!({"networks": {
        "n1": {"endpoints": [{"fromCidr": "10.0.0.0/24"}], "gateways": [{"address": "20.0.1.1", "port": 15443}]},
        "n2": {
            "endpoints": [{"fromCidr": "10.0.0.128/25"}, {"fromRegistry": "east"}, {"fromCidr": "nonsense"}],
            "gateways": [
                {"address": "20.0.2.1", "port": 15443}, {"address": "gw.example.com", "port": 15443},
                {"registryServiceName": "gw", "port": 15443}, {"address": "20.0.2.2"},
            ],
        },
    }});
    let mesh_networks = pilot_proto::mesh::networks::MeshNetworks::from_value(mesh_networks).unwrap();
    let networks = NetworkView {
        client_network: "n1".into(),
        requested: None,
        families: IpFamilies::V4,
        gateways: NetworkGateways::of(&mesh_networks).into(),
    };
    let all = vec![
        in_network("10.0.0.1", "", TlsMode::Istio),
        in_network("10.0.0.129", "", TlsMode::Istio),
        in_network("10.0.0.130", "n1", TlsMode::Istio),
        in_network("10.9.0.1", "", TlsMode::Istio),
    ];
    // One of the gateways of n2 has a hostname, which only DNS clusters support.
    let expected = "0 r1 8: 10.0.0.1*2+tls 10.0.0.130*2+tls 10.9.0.1*2+tls 20.0.2.1*2+tls";
    assert_eq!(rendered(EndpointSelection { networks: Some(networks.into()), ..selection(all) }), [expected]);
}

use std::collections::BTreeMap;
use std::time::Duration;

use pilot_proto::envoy::config::core::v3::Node;
use pilot_proto::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use pilot_proto::google::protobuf::{Struct, Value, value};
use pilot_proto::google::rpc;
use prost::Message as _;
use tonic::Code;

use super::*;

const LIMITS: Limits = Limits {
    streams_per_connection: 1,
    streams_per_address: 1,
    opens_per_second: None,
    message: 4 << 20,
    names: 3,
    send: Duration::MAX,
};

fn sotw(request: DiscoveryRequest) -> Request {
    Request::Sotw(request)
}

fn names(count: usize) -> Vec<String> {
    (0..count).map(|number| number.to_string()).collect()
}

fn node(id: &str, metadata: &str) -> Node {
    let kind = Some(value::Kind::StringValue(metadata.to_owned()));
    let fields = BTreeMap::from([("A".to_owned(), Value { kind })]);
    Node { id: id.to_owned(), metadata: Some(Struct { fields }), ..Node::default() }
}

#[test]
fn too_much_of_anything_is_refused_with_the_name_of_its_field() {
    let long = "n".repeat(4097);
    let cases: [(Request, Option<&str>); 11] = [
        (sotw(DiscoveryRequest { resource_names: names(3), ..Default::default() }), None),
        (
            sotw(DiscoveryRequest { resource_names: names(4), ..Default::default() }),
            Some("resource_names: 4"),
        ),
        (
            sotw(DiscoveryRequest { resource_names: vec![long.clone()], ..Default::default() }),
            Some("resource_names: a name of 4097"),
        ),
        (sotw(DiscoveryRequest { type_url: long.clone(), ..Default::default() }), Some("type_url")),
        (sotw(DiscoveryRequest { node: Some(node(&long, "")), ..Default::default() }), Some("node.id")),
        (sotw(DiscoveryRequest { node: Some(node("a", &"x".repeat(200_000))), ..Default::default() }), None),
        (
            sotw(DiscoveryRequest { node: Some(node("a", &"x".repeat(300_000))), ..Default::default() }),
            Some("node.metadata: 300"),
        ),
        (
            Request::Delta(DeltaDiscoveryRequest {
                resource_names_subscribe: names(4),
                ..Default::default()
            }),
            Some("resource_names_subscribe"),
        ),
        (
            Request::Delta(DeltaDiscoveryRequest {
                resource_names_unsubscribe: names(4),
                ..Default::default()
            }),
            Some("resource_names_unsubscribe"),
        ),
        (
            Request::Delta(DeltaDiscoveryRequest {
                initial_resource_versions: BTreeMap::from([(long, String::new())]),
                ..Default::default()
            }),
            Some("initial_resource_versions"),
        ),
        (Request::Delta(DeltaDiscoveryRequest::default()), None),
    ];
    for (number, (mut request, refused)) in cases.into_iter().enumerate() {
        let status = request.check(&LIMITS).map_err(Status::from);
        match (status, refused) {
            (Ok(()), None) => {}
            (Err(status), Some(field)) => {
                assert_eq!(status.code(), Code::InvalidArgument);
                assert!(status.message().starts_with(field), "{number}: {}", status.message());
            }
            (status, refused) => panic!("{number}: {status:?}, not {refused:?}"),
        }
    }
}

#[test]
fn a_long_reason_is_cut_between_characters() {
    let message = "é".repeat(10_000);
    let error_detail = Some(rpc::Status { message, ..Default::default() });
    let mut request = sotw(DiscoveryRequest { error_detail, ..Default::default() });
    assert_eq!(request.check(&LIMITS), Ok(()));
    let Request::Sotw(DiscoveryRequest { error_detail: Some(error), .. }) = request else { panic!() };
    assert_eq!(error.message, "é".repeat(8192));
}

#[test]
fn a_stream_of_one_type_takes_it_named_or_not_and_no_other() {
    let restricted = |type_url: &str| {
        let mut request = sotw(DiscoveryRequest { type_url: type_url.to_owned(), ..Default::default() });
        request.restrict(ResourceType::Cluster).map(|()| match request {
            Request::Sotw(request) => request.type_url,
            Request::Delta(_) => unreachable!(),
        })
    };
    let cluster = ResourceType::Cluster.type_url().to_owned();
    assert_eq!(restricted(""), Ok(cluster.clone()));
    assert_eq!(restricted(&cluster), Ok(cluster));
    let refused = restricted(ResourceType::Route.type_url()).unwrap_err();
    assert_eq!(refused.reason(), "type_url");
    assert_eq!(Status::from(refused).code(), Code::InvalidArgument);
}

#[test]
fn metadata_that_nests_without_end_is_refused_before_it_is_a_value() {
    let mut bytes = Vec::new();
    // A list within a list: `Value { list_value { values { ... } } }`, two messages a level.
    for _ in 0..2000 {
        for key in [0x0a, 0x32] {
            let mut outer = vec![key];
            prost::encoding::encode_varint(bytes.len() as u64, &mut outer);
            outer.append(&mut bytes);
            bytes = outer;
        }
    }
    assert!(Value::decode(bytes.as_slice()).is_err());
}

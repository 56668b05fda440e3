//! The bytes of a response are those of the message.

use pilot_proto::envoy::config::core::v3::ControlPlane;
use pilot_proto::envoy::service::discovery::v3 as discovery;
use proptest::prelude::*;

use super::*;

fn response(codec: Codec, resources: Vec<Resource>, removed: &[&str]) -> Response {
    let mut stream = Stream::new(codec, "istiod-1".into());
    stream.on_delta_request(&delta_request(ResourceType::Cluster, "", &[], &[]));
    let mut response =
        stream.respond(ResourceType::Cluster, &"2026/7".into(), &ResourceMap::new(), Why::IfChanged).unwrap();
    response.resources = resources;
    response.removed = arcs(removed);
    response
}

fn body(resource: &Resource) -> Any {
    Any::decode(resource.body.clone()).unwrap()
}

fn named(name: &str, length: usize) -> Resource {
    let any = Any { type_url: "type.googleapis.com/test".into(), value: vec![7; length].into() };
    Resource { name: name.into(), version: format!("v{length}").into(), body: any.encode_to_vec().into() }
}

proptest! {
    // Lengths around the places where a varint grows.
    #[test]
    fn a_response_decodes_to_its_message(lengths in prop::collection::vec(prop_oneof![0..200_usize, 16_200..16_500_usize], 0..6)) {
        let resources: Vec<Resource> = lengths.iter().enumerate().map(|(i, length)| named(&format!("r{i}"), *length)).collect();
        let control_plane = Some(ControlPlane { identifier: "istiod-1".into() });
        let sotw = response(Codec::Sotw, resources.clone(), &[]);
        prop_assert_eq!(
            discovery::DiscoveryResponse::decode(sotw.encode().concat().as_slice()).unwrap(),
            discovery::DiscoveryResponse {
                version_info: "2026/7".into(),
                resources: resources.iter().map(body).collect(),
                type_url: ResourceType::Cluster.type_url().into(),
                nonce: sotw.nonce.as_str().into(),
                control_plane: control_plane.clone(),
                ..Default::default()
            }
        );
        let delta = response(Codec::Delta, resources.clone(), &["x", "y"]);
        prop_assert_eq!(
            discovery::DeltaDiscoveryResponse::decode(delta.encode().concat().as_slice()).unwrap(),
            discovery::DeltaDiscoveryResponse {
                system_version_info: "2026/7".into(),
                resources: resources.iter().map(|resource| discovery::Resource {
                    name: resource.name.to_string(),
                    version: resource.version.to_string(),
                    resource: Some(body(resource)),
                    ..Default::default()
                }).collect(),
                type_url: ResourceType::Cluster.type_url().into(),
                removed_resources: owned(&["x", "y"]),
                nonce: delta.nonce.as_str().into(),
                control_plane,
                ..Default::default()
            }
        );
    }
}

#[test]
fn streams_that_are_told_the_same_share_the_block_and_not_the_head() {
    let mut blocks = Blocks::new(8);
    let resources = vec![named("a", 3), named("b", 4)];
    let one = response(Codec::Delta, resources.clone(), &["gone"]);
    let other = Response { version: "v8".into(), removed: Vec::new(), ..one.clone() };
    let (first, second) = (blocks.encode(&one), blocks.encode(&other));
    assert_eq!((first.concat(), second.concat()), (one.encode().concat(), other.encode().concat()));
    assert_eq!(first[1].as_ptr(), second[1].as_ptr());
    assert_ne!(first[0], second[0]);
    // Other content, another variant or another type: another block.
    for different in [
        Response { resources: vec![named("a", 3)], ..one.clone() },
        Response { resources: vec![named("a", 3), named("b", 5)], ..one.clone() },
        Response { codec: Codec::Sotw, ..one.clone() },
    ] {
        assert_eq!(blocks.encode(&different).concat(), different.encode().concat());
    }
}

#[test]
fn blocks_are_bounded() {
    let mut blocks = Blocks::new(2);
    let responses: Vec<Response> =
        (0..5).map(|length| response(Codec::Sotw, vec![named("a", length)], &[])).collect();
    let first = blocks.encode(&responses[0]);
    for response in &responses {
        blocks.encode(response);
    }
    assert_ne!(first[1].as_ptr(), blocks.encode(&responses[0])[1].as_ptr());
}

#[test]
fn nonces_of_a_stream_differ() {
    let mut server = Server::new(Codec::Sotw).with(ResourceType::Route, "80=1");
    server.sotw(ResourceType::Route, "", &["80"]);
    let first = server.nonce(ResourceType::Route);
    server.names(ResourceType::Route, &["80"]);
    server.version -= 1;
    server.now(&[(ResourceType::Route, "80=2")]);
    assert_ne!(server.nonce(ResourceType::Route), first, "even of one snapshot");
}

//! The bytes of a response are those of the message.

use pilot_proto::envoy::config::core::v3::ControlPlane;
use pilot_proto::envoy::service::discovery::v3 as discovery;
use proptest::prelude::*;

use super::*;

fn response(codec: Codec, resources: Vec<Resource>, removed: &[&str]) -> Response {
    let removed = removed.iter().map(|name| Arc::from(*name)).collect();
    Response {
        kind: ResourceType::Cluster,
        version: "2026/7".into(),
        nonce: Nonce::new("2026/7", 3),
        control_plane: "istiod-1".into(),
        block: Arc::new(Block::new(codec, resources, removed)),
    }
}

fn body(resource: &Resource) -> Any {
    Any::decode(resource.body.clone()).unwrap()
}

fn named(name: &str, length: usize) -> Resource {
    let any = Any { type_url: "type.googleapis.com/test".into(), value: vec![7; length].into() };
    Resource::new(name.into(), format!("v{length}").into(), any.encode_to_vec().into())
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
    let pool = Arc::<StreamCache>::default();
    let world = set("a=1 b=1 c=1");
    let told = |version: &str, request: &DeltaDiscoveryRequest, offered: &ResourceSet| {
        let mut stream = Stream::new(Codec::Delta, "istiod-1".into()).with_cache(pool.clone());
        stream.on_delta_request(request);
        stream.respond(ResourceType::Cluster, &version.into(), offered, SendMode::Changed).unwrap().encode()
    };
    let wildcard = delta_request(ResourceType::Cluster, "", &[], &[]);
    let (first, second) = (told("v7", &wildcard, &world), told("v8", &wildcard, &set("c=1 b=1 a=1")));
    assert_eq!(first[1].as_ptr(), second[1].as_ptr());
    assert_ne!(first[0], second[0]);
    // Another world, another subscription, another past: another block.
    let past = DeltaDiscoveryRequest {
        initial_resource_versions: [("a".to_owned(), "1".to_owned())].into(),
        ..wildcard.clone()
    };
    for (request, offered) in [
        (&wildcard, set("a=1 b=1 c=2")),
        (&delta_request(ResourceType::Cluster, "", &["a", "b"], &[]), world.clone()),
        (&past, world.clone()),
    ] {
        assert_ne!(told("v7", request, &offered)[1], first[1]);
    }
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

//! The same over xDS: Istio's debug types, and client status discovery.

use crate::transport::Peer;
use pilot_proto::envoy::service::discovery::v3::{DeltaDiscoveryResponse, DiscoveryResponse};
use pilot_proto::envoy::service::status::v3::client_status_discovery_service_server::ClientStatusDiscoveryService as _;
use pilot_proto::envoy::service::status::v3::{
    ClientConfig, ClientStatusRequest, ClientStatusResponse, ConfigStatus,
};
use pilot_xds::Codec;
use prost::{Message as _, Name as _};
use tonic::{Code, Status};

use super::super::csds::Csds;
use super::super::xds::answer;
use super::*;
use crate::ads::{Client, DebugResponse};

const SYNCZ: &str = "istio.io/debug/syncz";
const CONFIG_DUMP: &str = "istio.io/debug/config_dump";

async fn question(
    state: &Arc<RunningState>,
    caller: &Client,
    url: &str,
    names: &[&str],
) -> Result<DebugResponse, Status> {
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    answer(state, caller, url, &names).await.unwrap_or_else(|| panic!("{url} is not a debug type"))
}

fn outsider(state: &RunningState) -> Arc<Client> {
    let proxy = join(state, "outsider", "default").proxy.clone();
    state.ads.hub.join(proxy, Some(ELSEWHERE.parse().unwrap()), "GRPC").0
}

#[tokio::test]
async fn debug_types_are_for_those_who_may() {
    let closed = state(DebugConfig::default());
    for url in [SYNCZ, CONFIG_DUMP, "istio.io/debug", "istio.io/debug/nope"] {
        let error = question(&closed, &outsider(&closed), url, &["syncz"]).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated, "{url}: {error}");
    }
    let open = state(DebugConfig { auth: Switch::Off, ..DebugConfig::default() });
    let nobody = outsider(&open);
    assert_eq!(question(&open, &nobody, SYNCZ, &[]).await.map(|answer| answer.resources.len()).ok(), Some(0));
    for other in [ResourceType::Cluster.type_url(), "", "istio.io/debugger", "istio.io/debug2/syncz"] {
        assert!(answer(&open, &nobody, other, &[]).await.is_none(), "{other}");
    }
}

#[tokio::test]
async fn syncz_lists_who_watches_something_and_says_who_answers() {
    let state = state(DebugConfig::default());
    let istioctl = join(&state, "istioctl", "default");
    for (pod, story) in
        [("a", &[Response, Ack][..]), ("b", &[Response]), ("c", &[Response, Nack]), ("d", &[])]
    {
        tell(&join(&state, pod, "shop"), story);
    }
    let answer = question(&state, &istioctl, SYNCZ, &[]).await.unwrap();
    let told: Vec<(String, ConfigStatus)> = answer
        .resources
        .iter()
        .map(|resource| {
            let any = resource.resource.as_ref().unwrap();
            assert_eq!(any.type_url, ClientConfig::type_url());
            let config = ClientConfig::decode(any.value.clone()).unwrap();
            let (node, line) = (config.node.unwrap(), &config.generic_xds_configs[0]);
            let metadata = node.metadata.unwrap();
            assert!(metadata.fields.contains_key("NAMESPACE"), "{metadata:?}");
            assert_eq!(
                line.error_state.as_ref().map(|error| error.details.as_str()),
                (node.id == "c.shop").then_some("no")
            );
            (node.id, line.config_status())
        })
        .collect();
    let expected = [
        ("a.shop", ConfigStatus::Synced),
        ("b.shop", ConfigStatus::Stale),
        ("c.shop", ConfigStatus::Error),
        ("d.shop", ConfigStatus::NotSent),
    ];
    assert_eq!(told, expected.map(|(name, status)| (name.to_owned(), status)));

    let message = answer.clone().encode(Codec::Sotw, SYNCZ, "v");
    let sotw = DiscoveryResponse::decode(message).unwrap();
    let who: Value = serde_json::from_str(&sotw.control_plane.unwrap().identifier).unwrap();
    assert_eq!((&who["Component"], &who["ID"]), (&json!("istiod"), &json!("istiod-1")));
    assert!(who["Info"]["version"].is_string(), "{who}");
    assert_eq!((sotw.type_url.as_str(), sotw.resources.len()), (SYNCZ, 4));
    let delta = DeltaDiscoveryResponse::decode(answer.encode(Codec::Delta, SYNCZ, "v")).unwrap();
    assert_eq!((delta.nonce.as_str(), delta.resources[0].name.as_str()), ("v", "a.shop"));
}

#[tokio::test]
async fn a_config_dump_has_envoys_parts() {
    let services = [service("web", "default", Resolution::ClientSideLb, &[])];
    let state = RunningState::with(mesh(&services), DebugConfig::default());
    let client = join(&state, "pod", "default");
    tell(&client, &[Response]);
    let answer = question(&state, &client, CONFIG_DUMP, &["pod.default"]).await.unwrap();
    let parts: Vec<&str> = answer
        .resources
        .iter()
        .map(|resource| resource.resource.as_ref().unwrap().type_url.rsplit('.').next().unwrap())
        .collect();
    let expected = [
        "BootstrapConfigDump",
        "ClustersConfigDump",
        "ListenersConfigDump",
        "ScopedRoutesConfigDump",
        "RoutesConfigDump",
        "SecretsConfigDump",
        "EcdsConfigDump",
    ];
    assert_eq!(parts, expected);
    let clusters = answer.resources[1].resource.as_ref().unwrap();
    assert!(String::from_utf8_lossy(&clusters.value).contains("outbound|80||web.example.com"));
    for names in [&["nobody.default"][..], &[], &["pod.default", "pod.default"]] {
        let answer = question(&state, &client, CONFIG_DUMP, names).await.unwrap();
        assert!(answer.resources.is_empty(), "{names:?}");
    }

    let page = get(&state, "config_dump?proxyID=pod.default&include_eds").await;
    assert_eq!(page["configs"].as_array().map(Vec::len), Some(8), "{page}");
    let bare = get(&state, "config_dump?proxyID=pod.default&types=cds").await;
    let url = bare["configs"][0]["@type"].as_str();
    assert_eq!(url, Some(ResourceType::Cluster.type_url()), "{bare}");
}

#[tokio::test]
async fn any_page_can_be_asked_for_by_its_path() {
    let state = state(DebugConfig { http: Switch::Off, ..DebugConfig::default() });
    let client = join(&state, "pod", "default");
    let answer = question(&state, &client, "istio.io/debug", &["connections?pretty"]).await.unwrap();
    let any = answer.resources[0].resource.as_ref().unwrap();
    assert_eq!(
        (answer.resources[0].name.as_str(), any.type_url.as_str()),
        ("connections?pretty", "istio.io/debug")
    );
    let page: Value = serde_json::from_slice(&any.value).unwrap();
    assert_eq!(page["totalClients"], 1);
    for names in [&[][..], &["syncz", "adsz"], &["a b"]] {
        let error = question(&state, &client, "istio.io/debug", names).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{names:?}: {error}");
    }
}

async fn status_of(
    state: &Arc<RunningState>,
    question: &Value,
    peer: &str,
) -> Result<ClientStatusResponse, Status> {
    let question: ClientStatusRequest = pilot_proto::proto3_json::from_value(question).unwrap();
    let mut request = tonic::Request::new(question);
    request.extensions_mut().insert(Arc::new(Peer::new(1, peer.parse().unwrap(), Vec::new())));
    Ok(Csds::new(state.clone()).fetch_client_status(request).await?.into_inner())
}

#[tokio::test]
async fn client_status_is_of_types_for_many_and_of_resources_for_a_few() {
    let services = [service("web", "default", Resolution::ClientSideLb, &[])];
    let state = RunningState::with(mesh(&services), DebugConfig::default());
    for number in 0..17 {
        tell(&join(&state, &format!("pod-{number}"), "default"), &[Response, Ack]);
    }
    let error = status_of(&state, &json!({}), ELSEWHERE).await.unwrap_err();
    assert_eq!(error.code(), Code::Unauthenticated, "{error}");
    let error = status_of(&state, &json!({}), HERE).await.unwrap_err();
    assert_eq!(error.code(), Code::ResourceExhausted, "{error}");
    let regex = json!({"node_matchers": [{"node_id": {"safe_regex": {"regex": "."}}}]});
    assert_eq!(status_of(&state, &regex, HERE).await.unwrap_err().code(), Code::InvalidArgument);

    let all = status_of(&state, &json!({"exclude_resource_contents": true}), HERE).await.unwrap();
    assert_eq!(all.config.len(), 17);
    let line = &all.config[0].generic_xds_configs[0];
    assert_eq!((line.config_status(), line.xds_config.is_some()), (ConfigStatus::Synced, false));

    let one = json!({"node_matchers": [{"node_id": {"contains": "~pod-3.default~"}}]});
    let one = status_of(&state, &one, HERE).await.unwrap();
    assert_eq!(one.config.len(), 1);
    let lines = &one.config[0].generic_xds_configs;
    let web = lines.iter().find(|line| line.name == "outbound|80||web.example.com").unwrap();
    assert!(!web.version_info.is_empty());
    assert_eq!(
        web.xds_config.as_ref().map(|any| any.type_url.as_str()),
        Some(ResourceType::Cluster.type_url())
    );
}

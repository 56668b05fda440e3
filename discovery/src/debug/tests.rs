//! Debug pages over a test hub: access and content.

mod xds;

use std::net::SocketAddr;
use std::time::Instant;

use axum::body::Body;
use axum::extract::ConnectInfo;
use axum::http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use pilot_core::model::{Change, ChangeKind, ConfigKey, ExportTo, Resolution, SourceEvent};
use pilot_core::push::{PushContext, PushRequest, Reason};
use pilot_core::world::World;
use pilot_proto::ResourceType;
use serde_json::{Value, json};
use tower::Service as _;

use super::testing::Said::{Ack, Nack, Response};
use super::testing::{join, mesh, service, tell};
use super::*;
use crate::ads::history;
use crate::config::debug::DebugConfig;
use crate::source::RegistryKind;
use crate::source::objects::{Decoded, Item, Object, decode};

const HERE: &str = "127.0.0.1:1000";
const ELSEWHERE: &str = "10.0.0.1:1000";

fn state(config: DebugConfig) -> Arc<RunningState> {
    RunningState::with(PushContext::default(), config)
}

async fn ask(state: &Arc<RunningState>, method: Method, path: &str, peer: &str) -> (StatusCode, String) {
    let peer: SocketAddr = peer.parse().unwrap();
    let request = Request::builder().method(method).uri(path).extension(ConnectInfo(peer));
    let mut router = routes(state).with_state(state.clone());
    let Ok(response) = router.call(request.body(Body::empty()).unwrap()).await;
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

async fn get(state: &Arc<RunningState>, page: &str) -> Value {
    let (status, text) = ask(state, Method::GET, &format!("/debug/{page}"), HERE).await;
    assert_eq!(status, StatusCode::OK, "{page}: {text}");
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("{page}: {error}: {text}"))
}

#[tokio::test]
async fn the_pages_are_for_loopback_unless_told_otherwise() {
    let (open, gone) = (
        DebugConfig { auth: Switch::Off, ..DebugConfig::default() },
        DebugConfig { http: Switch::Off, ..DebugConfig::default() },
    );
    for (config, peer, expected) in [
        (DebugConfig::default(), HERE, StatusCode::OK),
        (DebugConfig::default(), ELSEWHERE, StatusCode::UNAUTHORIZED),
        (open, ELSEWHERE, StatusCode::OK),
        (gone, HERE, StatusCode::NOT_FOUND),
    ] {
        let state = state(config);
        for page in ["/debug", "/debug/list", "/debug/syncz", "/debug/connections?pretty"] {
            let (status, text) = ask(&state, Method::GET, page, peer).await;
            assert_eq!(status, expected, "{page} from {peer}: {text}");
        }
    }
}

#[tokio::test]
async fn every_page_that_is_listed_is_there() {
    let state = state(DebugConfig::default());
    join(&state, "pod", "default");
    let pages: Vec<String> = serde_json::from_value(get(&state, "list").await).unwrap();
    assert!(!pages.is_empty() && pages.is_sorted(), "{pages:?}");
    for page in pages {
        let (status, text) =
            ask(&state, Method::GET, &format!("/debug/{page}?proxyID=pod.default"), HERE).await;
        assert_eq!(status, StatusCode::OK, "{page}: {text}");
    }
    for (page, expected) in [
        ("sidecarz", StatusCode::BAD_REQUEST),
        ("sidecarz?proxyID=", StatusCode::BAD_REQUEST),
        ("pushes?proxyID=nobody.default", StatusCode::NOT_FOUND),
        ("config_dump?proxyID=nobody.default", StatusCode::NOT_FOUND),
        ("nope", StatusCode::NOT_FOUND),
    ] {
        let (status, _) = ask(&state, Method::GET, &format!("/debug/{page}"), HERE).await;
        assert_eq!(status, expected, "{page}");
    }
}

#[tokio::test]
async fn json_is_a_line_unless_it_is_for_people() {
    let state = state(DebugConfig::default());
    let lines = async |page| ask(&state, Method::GET, page, HERE).await.1.lines().count();
    assert_eq!(lines("/debug/list").await, 1);
    assert_eq!(lines("/debug/list?pretty").await, names().len() + 2);
}

#[tokio::test]
async fn what_changes_something_is_posted() {
    let state = state(DebugConfig { admin: Switch::On, ..DebugConfig::default() });
    let client = join(&state, "pod", "default");
    let end = "/debug/force_disconnect?proxyID=pod.default";
    assert_eq!(ask(&state, Method::GET, end, HERE).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask(&state, Method::POST, end, ELSEWHERE).await.0, StatusCode::UNAUTHORIZED);
    assert!(!client.dismissed.is_cancelled());
    assert_eq!(ask(&state, Method::POST, end, HERE).await, (StatusCode::OK, "OK".to_owned()));
    assert!(client.dismissed.is_cancelled());

    let clear = "/debug/cachez?clear=true";
    assert_eq!(ask(&state, Method::GET, clear, HERE).await.0, StatusCode::METHOD_NOT_ALLOWED);
    assert_eq!(ask(&state, Method::POST, clear, HERE).await.0, StatusCode::OK);
    assert_eq!(ask(&state, Method::POST, "/debug/cachez", HERE).await.0, StatusCode::BAD_REQUEST);

    let tame = self::state(DebugConfig::default());
    join(&tame, "pod", "default");
    assert_eq!(ask(&tame, Method::POST, end, HERE).await.0, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn adsz_pushes_to_all_when_it_is_asked_to() {
    let state = state(DebugConfig::default());
    for pod in ["a", "b", "c"] {
        join(&state, pod, "default");
    }
    let (status, text) = ask(&state, Method::GET, "/debug/adsz?push=true", HERE).await;
    assert_eq!((status, text.as_str()), (StatusCode::OK, "Pushed to 3 servers\n"));
    assert_eq!(state.ads.hub.waiting(), 3);
}

#[tokio::test]
async fn the_cache_shows_what_it_holds_until_it_is_cleared() {
    let services = [service("web", "default", Resolution::ClientSideLb, &[])];
    let state = RunningState::with(mesh(&services), DebugConfig::default());
    let client = join(&state, "pod", "default");
    tell(&client, &[Response]);
    get(&state, "config_dump?proxyID=pod.default").await;
    let url = ResourceType::Cluster.type_url();
    let names = get(&state, "cachez").await;
    let held = |names: &Value| {
        names[url].as_array().is_some_and(|names| names.contains(&json!("outbound|80||web.example.com")))
    };
    assert!(held(&names), "{names}");
    let sizes = get(&state, "cachez?sizes=true").await;
    assert!(sizes[url].as_str().is_some_and(|size| size.ends_with('B') && size != "0B"), "{sizes}");
    ask(&state, Method::POST, "/debug/cachez?clear=true", HERE).await;
    assert!(!held(&get(&state, "cachez").await));
}

#[tokio::test]
async fn syncz_says_what_was_sent_and_what_was_made_of_it() {
    let state = state(DebugConfig::default());
    tell(&join(&state, "good", "shop"), &[Response, Ack]);
    tell(&join(&state, "bad", "bank"), &[Response, Ack, Response, Nack]);
    join(&state, "new", "shop");
    let all = get(&state, "syncz").await;
    let url = ResourceType::Cluster.type_url();
    assert_eq!(all.as_array().map(Vec::len), Some(3), "{all}");
    assert_eq!((&all[0]["proxy"], &all[0]["proxy_type"]), (&json!("good.shop"), &json!("sidecar")));
    assert!(all[0]["cluster_sent"].is_string() && all[0]["cluster_sent"] == all[0]["cluster_acked"], "{all}");
    assert_eq!(all[0]["resources"][url]["sent"], all[0]["cluster_sent"]);
    assert!(
        all[0]["resources"][url]["sentTime"].is_string()
            && all[0]["resources"][url].get("lastError").is_none()
    );
    assert_eq!(all[1]["resources"][url]["lastError"], "no");
    assert_ne!(all[1]["cluster_sent"], all[1]["cluster_acked"]);
    assert!(all[2].get("cluster_sent").is_none() && all[2].get("resources").is_none(), "{all}");

    let shop = get(&state, "syncz?namespace=shop").await;
    assert_eq!(shop.as_array().map(Vec::len), Some(2), "{shop}");
    let troubles = get(&state, "push_status").await;
    let trouble = &troubles["pilot_total_xds_rejects"]["cds/bad.bank-2"];
    assert_eq!(trouble, &json!({"proxy": "bad.bank", "message": "no"}), "{troubles}");
}

#[tokio::test]
async fn adsz_and_connections_have_istios_fields() {
    let state = state(DebugConfig::default());
    assert_eq!(get(&state, "connections").await, json!({"totalClients": 0}));
    tell(&join(&state, "pod", "default"), &[]);
    join(&state, "another", "default");
    let connections = get(&state, "connections").await;
    assert_eq!(connections["totalClients"], 2);
    let first = &connections["clients"][0];
    assert_eq!(
        (&first["connectionId"], &first["address"]),
        (&json!("pod.default-1"), &json!("127.0.0.1:40000"))
    );
    let adsz = get(&state, "adsz?proxyID=pod.default").await;
    assert_eq!(
        (&adsz["totalClients"], &adsz["clients"][0]["connectionId"]),
        (&json!(1), &json!("pod.default-1"))
    );
    assert_eq!(adsz["clients"][0]["watches"], json!({(ResourceType::Cluster.type_url()): []}));
    assert!(adsz["clients"][0]["connectedAt"].is_string(), "{adsz}");
}

#[tokio::test]
async fn sidecarz_says_what_is_seen_and_why_the_rest_is_not() {
    let private = [ExportTo::Private];
    let services = [
        service("web", "shop", Resolution::ClientSideLb, &[]),
        service("web", "bank", Resolution::ClientSideLb, &[]),
        service("vault", "bank", Resolution::ClientSideLb, &private),
        service("www", "shop", Resolution::Alias("web.example.com".into()), &[]),
    ];
    let state = RunningState::with(mesh(&services), DebugConfig::default());
    join(&state, "pod", "shop");
    let scope = get(&state, "sidecarz?proxyID=pod.shop").await;
    assert_eq!(scope["services"].as_array().map(Vec::len), Some(1), "{scope}");
    assert_eq!(scope["servicesByHostname"]["web.example.com"]["Attributes"]["Namespace"], "shop");
    let hidden: Vec<(&str, &str)> = scope["hidden"]
        .as_array()
        .unwrap()
        .iter()
        .map(|hidden| (hidden["hostname"].as_str().unwrap(), hidden["why"].as_str().unwrap()))
        .collect();
    assert_eq!(
        hidden,
        [
            ("vault.example.com", "exportTo does not include namespace shop"),
            ("web.example.com", "the declaration of the same host in namespace shop counts"),
            ("www.example.com", "is only another name for web.example.com"),
        ]
    );
    let instances = get(&state, "instancesz").await;
    assert_eq!(instances, json!({"pod.shop": []}));
    let shards = get(&state, "endpointShardz").await;
    assert_eq!(
        shards["web.example.com"]["bank"],
        json!({"Shards": {"External/Kubernetes": []}, "ServiceAccounts": {}})
    );
}

#[tokio::test]
async fn pushes_name_the_object_and_what_came_of_it() {
    let state = state(DebugConfig::default());
    let client = join(&state, "pod", "default");
    let key = |number: usize| ConfigKey {
        kind: ChangeKind::Service,
        namespace: "shop".into(),
        name: format!("web-{number:02}").into(),
    };
    let now = Instant::now();
    let request = PushRequest { start: Some(now), ..PushRequest::of((0..30).map(key), Reason::Service) };
    client.history.begin(&Arc::new(request), [ResourceType::Cluster, ResourceType::Listener], now);
    let response = history::Response {
        kind: ResourceType::Cluster,
        nonce: "n",
        resources: 3,
        removed: 1,
        bytes: 2048,
        generated: std::time::Duration::from_millis(5),
    };
    client.history.sent(&response, now);
    client.history.answered(ResourceType::Cluster, "n", history::Answer::Nack, now);
    client.history.sent(&history::Response { kind: ResourceType::Listener, nonce: "m", ..response }, now);
    let pushes = get(&state, "pushes?proxyID=pod.default").await;
    let push = &pushes[0];
    assert_eq!((&push["changed"], &push["reasons"]), (&json!(30), &json!({"service": 1})), "{pushes}");
    assert_eq!(
        (push["objects"].as_array().map(Vec::len), &push["objects"][0]),
        (Some(20), &json!("ServiceEntry/shop/web-00"))
    );
    assert!(push["event"].is_string() && push["started"].is_string(), "{pushes}");
    let first = json!({
        "type": "cds", "resources": 3, "removed": 1, "bytes": 2048, "generated": 0.005, "sent": 0.0, "answer": "NACK",
        "answered": 0.0,
    });
    assert_eq!(push["responses"][0], first);
    assert!(push["responses"][1].get("answer").is_none(), "{pushes}");
}

#[tokio::test]
async fn objects_are_shown_as_they_were_written_in_the_group_and_version_of_their_kind() {
    let written = [
        json!({"apiVersion": "telemetry.istio.io/v1alpha1", "kind": "Telemetry", "metadata": {"name": "a", "namespace": "b"},
            "spec": {"accessLogging": [{"disabled": false}]}}),
        json!({"apiVersion": "networking.istio.io/v1alpha3", "kind": "EnvoyFilter", "metadata": {"name": "a", "namespace": "b"},
            "spec": {"configPatches": [{"applyTo": "CLUSTER", "patch": {"operation": "MERGE", "value": {"a_b": [0, null, ""]}}}]}}),
        json!({"apiVersion": "networking.istio.io/v1beta1", "kind": "Gateway", "metadata": {"name": "a", "namespace": "b", "labels": {"x": ""}},
            "spec": {"servers": [{"port": {"number": 80, "name": "http", "protocol": "HTTP"}, "hosts": ["*"]}]}}),
    ];
    let source = RegistryKind::File.source_id();
    let mut world = World::new("cluster.local", [source.clone()]);
    for manifest in written.clone() {
        let Some(Item { decoded: Decoded::Object(object), .. }) = decode(manifest).pop() else {
            panic!("{written:?}")
        };
        let Object::Config(object) = object else { panic!("{object:?}") };
        world.apply(&source, SourceEvent::Change(Change::Config(object)));
    }
    let state = RunningState::with(PushContext::default().next(&world), DebugConfig::default());
    let shown = get(&state, "configz").await;
    let mut expected = written;
    for (manifest, version) in expected.iter_mut().zip([
        "telemetry.istio.io/v1",
        "networking.istio.io/v1alpha3",
        "networking.istio.io/v1",
    ]) {
        manifest["apiVersion"] = json!(version);
    }
    for manifest in &expected {
        assert!(shown.as_array().unwrap().contains(manifest), "{manifest:#}\nis not among {shown:#}");
    }
    let kinds = get(&state, "resourcesz").await;
    assert_eq!(kinds.as_array().unwrap().len(), 10);
    assert!(
        kinds
            .as_array()
            .unwrap()
            .contains(&json!({"group": "telemetry.istio.io", "version": "v1", "kind": "Telemetry"}))
    );
}

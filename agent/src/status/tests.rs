//! Who may ask what, without a socket.

use std::time::Instant;

use super::*;
use crate::config::level::LogFormat;
use crate::supervisor::{Epoch, Offer, Stage};

const POD: &str = "127.0.0.1:40000";
const DUAL_STACK_POD: &str = "[::ffff:127.0.0.1]:40000";
const NEIGHBOUR: &str = "10.1.2.3:40000";

/// A server beside an Envoy whose admin is gone: nothing listens on port 1.
fn server(stage: Stage) -> (StatusServer, mpsc::Receiver<Event>) {
    let phase = Phase { launch: 1, epoch: Some(Epoch::FIRST), stage, offer: Offer::Offered };
    let (requests, asked) = mpsc::channel(1);
    let admin = EnvoyAdmin::at("127.0.0.1:1".parse().unwrap());
    let counters = Arc::new(Counters::since(Instant::now()));
    let phases = watch::channel(phase).1;
    let envoy = (admin, Expected::ClustersAndListeners);
    (StatusServer::new(phases, requests, envoy, counters, Sink::start(LogFormat::Text).unwrap()), asked)
}

/// One request and what came of it: the answer and what the supervisor is told.
fn check(stage: Stage, method: Method, path: &str, peer: &str, expected: (u16, &str), told: Option<Event>) {
    let (server, mut asked) = server(stage);
    let request = Request::builder().method(method).uri(path).body(()).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (status, body) = runtime.block_on(async {
        let response = server.answer(&request, peer.parse().unwrap()).await;
        (response.status().as_u16(), response.into_body().collect().await.unwrap().to_bytes())
    });
    let body = String::from_utf8_lossy(&body);
    assert_eq!(status, expected.0, "{path} from {peer}: {body}");
    assert!(body.contains(expected.1), "{path} from {peer}: {body}");
    assert_eq!(asked.try_recv().ok(), told, "{path} from {peer}");
}

#[test]
fn only_the_pod_itself_may_end_or_drain_it_and_only_by_post() {
    for (path, event) in [("/quitquitquit", Event::Quit), ("/drain", Event::Withdraw)] {
        check(Stage::Running, Method::POST, path, POD, (200, "OK"), Some(event));
        check(Stage::Running, Method::POST, path, DUAL_STACK_POD, (200, "OK"), Some(event));
        check(Stage::Running, Method::POST, path, "[::1]:4000", (200, "OK"), Some(event));
        check(Stage::Running, Method::GET, path, POD, (405, "only POST"), None);
        check(Stage::Running, Method::POST, path, NEIGHBOUR, (403, "pod itself"), None);
    }
}

#[test]
fn readiness_is_anybodys_and_says_why_not() {
    let check = |stage, reason| check(stage, Method::GET, "/healthz/ready", NEIGHBOUR, (503, reason), None);
    check(Stage::Starting, "Envoy is starting");
    check(Stage::Running, "admin does not answer");
    check(Stage::BackingOff, "crashed");
    check(Stage::Draining, "terminating");
}

#[test]
fn our_own_metrics_are_there_when_envoys_are_not() {
    for path in ["/metrics", "/stats/prometheus?usedonly"] {
        let failed = "istio_agent_scrape_failures_total{type=\"envoy\"} 1";
        check(Stage::BackingOff, Method::GET, path, NEIGHBOUR, (200, failed), None);
    }
}

#[test]
fn there_is_nothing_else() {
    check(Stage::Running, Method::GET, "/", POD, (404, "no / here"), None);
}

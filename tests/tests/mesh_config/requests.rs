//! `VirtualService.http`: routing, rewriting, redirects, retries, faults, mirroring, CORS.

use std::time::Duration;

use anyhow::{Result, ensure};
use http::Method;
use pilot_tests::http_request::{HttpRequest, HttpResponse};

use super::bookshop::{BookshopMesh, SUBSETS};

/// Returns a `VirtualService` for `web`, and its subsets.
fn rules(http: &str) -> String {
    format!(
        "{SUBSETS}---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: web}}
spec:
  hosts: [web]
  http:
{http}"
    )
}

const TO_V1: &str = "route: [{destination: {host: web, subset: v1}}]";
const TO_V2: &str = "route: [{destination: {host: web, subset: v2}}]";

#[tokio::test(flavor = "multi_thread")]
async fn route_weights_split_requests() -> Result<()> {
    const REQUESTS: u32 = 2000;
    let shop = BookshopMesh::open(&rules(
        "  - route:
    - {destination: {host: web, subset: v1}, weight: 70}
    - {destination: {host: web, subset: v2}, weight: 30}
",
    ))
    .await?;
    shop.wait_for(&shop.get("/"), "v2 answers", |answer| answer.server() == "v2").await?;
    let counts = shop.count_answers(&shop.get("/"), REQUESTS).await?;
    let share =
        |version: &str| f64::from(counts.get(version).copied().unwrap_or_default()) / f64::from(REQUESTS);
    println!("{counts:?}");
    ensure!((share("v1") - 0.7).abs() < 0.03 && (share("v2") - 0.3).abs() < 0.03, "{counts:?}");
    ensure!(!counts.contains_key("v3"), "{counts:?}");
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn routes_match_headers_path_query_and_source_labels() -> Result<()> {
    let shop = BookshopMesh::open(&rules(&format!(
        "  - {{match: [{{headers: {{end-user: {{exact: jason}}}}}}], {TO_V2}}}
  - {{match: [{{uri: {{prefix: /api}}, queryParams: {{beta: {{exact: 'true'}}}}}}], {TO_V2}}}
  - {{match: [{{uri: {{exact: /own}}, sourceLabels: {{app: client}}}}], {TO_V2}}}
  - {{match: [{{uri: {{exact: /others}}, sourceLabels: {{app: other}}}}], {TO_V2}}}
  - {TO_V1}
"
    )))
    .await?;
    let jason = |request: HttpRequest| request.header("end-user", "jason");
    shop.wait_for(&jason(shop.get("/")), "the rule holds", |answer| answer.server() == "v2").await?;
    for (request, server) in [
        (shop.get("/"), "v1"),
        (shop.get("/").header("end-user", "jane"), "v1"),
        (shop.get("/api/x?beta=true"), "v2"),
        (shop.get("/api/x"), "v1"),
        (shop.get("/own"), "v2"),
        (shop.get("/others"), "v1"),
    ] {
        request.send().await?.ensure_ok_from(server)?;
    }
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn rewrite_changes_path_host_and_headers() -> Result<()> {
    let shop = BookshopMesh::open(&rules(&format!(
        "  - {{match: [{{uri: {{prefix: /old/}}}}], rewrite: {{uri: /new/, authority: inside}}, {TO_V1}}}
  - {{match: [{{uri: {{prefix: /re/}}}}], rewrite: {{uriRegexRewrite: {{match: '/re/(.*)', rewrite: '/x/\\1'}}}}, {TO_V1}}}
  - {{headers: {{request: {{set: {{x-set: one}}, remove: [x-gone]}}, response: {{add: {{x-added: two}}}}}}, {TO_V1}}}
"
    )))
    .await?;
    shop.wait_for(&shop.get("/"), "the rule holds", |answer| answer.header("x-added") == "two").await?;
    let last = || shop.v1.last_request();
    shop.get("/old/a?q=1").send().await?.ensure_ok_from("v1")?;
    ensure!((last()?.path.as_str(), last()?.host.as_str()) == ("/new/a?q=1", "inside"), "{:?}", last()?);
    shop.get("/re/b").send().await?.ensure_ok_from("v1")?;
    ensure!(last()?.path == "/x/b", "{:?}", last()?);
    shop.get("/").header("x-gone", "1").send().await?.ensure_ok_from("v1")?;
    ensure!(
        last()?.headers.contains_key("x-set") && !last()?.headers.contains_key("x-gone"),
        "{:?}",
        last()?
    );
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn redirect_and_direct_response_answer_requests() -> Result<()> {
    let shop = BookshopMesh::open(&rules(&format!(
        "  - {{match: [{{uri: {{exact: /moved}}}}], redirect: {{uri: /there, authority: elsewhere.com, redirectCode: 302}}}}
  - {{match: [{{uri: {{exact: /teapot}}}}], directResponse: {{status: 418, body: {{string: short and stout}}}}}}
  - {TO_V1}
"
    )))
    .await?;
    let moved = shop.wait_for(&shop.get("/moved"), "the rule holds", |answer| answer.status == 302).await?;
    ensure!(moved.header("location") == "http://elsewhere.com/there", "{moved:?}");
    let teapot = shop.get("/teapot").send().await?;
    ensure!((teapot.status, teapot.body.as_str()) == (418, "short and stout"), "{teapot:?}");
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn retries_repeat_a_503_and_timeout_ends_a_slow_request() -> Result<()> {
    let shop = BookshopMesh::open(&rules(
        "  - {match: [{uri: {prefix: /retried}}], retries: {attempts: 5, retryOn: '503'}, route: [{destination: {host: web}}]}
  - {match: [{uri: {prefix: /once}}], retries: {attempts: 0}, route: [{destination: {host: web, subset: v1}}]}
  - {match: [{uri: {prefix: /slow}}], timeout: 0.3s, retries: {attempts: 0}, route: [{destination: {host: web, subset: v3}}]}
  - {route: [{destination: {host: web, subset: v2}}]}
",
    ))
    .await?;
    shop.wait_for(&shop.get("/once"), "the rule holds", |answer| answer.server() == "v1").await?;
    shop.v1.respond_with(503, Duration::ZERO);
    shop.v2.respond_with(503, Duration::ZERO);
    ensure!(shop.get("/once").send().await?.status == 503);
    for _ in 0..20 {
        shop.get("/retried").send().await?.ensure_ok_from("v3")?;
    }
    shop.v3.respond_with(200, Duration::from_secs(5));
    let slow = shop.get("/slow").send().await?;
    ensure!(slow.status == 504, "{slow:?}");
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn fault_injection_aborts_and_delays_requests() -> Result<()> {
    let shop = BookshopMesh::open(&rules(&format!(
        "  - {{match: [{{uri: {{exact: /fails}}}}], fault: {{abort: {{httpStatus: 555, percentage: {{value: 100}}}}}}, {TO_V1}}}
  - {{match: [{{uri: {{exact: /late}}}}], fault: {{delay: {{fixedDelay: 1s, percentage: {{value: 100}}}}}}, {TO_V1}}}
  - {TO_V1}
"
    )))
    .await?;
    shop.wait_for(&shop.get("/fails"), "the rule holds", |answer| answer.status == 555).await?;
    let late = shop.get("/late").send().await?;
    late.ensure_ok_from("v1")?;
    // Envoy's timers have a resolution of a millisecond, rounded down.
    ensure!(late.took >= Duration::from_millis(990), "{late:?}");
    shop.get("/").send().await?.ensure_ok_from("v1")?;
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn mirror_receives_copies_and_its_responses_are_discarded() -> Result<()> {
    let shop = BookshopMesh::open(&rules(&format!(
        "  - {{match: [{{uri: {{prefix: /copied}}}}], mirrors: [{{destination: {{host: web, subset: v3}}}}], {TO_V1}}}
  - {TO_V1}
"
    )))
    .await?;
    shop.wait_for(&shop.get("/"), "the rule holds", |answer| answer.server() == "v1").await?;
    shop.v3.respond_with(500, Duration::ZERO);
    for number in 0..10 {
        shop.get(&format!("/copied/{number}")).send().await?.ensure_ok_from("v1")?;
    }
    let all_came = pilot_tests::wait::eventually(
        Duration::from_secs(10),
        "the mirror receives the copies",
        async || {
            let copies =
                shop.v3.requests().iter().filter(|recorded| recorded.path.starts_with("/copied/")).count();
            ensure!(copies == 10, "{copies}");
            Ok(())
        },
    );
    all_came.await?;
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn cors_policy_answers_preflight_requests() -> Result<()> {
    let shop = BookshopMesh::open(&rules(&format!(
        "  - {{corsPolicy: {{allowOrigins: [{{exact: 'https://a.com'}}], allowMethods: [GET, POST], maxAge: 24h}}, {TO_V1}}}
"
    )))
    .await?;
    let preflight = |origin: &str| {
        let request = shop.get("/").method(Method::OPTIONS).header("origin", origin);
        request.header("access-control-request-method", "POST")
    };
    let allowed = |answer: &HttpResponse| answer.header("access-control-allow-origin") == "https://a.com";
    let answer = shop.wait_for(&preflight("https://a.com"), "the rule holds", allowed).await?;
    ensure!(answer.server().is_empty(), "the workload received the request: {answer:?}");
    ensure!(answer.header("access-control-allow-methods") == "GET,POST", "{answer:?}");
    ensure!(answer.header("access-control-max-age") == "86400", "{answer:?}");
    let other = preflight("https://b.com").send().await?;
    ensure!(other.header("access-control-allow-origin").is_empty(), "{other:?}");
    shop.close().await
}

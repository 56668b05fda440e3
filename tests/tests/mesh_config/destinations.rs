//! `DestinationRule`: which of the endpoints, and how many requests at a time.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::join_all;

use super::bookshop::Bookshop;

fn rule(policy: &str) -> String {
    format!(
        "
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: web}}
spec: {{host: web, trafficPolicy: {policy}, subsets: [{{name: v1, labels: {{version: v1}}}}]}}
"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn one_client_meets_one_endpoint_where_requests_are_hashed() -> Result<()> {
    let shop = Bookshop::open(&rule("{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}")).await?;
    let sticks = async |user: &str| -> Result<Option<String>> {
        let counts = shop.count(&shop.get("/").with("x-user", user), 20).await?;
        Ok((counts.len() == 1).then(|| counts.into_keys().next()).flatten())
    };
    let mut met = BTreeSet::new();
    for user in 0..30 {
        let user = format!("user-{user}");
        let endpoint = pilot_tests::wait::eventually(Duration::from_secs(20), "it sticks", async || {
            let endpoint = sticks(&user).await?;
            ensure!(endpoint.is_some(), "{user} meets several");
            Ok(endpoint)
        });
        met.extend(endpoint.await?);
    }
    ensure!(met.len() == 3, "all users meet {met:?}");
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_endpoint_that_fails_is_left_alone() -> Result<()> {
    let shop = Bookshop::open(&rule(
        "{outlierDetection: {consecutive5xxErrors: 3, interval: 0.1s, baseEjectionTime: 60s, maxEjectionPercent: 100}}",
    ))
    .await?;
    shop.v2.respond_with(500, Duration::ZERO);
    let quiet = pilot_tests::wait::eventually(Duration::from_secs(30), "v2 is left alone", async || {
        let before = shop.v2.requests().len();
        for _ in 0..30 {
            shop.get("/").send().await?;
        }
        let asked = shop.v2.requests().len() - before;
        ensure!(asked == 0, "it was asked {asked} times");
        Ok(())
    });
    quiet.await?;
    let counts = shop.count(&shop.get("/"), 30).await?;
    ensure!(counts.keys().map(String::as_str).eq(["v1", "v3"]), "{counts:?}");
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn more_requests_than_the_limit_are_turned_away() -> Result<()> {
    let shop = Bookshop::open(&rule(
        "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}}}",
    ))
    .await?;
    for workload in [&shop.v1, &shop.v2, &shop.v3] {
        workload.respond_with(200, Duration::from_secs(1));
    }
    let turned_away =
        pilot_tests::wait::eventually(Duration::from_secs(30), "some are turned away", async || {
            let ask = shop.get("/");
            let answers = join_all((0..20).map(|_| ask.send())).await;
            let answers: Vec<_> = answers.into_iter().collect::<Result<_>>()?;
            let overflow =
                answers.iter().filter(|answer| answer.header("x-envoy-overloaded") == "true").count();
            ensure!(overflow >= 10 && answers.iter().any(|answer| answer.status == 200), "{overflow} of 20");
            Ok(())
        });
    turned_away.await?;
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_near_is_used_before_what_is_far() -> Result<()> {
    let labels = BTreeMap::from([
        ("client", ", topology.istio.io/locality: r1.z1"),
        ("v1", ", topology.istio.io/locality: r1.z1"),
        ("v2", ", topology.istio.io/locality: r1.z2"),
        ("v3", ", topology.istio.io/locality: r2.z1"),
    ]);
    let outliers = "{outlierDetection: {consecutive5xxErrors: 1, interval: 0.1s, baseEjectionTime: 60s, maxEjectionPercent: 100}}";
    let shop = Bookshop::open_with(&rule(outliers), &labels).await?;
    for (near, workload) in [("v1", &shop.v1), ("v2", &shop.v2)] {
        let only =
            pilot_tests::wait::eventually(Duration::from_secs(30), "the nearest answers alone", async || {
                let counts = shop.count(&shop.get("/"), 20).await?;
                ensure!(counts.keys().map(String::as_str).eq([near]), "{counts:?}");
                Ok(())
            });
        only.await?;
        workload.respond_with(500, Duration::ZERO);
    }
    let last = shop.get("/");
    shop.until(&last, "the last one answers", |answer| answer.server() == "v3").await?;
    shop.close().await
}

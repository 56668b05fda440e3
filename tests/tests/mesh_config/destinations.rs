//! `DestinationRule`: load balancing, outlier detection, connection pools, locality.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use anyhow::{Result, ensure};
use futures_util::future::join_all;

use super::bookshop::BookshopMesh;

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
async fn consistent_hash_sends_a_user_to_one_endpoint() -> Result<()> {
    let shop =
        BookshopMesh::open(&rule("{loadBalancer: {consistentHash: {httpHeaderName: x-user}}}")).await?;
    let sticks = async |user: &str| -> Result<Option<String>> {
        let counts = shop.count_answers(&shop.get("/").header("x-user", user), 20).await?;
        Ok((counts.len() == 1).then(|| counts.into_keys().next()).flatten())
    };
    let mut met = BTreeSet::new();
    for user in 0..30 {
        let user = format!("user-{user}");
        let endpoint = pilot_tests::wait::eventually(
            Duration::from_secs(20),
            "one endpoint answers a user",
            async || {
                let endpoint = sticks(&user).await?;
                ensure!(endpoint.is_some(), "several endpoints answered {user}");
                Ok(endpoint)
            },
        );
        met.extend(endpoint.await?);
    }
    ensure!(met.len() == 3, "all users were answered by {met:?}");
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn outlier_detection_ejects_a_failing_endpoint() -> Result<()> {
    let shop = BookshopMesh::open(&rule(
        "{outlierDetection: {consecutive5xxErrors: 3, interval: 0.1s, baseEjectionTime: 60s, maxEjectionPercent: 100}}",
    ))
    .await?;
    shop.v2.respond_with(500, Duration::ZERO);
    let quiet = pilot_tests::wait::eventually(Duration::from_secs(30), "v2 is ejected", async || {
        let before = shop.v2.requests().len();
        for _ in 0..30 {
            shop.get("/").send().await?;
        }
        let received = shop.v2.requests().len() - before;
        ensure!(received == 0, "v2 received {received} requests");
        Ok(())
    });
    quiet.await?;
    let counts = shop.count_answers(&shop.get("/"), 30).await?;
    ensure!(counts.keys().map(String::as_str).eq(["v1", "v3"]), "{counts:?}");
    shop.close().await
}

#[tokio::test(flavor = "multi_thread")]
async fn connection_pool_overflow_is_rejected() -> Result<()> {
    let shop = BookshopMesh::open(&rule(
        "{connectionPool: {tcp: {maxConnections: 1}, http: {http1MaxPendingRequests: 1, maxRequestsPerConnection: 1}}}",
    ))
    .await?;
    for workload in [&shop.v1, &shop.v2, &shop.v3] {
        workload.respond_with(200, Duration::from_secs(1));
    }
    let turned_away =
        pilot_tests::wait::eventually(Duration::from_secs(30), "some requests overflow", async || {
            let request = shop.get("/");
            let answers = join_all((0..20).map(|_| request.send())).await;
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
async fn locality_failover_prefers_near_endpoints() -> Result<()> {
    let labels = BTreeMap::from([
        ("client", ", topology.istio.io/locality: r1.z1"),
        ("v1", ", topology.istio.io/locality: r1.z1"),
        ("v2", ", topology.istio.io/locality: r1.z2"),
        ("v3", ", topology.istio.io/locality: r2.z1"),
    ]);
    let outliers = "{outlierDetection: {consecutive5xxErrors: 1, interval: 0.1s, baseEjectionTime: 60s, maxEjectionPercent: 100}}";
    let shop = BookshopMesh::open_with(&rule(outliers), &labels).await?;
    for (nearest, workload) in [("v1", &shop.v1), ("v2", &shop.v2)] {
        let only = pilot_tests::wait::eventually(
            Duration::from_secs(30),
            "only the nearest endpoint answers",
            async || {
                let counts = shop.count_answers(&shop.get("/"), 20).await?;
                ensure!(counts.keys().map(String::as_str).eq([nearest]), "{counts:?}");
                Ok(())
            },
        );
        only.await?;
        workload.respond_with(500, Duration::ZERO);
    }
    let last = shop.get("/");
    shop.wait_for(&last, "the farthest endpoint answers", |answer| answer.server() == "v3").await?;
    shop.close().await
}

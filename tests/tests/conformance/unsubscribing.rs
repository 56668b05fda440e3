//! The suite's `unsubscribing.feature`: a `SotW` client reduces its subscription, or removes all names.

use anyhow::Result;
use pilot_proto::ResourceType::{Cluster, Endpoint, Listener, Route};

use crate::run::Run;
use crate::{Row, Scenario, Variant, row, runs};

const SOME: Scenario = (
    "Client can unsubcribe from some resources",
    &[row(Cluster, "F,A,B,C,D", "C,A,B", "A"), row(Listener, "G,B,L,D", "B,D,L", "B")],
);

const ONLY_THE_REST: Scenario = (
    "Client can unsubcribe from some resources",
    &[row(Route, "A,B,C,D", "B,D", "B"), row(Endpoint, "A,B,C,D", "B,D", "B")],
);

const ALL: Scenario = (
    "Client can unsubscribe from all resources",
    &[
        row(Cluster, "A,B,C,D", "A,B", "B"),
        row(Route, "A,B,C,D", "A,B", "B"),
        row(Listener, "A,B,C,D", "A,B", "B"),
        row(Endpoint, "A,B,C,D", "A,B", "B"),
    ],
);

/// Tagged `@sotw @non-aggregated @aggregated`.
pub(crate) const SOTW: [Scenario; 3] = [SOME, ONLY_THE_REST, ALL];

/// Returns all resources at version 1.
fn first(resources: &str) -> String {
    let mut names: Vec<&str> = resources.split(',').collect();
    names.sort_unstable();
    names.iter().map(|name| format!("{name}=1")).collect::<Vec<_>>().join(" ")
}

/// Clusters and listeners. The suite lets a server send more than the subscription; ours does not. The shorter list is sent at
/// once, because a resource missing in it is removed.
pub(crate) async fn client_can_unsubscribe_from_some_resources(variant: Variant) -> Result<()> {
    runs(SOME, variant, async |mut run: Run, Row { kind, resources, subset, r1, .. }| {
        run.target_setup(kind, resources).await?;
        run.subscribes_to(kind, subset).await?;
        run.receives(kind, &first(subset)).await?;
        run.updates_subscription_to(kind, r1).await?;
        run.receives(kind, &first(r1)).await?;
        run.set_version(kind, r1, 2)?;
        run.receives(kind, &format!("{r1}=2")).await?;
        run.never_responds_more_than_necessary(kind, r1, &format!("{r1}=3")).await
    })
    .await
}

/// Routes and endpoints: the unsubscribed resource is updated as well, and only the other one may be sent.
pub(crate) async fn client_can_unsubscribe_from_some_resources_and_receives_only_the_rest(
    variant: Variant,
) -> Result<()> {
    runs(ONLY_THE_REST, variant, async |run: Run, Row { kind, resources, subset, r1, .. }| {
        let mut run = run.with_routes_of_ports();
        run.target_setup(kind, resources).await?;
        run.subscribes_to(kind, subset).await?;
        run.receives(kind, &first(subset)).await?;
        run.updates_subscription_to(kind, r1).await?;
        run.set_version(kind, "D", 2)?;
        run.receives_nothing(kind).await?;
        run.set_version(kind, r1, 2)?;
        run.receives(kind, &format!("{r1}=2")).await?;
        run.never_responds_more_than_necessary(kind, r1, &format!("{r1}=3")).await
    })
    .await
}

/// No response is sent until the client subscribes again.
pub(crate) async fn client_can_unsubscribe_from_all_resources(variant: Variant) -> Result<()> {
    runs(ALL, variant, async |run: Run, Row { kind, resources, subset, r1, .. }| {
        let mut run = run.with_routes_of_ports();
        run.target_setup(kind, resources).await?;
        run.subscribes_to(kind, subset).await?;
        run.receives(kind, &first(subset)).await?;
        run.updates_subscription_to(kind, "").await?;
        run.set_version(kind, r1, 2)?;
        run.receives_nothing(kind).await?;
        run.updates_subscription_to(kind, r1).await?;
        run.receives(kind, &format!("{r1}=2")).await
    })
    .await
}

//! The suite's `delta.feature`: resources are added and removed one by one, and so are subscriptions.

use anyhow::Result;
use pilot_proto::ResourceType::{self, Cluster, Endpoint, Listener, Route};

use crate::run::Run;
use crate::{Row, Scenario, Variant, row, runs};

const fn pair(kind: ResourceType, resources: &'static str, r1: &'static str, r2: &'static str) -> Row {
    Row { r2, ..row(kind, resources, resources, r1) }
}

const ONE_AFTER_THE_OTHER: Scenario = (
    "Subscribe to resources one after the other",
    &[
        pair(Cluster, "A,B,C", "A", "B"),
        pair(Listener, "D,E,F", "D", "E"),
        pair(Route, "D,E,F", "D", "E"),
        pair(Endpoint, "D,E,F", "D", "E"),
    ],
);

const UPDATED: Scenario = (
    "When a resource is updated, receive response for only that resource",
    &[
        pair(Listener, "A,B,C", "A", ""),
        pair(Cluster, "A,B,C", "A", ""),
        pair(Route, "A,B,C", "A", ""),
        pair(Endpoint, "A,B,C", "A", ""),
    ],
);

const MISSING: Scenario = (
    "Client is told if resource does not exist, and is notified if it is created",
    &[
        pair(Cluster, "A,B", "A", "B"),
        pair(Listener, "D,E", "D", "E"),
        pair(Route, "D,E", "D", "E"),
        pair(Endpoint, "D,E", "D", "E"),
    ],
);

const REMOVED: Scenario = (
    "Client is told when a resource is removed via removed_resources field",
    &[
        pair(Cluster, "A,B", "B", ""),
        pair(Listener, "D,E", "E", ""),
        pair(Route, "D,E", "E", ""),
        pair(Endpoint, "D,E", "E", ""),
    ],
);

const UNSUBSCRIBED: Scenario = (
    "Client can incrementally unsubscribe from resources",
    &[
        pair(Cluster, "A,B", "B", "A"),
        pair(Listener, "D,E", "E", "D"),
        pair(Route, "D,E", "E", "D"),
        pair(Endpoint, "D,E", "E", "D"),
    ],
);

const fn both(kind: ResourceType, other: ResourceType) -> Row {
    Row { other: Some(other), ..pair(kind, "A,B,C", "B", "") }
}

pub(crate) const MULTIPLE: Scenario = (
    "Client can subscribe to multiple services via ADS",
    &[both(Cluster, Listener), both(Listener, Cluster), both(Route, Endpoint), both(Endpoint, Route)],
);

/// Tagged `@incremental @non-aggregated @aggregated`.
pub(crate) const DELTA: &[Scenario] = &[ONE_AFTER_THE_OTHER, UPDATED, MISSING, REMOVED, UNSUBSCRIBED];

pub(crate) async fn subscribe_to_resources_one_after_the_other(variant: Variant) -> Result<()> {
    runs(ONE_AFTER_THE_OTHER, variant, async |run: Run, Row { kind, resources, r1, r2, .. }| {
        let mut run = run.with_routes_of_ports();
        run.target_setup(kind, resources).await?;
        run.subscribes_to(kind, r1).await?;
        run.receives(kind, &format!("{r1}=1")).await?;
        run.subscribes_to(kind, r2).await?;
        run.receives(kind, &format!("{r2}=1")).await?;
        run.never_responds_more_than_necessary(kind, r1, &format!("{r1}=3")).await
    })
    .await
}

pub(crate) async fn when_a_resource_is_updated_receive_response_for_only_that_resource(
    variant: Variant,
) -> Result<()> {
    runs(UPDATED, variant, async |run: Run, Row { kind, resources, r1, .. }| {
        let mut run = run.with_routes_of_ports();
        run.target_setup(kind, resources).await?;
        run.subscribes_to(kind, resources).await?;
        run.receives(kind, "A=1 B=1 C=1").await?;
        run.set_version(kind, r1, 2)?;
        run.receives(kind, &format!("{r1}=2")).await?;
        run.never_responds_more_than_necessary(kind, r1, &format!("{r1}=3")).await
    })
    .await
}

pub(crate) async fn client_is_told_if_resource_does_not_exist_and_is_notified_if_it_is_created(
    variant: Variant,
) -> Result<()> {
    runs(MISSING, variant, async |mut run: Run, Row { kind, resources, r1, r2, .. }| {
        run.target_setup(kind, r1).await?;
        run.subscribes_to(kind, resources).await?;
        run.receives(kind, &format!("{r1}=1 -{r2}")).await?;
        run.set_version(kind, r2, 1)?;
        run.receives(kind, &format!("{r2}=1")).await?;
        run.never_responds_more_than_necessary(kind, r2, &format!("{r2}=3")).await
    })
    .await
}

pub(crate) async fn client_is_told_when_a_resource_is_removed_via_removed_resources_field(
    variant: Variant,
) -> Result<()> {
    runs(REMOVED, variant, async |mut run: Run, Row { kind, resources, subset, r1, .. }| {
        run.target_setup(kind, resources).await?;
        run.subscribes_to(kind, subset).await?;
        let (first, second) = resources.split_once(',').unwrap_or_default();
        run.receives(kind, &format!("{first}=1 {second}=1")).await?;
        run.remove(kind, r1)?;
        run.receives(kind, &format!("-{r1}")).await?;
        run.set_version(kind, r1, 2)?;
        run.receives(kind, &format!("{r1}=2")).await?;
        run.never_responds_more_than_necessary(kind, r1, &format!("{r1}=3")).await
    })
    .await
}

pub(crate) async fn client_can_incrementally_unsubscribe_from_resources(variant: Variant) -> Result<()> {
    runs(UNSUBSCRIBED, variant, async |run: Run, Row { kind, resources, subset, r1, r2, .. }| {
        let mut run = run.with_routes_of_ports();
        run.target_setup(kind, resources).await?;
        run.subscribes_to(kind, subset).await?;
        run.receives(kind, &format!("{r2}=1 {r1}=1")).await?;
        run.unsubscribes_from(kind, r1).await?;
        run.set_version(kind, r1, 2)?;
        run.receives_nothing(kind).await?;
        run.unsubscribes_from(kind, r2).await?;
        run.set_version(kind, r2, 2)?;
        run.receives_nothing(kind).await?;
        run.subscribes_to(kind, r1).await?;
        run.receives(kind, &format!("{r1}=2")).await
    })
    .await
}

pub(crate) async fn client_can_subscribe_to_multiple_services_via_ads(variant: Variant) -> Result<()> {
    runs(MULTIPLE, variant, async |run: Run, Row { kind, other, resources, r1, .. }| {
        let mut run = run.with_routes_of_ports();
        let other = other.unwrap_or(kind);
        run.target_setup(kind, resources).await?;
        run.target_setup(other, resources).await?;
        run.subscribes_to(kind, r1).await?;
        run.subscribes_to(other, r1).await?;
        run.receives_both([kind, other], &format!("{r1}=1")).await?;
        run.set_version(kind, r1, 2)?;
        run.receives(kind, &format!("{r1}=2")).await?;
        run.set_version(other, r1, 2)?;
        run.receives(other, &format!("{r1}=2")).await?;
        run.never_responds_more_than_necessary(kind, r1, &format!("{r1}=3")).await
    })
    .await
}

//! The suite's `subscribing.feature`: wildcard subscriptions, subscriptions by name, and updates of both.

use anyhow::Result;
use pilot_proto::ResourceType::{Cluster, Endpoint, Listener, Route};

use crate::run::Run;
use crate::{Row, Scenario, Variant, row, runs};

const WILDCARD: Scenario = (
    "The service should send all resources on a wildcard request",
    &[row(Cluster, "A,B,C", "", ""), row(Listener, "D,E,F", "", "")],
);

const UPDATES: Scenario = (
    "The service should send updates to the client",
    &[row(Cluster, "A,B,C", "", "A"), row(Listener, "D,E,F", "", "D")],
);

const ADDED: Scenario = (
    "Wildcard subscriptions receive updates when new resources are added",
    &[row(Cluster, "A,B,C", "", "D"), row(Listener, "D,E,F", "", "G")],
);

/// The scenario that is tagged for both variants.
pub(crate) const SPECIFIC: Scenario = (
    "When subscribing to specific resources, receive only these resources",
    &[row(Listener, "G,B,L,D", "L,G", "G"), row(Route, "B,A", "B,A", "A")],
);

const CHANGED: Scenario = (
    "When subscribing to specific resources, receive response when those resources change",
    &[row(Cluster, "A,B,C,D", "B,D", "B"), row(Listener, "G,B,L,D", "L,G", "G")],
);

const CHANGED_ALONE: Scenario = (
    "When subscribing to specific resources, receive response when those resources change",
    &[row(Route, "A,B,C,D", "B,D", "B"), row(Endpoint, "A,B,C,D", "B,D", "B")],
);

const CREATED: Scenario = (
    "When subscribing to resources that don't exist, receive response when they are created",
    &[row(Cluster, "A,B,C", "A,Z", "Z"), row(Listener, "G,B,D", "B,D,X", "X")],
);

const CREATED_ALONE: Scenario = (
    "When subscribing to resources that don't exist, receive response when they are created",
    &[row(Route, "A,B,C,D", "A,Z", "Z"), row(Endpoint, "A,B,C,D", "A,Z", "Z")],
);

const fn both(kind: pilot_proto::ResourceType, other: pilot_proto::ResourceType) -> Row {
    Row { other: Some(other), ..row(kind, "A,B,C", "B", "B") }
}

pub(crate) const MULTIPLE: Scenario =
    ("Client can subscribe to multiple services via ADS", &[both(Cluster, Listener), both(Route, Endpoint)]);

/// Tagged `@sotw @non-aggregated @aggregated`.
pub(crate) const SOTW: [Scenario; 7] =
    [WILDCARD, UPDATES, ADDED, CHANGED, CHANGED_ALONE, CREATED, CREATED_ALONE];

/// Returns `A,B` at version 1, except `r1`, which has another.
fn at(resources: &str, r1: &str, version: u8) -> String {
    let mut names: Vec<&str> = resources.split(',').collect();
    names.sort_unstable();
    let format_versions =
        names.iter().map(|name| format!("{name}={}", if *name == r1 { version } else { 1 }));
    format_versions.collect::<Vec<_>>().join(" ")
}

pub(crate) async fn the_service_should_send_all_resources_on_a_wildcard_request(
    variant: Variant,
) -> Result<()> {
    runs(WILDCARD, variant, async |mut run: Run, Row { kind, resources, .. }| {
        run.target_setup(kind, resources).await?;
        run.wildcard_subscription(kind).await?;
        run.receives(kind, &at(resources, "", 1)).await?;
        let first = &resources[..1];
        run.never_responds_more_than_necessary(kind, first, &at(resources, first, 3)).await
    })
    .await
}

pub(crate) async fn the_service_should_send_updates_to_the_client(variant: Variant) -> Result<()> {
    runs(UPDATES, variant, async |mut run: Run, Row { kind, resources, r1, .. }| {
        run.target_setup(kind, resources).await?;
        run.wildcard_subscription(kind).await?;
        run.receives(kind, &at(resources, "", 1)).await?;
        run.set_version(kind, r1, 2)?;
        run.receives(kind, &at(resources, r1, 2)).await?;
        run.never_responds_more_than_necessary(kind, r1, &at(resources, r1, 3)).await
    })
    .await
}

pub(crate) async fn wildcard_subscriptions_receive_updates_when_new_resources_are_added(
    variant: Variant,
) -> Result<()> {
    runs(ADDED, variant, async |mut run: Run, Row { kind, resources, r1, .. }| {
        run.target_setup(kind, resources).await?;
        run.wildcard_subscription(kind).await?;
        run.receives(kind, &at(resources, "", 1)).await?;
        run.set_version(kind, r1, 2)?;
        let all = format!("{resources},{r1}");
        run.receives(kind, &at(&all, r1, 2)).await?;
        run.never_responds_more_than_necessary(kind, r1, &at(&all, r1, 3)).await
    })
    .await
}

pub(crate) async fn when_subscribing_to_specific_resources_receive_only_these_resources(
    variant: Variant,
) -> Result<()> {
    runs(SPECIFIC, variant, async |run: Run, Row { kind, resources, subset, r1, .. }| {
        let mut run = run.with_routes_of_ports();
        run.target_setup(kind, resources).await?;
        run.subscribes_to(kind, subset).await?;
        run.receives(kind, &at(subset, "", 1)).await?;
        // Listener responses are complete lists in SotW; others contain only the change.
        let rest =
            if kind == Listener && variant_is_sotw(variant) { at(subset, r1, 3) } else { at(r1, r1, 3) };
        run.never_responds_more_than_necessary(kind, r1, &rest).await
    })
    .await
}

const fn variant_is_sotw(variant: Variant) -> bool {
    matches!(variant, Variant::SotwAggregated | Variant::SotwSeparate)
}

/// Clusters and listeners: a response contains all subscribed resources.
pub(crate) async fn when_subscribing_to_specific_resources_receive_response_when_those_resources_change(
    variant: Variant,
) -> Result<()> {
    runs(CHANGED, variant, async |mut run: Run, Row { kind, resources, subset, r1, .. }| {
        run.target_setup(kind, resources).await?;
        run.subscribes_to(kind, subset).await?;
        run.receives(kind, &at(subset, "", 1)).await?;
        run.set_version(kind, r1, 2)?;
        run.receives(kind, &at(subset, r1, 2)).await?;
        run.never_responds_more_than_necessary(kind, r1, &at(subset, r1, 3)).await
    })
    .await
}

/// Routes and endpoints: a response contains only the changed resource.
pub(crate) async fn when_subscribing_to_specific_resources_receive_those_alone_that_change(
    variant: Variant,
) -> Result<()> {
    runs(CHANGED_ALONE, variant, async |run: Run, Row { kind, resources, subset, r1, .. }| {
        let mut run = run.with_routes_of_ports();
        run.target_setup(kind, resources).await?;
        run.subscribes_to(kind, subset).await?;
        run.receives(kind, &at(subset, "", 1)).await?;
        run.set_version(kind, r1, 2)?;
        run.receives(kind, &at(r1, r1, 2)).await?;
        run.never_responds_more_than_necessary(kind, r1, &at(r1, r1, 3)).await
    })
    .await
}

/// Returns the resources of a subset that exist before `r1` is created; a missing cluster has an empty assignment.
fn existing(kind: pilot_proto::ResourceType, subset: &str, r1: &str) -> String {
    let format_versions = at(subset, r1, 0);
    if kind == Endpoint { format_versions } else { format_versions.replace(&format!(" {r1}=0"), "") }
}

/// Clusters and listeners: a response contains all subscribed resources.
pub(crate) async fn when_subscribing_to_resources_that_do_not_exist_receive_response_when_they_are_created(
    variant: Variant,
) -> Result<()> {
    runs(CREATED, variant, async |mut run: Run, Row { kind, resources, subset, r1, .. }| {
        run.target_setup(kind, resources).await?;
        run.subscribes_to(kind, subset).await?;
        run.receives(kind, &existing(kind, subset, r1)).await?;
        run.set_version(kind, r1, 2)?;
        run.receives(kind, &at(subset, r1, 2)).await?;
        run.never_responds_more_than_necessary(kind, r1, &at(subset, r1, 3)).await
    })
    .await
}

/// Routes and endpoints: a response contains only the created resource.
pub(crate) async fn when_subscribing_to_resources_that_do_not_exist_receive_those_alone_that_are_created(
    variant: Variant,
) -> Result<()> {
    runs(CREATED_ALONE, variant, async |mut run: Run, Row { kind, resources, subset, r1, .. }| {
        run.target_setup(kind, resources).await?;
        run.subscribes_to(kind, subset).await?;
        run.receives(kind, &existing(kind, subset, r1)).await?;
        run.set_version(kind, r1, 2)?;
        run.receives(kind, &at(r1, r1, 2)).await?;
        run.never_responds_more_than_necessary(kind, r1, &at(r1, r1, 3)).await
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
        run.receives(kind, &at(r1, "", 1)).await?;
        run.subscribes_to(other, r1).await?;
        run.receives(other, &at(r1, "", 1)).await?;
        run.set_version(kind, r1, 2)?;
        run.receives(kind, &at(r1, r1, 2)).await?;
        run.never_responds_more_than_necessary(other, r1, &at(r1, r1, 3)).await
    })
    .await
}

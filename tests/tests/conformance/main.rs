//! The scenarios of the public conformance suite for xDS servers (`xds-test-harness` of the ii organisation), against the real
//! `pilot-discovery` on real sockets: 18 scenarios, 98 runs over types and the four variants of the protocol.
//!
//! The suite has an adapter that puts resources into the server under test; here the resources come from a generated mesh.
//! Nearly every scenario ends with "the service never responds more than necessary": see `run`.

mod client;
mod delta;
mod mesh;
mod run;
mod separate;
mod subscribing;
mod unsubscribing;

use anyhow::{Context, Result};
use futures_util::future::try_join_all;
use pilot_proto::ResourceType;

use mesh::ControlPlane;
use run::Run;

/// Variant of the protocol, as in the suite's tags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Variant {
    /// `@sotw @aggregated`
    SotwAggregated,
    /// `@sotw @non-aggregated`
    SotwSeparate,
    /// `@incremental @aggregated`
    DeltaAggregated,
    /// `@incremental @non-aggregated`
    DeltaSeparate,
}

/// One line of a scenario's table of examples.
#[derive(Clone, Copy, Debug)]
struct Row {
    /// `<xDS>`
    kind: ResourceType,
    /// `<xDS2>`, in scenarios with two services.
    other: Option<ResourceType>,
    /// `<resources>`
    resources: &'static str,
    /// `<subset>`: the subscription of the client.
    subset: &'static str,
    /// `<r1>`
    r1: &'static str,
    /// `<r2>`
    r2: &'static str,
}

/// Name of a scenario in the suite, and its examples.
type Scenario = (&'static str, &'static [Row]);

const fn row(kind: ResourceType, resources: &'static str, subset: &'static str, r1: &'static str) -> Row {
    Row { kind, other: None, resources, subset, r1, r2: "" }
}

/// Performs all runs of a scenario concurrently in one control plane, each in a namespace of its own.
async fn runs<F: Future<Output = Result<()>>>(
    (name, rows): Scenario,
    variant: Variant,
    scenario: impl Fn(Run, Row) -> F,
) -> Result<()> {
    let plane = ControlPlane::start().await?;
    let runs = rows.iter().zip(1..).map(|(row, number)| {
        let run = scenario(Run::new(plane.mesh(number), variant), *row);
        async move { run.await.with_context(|| format!("{variant:?} [{}] {name}", row.kind)) }
    });
    let done = try_join_all(runs).await.map(drop);
    done.map_err(|error| anyhow::anyhow!("{error:#}\n{}", plane.discovery.log()))
}

/// Defines a test for each of these scenarios.
macro_rules! scenarios {
    ($variant:expr, $($feature:ident: $($scenario:ident),+;)+) => {
        $($(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $scenario() -> anyhow::Result<()> {
                crate::$feature::$scenario($variant).await
            }
        )+)+
    };
}
use scenarios;

mod aggregated {
    mod sotw {
        use crate::Variant::SotwAggregated;

        crate::scenarios! {
            SotwAggregated,
            subscribing: the_service_should_send_all_resources_on_a_wildcard_request,
                the_service_should_send_updates_to_the_client,
                wildcard_subscriptions_receive_updates_when_new_resources_are_added,
                when_subscribing_to_specific_resources_receive_only_these_resources,
                when_subscribing_to_specific_resources_receive_response_when_those_resources_change,
                when_subscribing_to_specific_resources_receive_those_alone_that_change,
                when_subscribing_to_resources_that_do_not_exist_receive_response_when_they_are_created,
                when_subscribing_to_resources_that_do_not_exist_receive_those_alone_that_are_created,
                client_can_subscribe_to_multiple_services_via_ads;
            unsubscribing: client_can_unsubscribe_from_some_resources,
                client_can_unsubscribe_from_some_resources_and_receives_only_the_rest,
                client_can_unsubscribe_from_all_resources;
        }
    }

    mod delta {
        use crate::Variant::DeltaAggregated;

        crate::scenarios! {
            DeltaAggregated,
            subscribing: when_subscribing_to_specific_resources_receive_only_these_resources;
            delta: subscribe_to_resources_one_after_the_other,
                when_a_resource_is_updated_receive_response_for_only_that_resource,
                client_is_told_if_resource_does_not_exist_and_is_notified_if_it_is_created,
                client_is_told_when_a_resource_is_removed_via_removed_resources_field,
                client_can_incrementally_unsubscribe_from_resources,
                client_can_subscribe_to_multiple_services_via_ads;
        }
    }
}

/// The number of scenarios and runs follows from the suite's tags.
#[test]
fn there_are_18_scenarios_and_98_runs() {
    let states = [&subscribing::SOTW[..], &unsubscribing::SOTW].concat();
    let deltas = delta::DELTA;
    let both = [subscribing::SPECIFIC];
    let ads = [subscribing::MULTIPLE, delta::MULTIPLE];
    assert_eq!(states.len() + deltas.len() + both.len() + ads.len(), 18);
    let rows = |scenarios: &[Scenario]| scenarios.iter().map(|(_, rows)| rows.len()).sum::<usize>();
    assert_eq!(2 * (rows(&states) + rows(deltas)) + 4 * rows(&both) + rows(&ads), 98);
}

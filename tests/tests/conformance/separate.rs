//! The same scenarios on the services of one type, such as `ClusterDiscoveryService`.

mod sotw {
    use crate::Variant::SotwSeparate;

    crate::scenarios! {
        SotwSeparate,
        subscribing: the_service_should_send_all_resources_on_a_wildcard_request,
            the_service_should_send_updates_to_the_client,
            wildcard_subscriptions_receive_updates_when_new_resources_are_added,
            when_subscribing_to_specific_resources_receive_only_these_resources,
            when_subscribing_to_specific_resources_receive_response_when_those_resources_change,
            when_subscribing_to_specific_resources_receive_those_alone_that_change,
            when_subscribing_to_resources_that_do_not_exist_receive_response_when_they_are_created,
            when_subscribing_to_resources_that_do_not_exist_receive_those_alone_that_are_created;
        unsubscribing: client_can_unsubscribe_from_some_resources,
            client_can_unsubscribe_from_some_resources_and_receives_only_the_rest,
            client_can_unsubscribe_from_all_resources;
    }
}

mod delta {
    use crate::Variant::DeltaSeparate;

    crate::scenarios! {
        DeltaSeparate,
        subscribing: when_subscribing_to_specific_resources_receive_only_these_resources;
        delta: subscribe_to_resources_one_after_the_other,
            when_a_resource_is_updated_receive_response_for_only_that_resource,
            client_is_told_if_resource_does_not_exist_and_is_notified_if_it_is_created,
            client_is_told_when_a_resource_is_removed_via_removed_resources_field,
            client_can_incrementally_unsubscribe_from_resources;
    }
}

//! Result of any sequence of changes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::super::Registry;
use super::{ObservedState, objects, options, upsert};
use crate::source::kubernetes::PendingPods;
use crate::source::objects::{Object, ObjectChange};

/// Few names and values, so that objects refer to each other and collide.
fn any_object() -> impl Strategy<Value = Object> {
    let name = || prop::sample::select(vec!["a", "b"]);
    let ip = || prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
    let service = (name(), prop::sample::select(vec!["None", "10.9.9.9"])).prop_map(|(name, cluster_ip)| {
        format!("{{apiVersion: v1, kind: Service, metadata: {{name: {name}}}, spec: {{clusterIP: {cluster_ip}, ports: [{{port: 80}}]}}}}")
    });
    let slice = (name(), name(), ip(), prop::option::of(name()), any::<bool>()).prop_map(
        |(name, service, ip, pod, ready)| {
            let target = pod.map(|pod| format!(", targetRef: {{kind: Pod, name: {pod}}}")).unwrap_or_default();
            format!(
                "{{apiVersion: discovery.k8s.io/v1, kind: EndpointSlice, addressType: IPv4, ports: [{{port: 80}}],
                metadata: {{name: {name}, labels: {{kubernetes.io/service-name: {service}}}}},
                endpoints: [{{addresses: [{ip}], nodeName: {service}, conditions: {{ready: {ready}}}{target}}}]}}"
            )
        },
    );
    let legacy = (name(), ip()).prop_map(|(name, ip)| {
        format!("{{apiVersion: v1, kind: Endpoints, metadata: {{name: {name}}}, subsets: [{{addresses: [{{ip: {ip}}}], ports: [{{port: 80}}]}}]}}")
    });
    let pod = (name(), ip(), name(), name()).prop_map(|(name, ip, node, label)| {
        format!("{{apiVersion: v1, kind: Pod, metadata: {{name: {name}, labels: {{app: {label}}}}}, spec: {{nodeName: {node}}}, status: {{podIP: {ip}}}}}")
    });
    let node = (name(), name()).prop_map(|(name, region)| {
        format!("{{apiVersion: v1, kind: Node, metadata: {{name: {name}, labels: {{topology.kubernetes.io/region: {region}}}}}}}")
    });
    let system = name().prop_map(|network| {
        format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: istio-system, labels: {{topology.istio.io/network: {network}}}}}}}")
    });
    let near = prop_oneof![Just("PreferClose"), Just("PreferSameNode"), Just("Any")].prop_map(|distribution| {
        format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: default, annotations: {{networking.istio.io/traffic-distribution: {distribution}}}}}}}")
    });
    let entry = (name(), name()).prop_map(|(name, host)| {
        format!("{{apiVersion: networking.istio.io/v1, kind: ServiceEntry, metadata: {{name: {name}}}, spec: {{hosts: [{host}.example]}}}}")
    });
    prop_oneof![service, slice, legacy, pod, node, system, near, entry]
        .prop_map(|yaml| objects(&yaml).remove(0))
}

fn any_event() -> impl Strategy<Value = ObjectChange> {
    (any_object(), prop::bool::weighted(0.7))
        .prop_map(|(object, stays)| if stays { upsert(object) } else { ObjectChange::Deleted(object.key()) })
}

proptest! {
    #[test]
    fn services_and_endpoints_depend_on_the_objects_and_not_on_their_order(
        events in prop::collection::vec(any_event(), 0..40),
        batch in 1_usize..5,
        hold in any::<bool>(),
    ) {
        let options = options(if hold { PendingPods::Hold } else { PendingPods::Pass });
        let mut objects = BTreeMap::new();
        for event in &events {
            match event {
                ObjectChange::Added(object) | ObjectChange::Updated(object) => {
                    objects.insert(object.key(), object.clone());
                }
                ObjectChange::Deleted(key) => drop(objects.remove(key)),
            }
        }

        let mut incremental = Registry::new(options.clone());
        let mut state = ObservedState::default();
        for events in events.chunks(batch) {
            for change in incremental.apply(events.to_vec()) {
                state.apply(change);
            }
        }

        let mut fresh = Registry::new(options);
        let mut expected = ObservedState::default();
        for change in fresh.apply(objects.into_values().rev().map(upsert)) {
            expected.apply(change);
        }
        prop_assert_eq!(state, expected);
    }
}

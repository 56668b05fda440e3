//! Validation of fields that several kinds have: `exportTo`, selectors, `targetRefs`, destinations.

use std::collections::BTreeSet;

use super::findings::{At, Findings};
use super::values::is_dns_label;
use crate::api::selector::{MatchLabels, PolicyTargetReference, WorkloadSelector};
use crate::api::virtual_service::Destination;

/// Type of an object with `exportTo`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Exporter {
    /// A service: may be exported to no namespace.
    Service,
    /// A rule for some clients of its own namespace.
    Selective,
    /// Other objects.
    Other,
}

/// Maximum number of targets of one object.
const MOST_TARGETS: usize = 16;
/// Valid targets of `targetRefs`: group and kind.
const TARGETS: [(&str, &str); 4] = [
    ("", "Service"),
    ("networking.istio.io", "ServiceEntry"),
    ("gateway.networking.k8s.io", "Gateway"),
    ("gateway.networking.k8s.io", "GatewayClass"),
];

impl Findings {
    /// Checks `exportTo` of an object in this namespace.
    pub(super) fn export_to(&mut self, at: At<'_>, namespace: &str, targets: &[String], exporter: Exporter) {
        let mut seen = BTreeSet::new();
        for (index, target) in targets.iter().enumerate() {
            let meant = if target == "." { namespace } else { target.as_str() };
            if !seen.insert(meant) {
                self.error(at.nth(index), format!("{meant:?} is there before"));
            }
            match meant {
                "*" => {}
                "~" if exporter == Exporter::Service => {}
                "~" => self.error(at.nth(index), "only services may be exported to no namespace"),
                name if is_dns_label(name) => {}
                name => {
                    self.error(at.nth(index), format!("{name:?} is neither \"*\", \".\" nor a namespace"));
                }
            }
        }
        if exporter == Exporter::Selective && seen.iter().any(|target| *target != namespace) {
            self.error(at, "with a workloadSelector a rule stays in its own namespace");
        }
        if seen.contains("*") && targets.len() > 1 {
            self.error(at, "\"*\" is all namespaces, and excludes others");
        }
        if seen.contains("~") && targets.len() > 1 {
            self.error(at, "\"~\" is no namespace, and excludes others");
        }
    }

    /// Checks `workloadSelector` of the older kinds.
    pub(super) fn workload_selector(&mut self, at: At<'_>, selector: Option<&WorkloadSelector>) {
        if let Some(selector) = selector {
            self.selector(at.of("labels"), &selector.labels);
        }
    }

    /// Checks `selector` of the newer kinds.
    pub(super) fn match_labels(&mut self, at: At<'_>, selector: Option<&MatchLabels>) {
        if let Some(selector) = selector {
            self.selector(at.of("matchLabels"), &selector.match_labels);
        }
    }

    /// Checks `targetRefs`.
    pub(super) fn target_refs(&mut self, at: At<'_>, targets: &[PolicyTargetReference]) {
        self.at_most(at, targets.len(), MOST_TARGETS);
        for (index, target) in targets.iter().enumerate() {
            self.target_ref(at.nth(index), target);
        }
    }

    /// Checks `targetRef`.
    pub(super) fn target_ref(&mut self, at: At<'_>, target: &PolicyTargetReference) {
        self.present(at.of("name"), &target.name);
        if !target.namespace.is_empty() {
            self.error(at.of("namespace"), "only objects of the same namespace can be named");
        }
        let group = if target.group == "core" { "" } else { &target.group };
        if !TARGETS.contains(&(group, &target.kind)) {
            let known = TARGETS
                .map(|(group, kind)| if group.is_empty() { kind.into() } else { format!("{group}/{kind}") });
            let message = format!("{:?} of {group:?} is none of {}", target.kind, known.join(", "));
            self.error(at.of("kind"), message);
        }
    }

    /// Checks a destination.
    pub(super) fn destination(&mut self, at: At<'_>, destination: &Destination) {
        if destination.host.is_empty() {
            self.error(at.of("host"), "is missing");
        } else if destination.host == "*" {
            self.error(at.of("host"), "\"*\" is no destination");
        } else {
            self.wildcard_host(at.of("host"), &destination.host);
        }
        if !destination.subset.is_empty() {
            self.label(at.of("subset"), &destination.subset);
        }
        if let Some(port) = destination.port {
            self.port(at.of("port").of("number"), port.number);
        }
    }
}

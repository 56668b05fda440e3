//! Patches of network filters.

use std::sync::Arc;

use pilot_proto::envoy::config::listener::v3::Filter;

use super::edit::{edit, insert, place};
use super::http::http_filters;
use super::outcome::{Outcomes, Verdict};
use super::value::{Configured, Thing};
use super::{Patch, filter_name, of_kind};
use crate::api::envoy_filter::{ApplyTo, FilterClass, FilterMatch, PatchOperation};

/// Applies patches of a chain to its filters: first those that change the list, then those that change single filters.
pub(super) fn network_filters(patches: &[&Arc<Patch>], filters: &mut Vec<Filter>, outcomes: &mut Outcomes) {
    let own: Vec<&Arc<Patch>> = of_kind(patches, ApplyTo::NetworkFilter).collect();
    edit_filters(&own, filters, |patch| patch.filter().map(|filter| filter.name.as_str()), outcomes);
    for filter in filters {
        for patch in own.iter().filter(|patch| patch.merges()) {
            // Matched for each patch: the previous one may have renamed the filter.
            if patch.is_about_filter(&filter.name) {
                outcomes.note(patch, patch.merge_into_filter(filter));
            }
        }
        if filter.name == filter_name::CONNECTION_MANAGER {
            http_filters(patches, filter, outcomes);
        }
    }
}

/// Applies patches that change a list of filters. `anchor` is the name of the filter that a patch refers to.
pub(super) fn edit_filters<T: Thing + Configured>(
    patches: &[&Arc<Patch>],
    filters: &mut Vec<T>,
    anchor: impl Fn(&Patch) -> Option<&str>,
    outcomes: &mut Outcomes,
) {
    let mut added = Vec::new();
    for patch in patches.iter().filter(|patch| !patch.merges()) {
        let verdict = match (patch.operation, patch.class) {
            (PatchOperation::Add, class) if class != FilterClass::Unspecified => {
                let names: Vec<&str> = filters.iter().map(Configured::name).collect();
                let at = place(class, &names, &added);
                added.extend(patch.brings::<T>().map(|filter| (filter.name().to_owned(), class)));
                insert(filters, at, patch)
            }
            _ => {
                let anchor = anchor(patch);
                edit(filters, patch, anchor.map(|name| move |filter: &T| filter.name() == name))
            }
        };
        outcomes.note(patch, verdict);
    }
}

// === impl Patch ===

impl Patch {
    /// Returns the condition on network filters; `None`: any filter.
    pub(super) fn filter(&self) -> Option<&FilterMatch> {
        self.listener.as_ref()?.filter_chain.as_ref()?.filter.as_ref()
    }

    pub(super) fn is_about_filter(&self, name: &str) -> bool {
        self.filter().is_none_or(|filter| filter.name == name)
    }
}

impl Outcomes {
    /// Notes the same failure of each of these patches.
    pub(super) fn fail(&mut self, patches: &[&Arc<Patch>], reason: &str) {
        for patch in patches {
            self.note(patch, Verdict::Failed(reason.to_owned()));
        }
    }
}

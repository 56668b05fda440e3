//! Header operations of a rule.
//! <https://istio.io/latest/docs/reference/config/networking/virtual-service/#Headers>

use pilot_proto::envoy::config::core::v3::header_value_option::HeaderAppendAction;
use pilot_proto::envoy::config::core::v3::{HeaderValue, HeaderValueOption};
use pilot_proto::envoy::config::route::v3::Route;
use pilot_proto::envoy::config::route::v3::weighted_cluster::ClusterWeight;

use crate::api::values::Map;
use crate::api::virtual_service::{HeaderOperations, Headers};

/// Changes to the headers of requests and responses.
#[derive(Default)]
pub(super) struct HeaderMutations {
    request_add: Vec<HeaderValueOption>,
    request_remove: Vec<String>,
    response_add: Vec<HeaderValueOption>,
    response_remove: Vec<String>,
    authority: Option<String>,
}

// === impl HeaderMutations ===

impl HeaderMutations {
    pub(super) fn of(headers: Option<&Headers>) -> Self {
        let Some(headers) = headers else { return Self::default() };
        let (request_add, request_remove) = changes(headers.request.as_ref());
        let (response_add, response_remove) = changes(headers.response.as_ref());
        let authority =
            |map: &Map| map.iter().rfind(|(name, _)| is_authority(name)).map(|(_, to)| to.clone());
        let request = headers.request.as_ref();
        Self {
            request_add,
            request_remove,
            response_add,
            response_remove,
            authority: request
                .and_then(|request| authority(&request.set).or_else(|| authority(&request.add))),
        }
    }

    /// Adds the changes to those of a route and returns the rewritten host.
    pub(super) fn apply(self, to: &mut Route) -> Option<String> {
        to.request_headers_to_add.extend(self.request_add);
        to.request_headers_to_remove.extend(self.request_remove);
        to.response_headers_to_add.extend(self.response_add);
        to.response_headers_to_remove.extend(self.response_remove);
        self.authority
    }

    /// Sets the changes of a weighted cluster and returns the rewritten host.
    pub(super) fn apply_to_weight(self, to: &mut ClusterWeight) -> Option<String> {
        to.request_headers_to_add = self.request_add;
        to.request_headers_to_remove = self.request_remove;
        to.response_headers_to_add = self.response_add;
        to.response_headers_to_remove = self.response_remove;
        self.authority
    }
}

/// Returns the headers to add and to remove.
fn changes(operations: Option<&HeaderOperations>) -> (Vec<HeaderValueOption>, Vec<String>) {
    let Some(operations) = operations else { return (Vec::new(), Vec::new()) };
    let set = operations.set.iter().map(|header| (header, HeaderAppendAction::OverwriteIfExistsOrAdd));
    let add = operations.add.iter().map(|header| (header, HeaderAppendAction::AppendIfExistsOrAdd));
    let added = set.chain(add).filter(|((name, _), _)| is_changeable(name)).map(|((name, value), action)| {
        HeaderValueOption {
            header: Some(HeaderValue { key: name.clone(), value: value.clone(), ..HeaderValue::default() }),
            append_action: action.into(),
            ..HeaderValueOption::default()
        }
    });
    (added.collect(), operations.remove.iter().filter(|name| is_changeable(name)).cloned().collect())
}

/// Returns false for headers that Envoy does not allow a route to change: pseudo-headers and `host`.
fn is_changeable(name: &str) -> bool {
    !name.is_empty() && !name.starts_with(':') && !name.eq_ignore_ascii_case("host")
}

fn is_authority(name: &str) -> bool {
    name.eq_ignore_ascii_case(":authority") || name.eq_ignore_ascii_case("host")
}

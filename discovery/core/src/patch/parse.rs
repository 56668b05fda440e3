//! Parses an `EnvoyFilter` to patches.
//!
//! A patch that does not fit Envoy's API is left out with a finding; the others stay. Unknown fields are ignored with a finding,
//! as in Istio: they may be those of another version of Envoy's API. Patches that `validate` rejects are left out without another
//! finding.

use std::sync::Arc;

use pilot_proto::merge::Lists;
use pilot_proto::proto3_json::{self, RemarkKind};
use serde_json::Value as Json;

use super::Patch;
use super::filter_name::{self, Level};
use super::proxy::ProxyCondition;
use super::value::{Merge, Thing, Value, explain};
use crate::api::EnvoyFilter;
use crate::api::envoy_filter::{
    ApplyTo, ConfigPatch, FilterClass, ListenerMatch, ObjectMatch, PatchContext, PatchOperation as Operation,
};
use crate::api::selector::PolicyTargetReference;
use crate::api::values::Map;
use crate::model::{ChangeKind, ConfigKey, ConfigKind, ConfigMeta};
use crate::validate::Finding;
use pilot_proto::envoy::config::cluster::v3::Cluster;
use pilot_proto::envoy::config::core::v3::TypedExtensionConfig;
use pilot_proto::envoy::config::listener::v3::{Filter, FilterChain, Listener, ListenerFilter};
use pilot_proto::envoy::config::route::v3::{Route, RouteConfiguration, VirtualHost};
use pilot_proto::envoy::extensions::filters::network::http_connection_manager::v3::HttpFilter;

/// Parsed `EnvoyFilter`.
#[derive(Clone, Debug)]
pub struct Patches {
    /// The object.
    pub object: ConfigKey,
    /// Creation time in seconds since 1970; 0 if unknown.
    pub created: i64,
    /// Priority; lower ones are applied first.
    pub priority: i32,
    pub(super) selector: Option<Map>,
    pub(super) targets: Vec<PolicyTargetReference>,
    pub(super) listed: Vec<Arc<Patch>>,
}

/// Entry of `configPatches` during parsing.
struct Reading<'a> {
    path: String,
    findings: &'a mut Vec<Finding>,
}

// === impl Patches ===

impl Patches {
    /// Parses an object. An error among the findings concerns one patch, which is left out.
    pub fn parse(meta: &ConfigMeta, written: &EnvoyFilter) -> (Self, Vec<Finding>) {
        let object = ConfigKey {
            kind: ChangeKind::Config(ConfigKind::EnvoyFilter),
            namespace: meta.namespace.clone(),
            name: meta.name.clone(),
        };
        let mut findings = Vec::new();
        let mut patches = Vec::new();
        for (index, patch) in written.config_patches.iter().enumerate() {
            let mut reading =
                Reading { path: format!("spec.configPatches[{index}]"), findings: &mut findings };
            patches.extend(reading.patch(&object, index, patch).map(Arc::new));
        }
        let parsed = Self {
            object,
            created: meta.created,
            priority: written.priority,
            selector: written.workload_selector.as_ref().map(|selector| selector.labels.clone()),
            targets: written.target_refs.clone(),
            listed: patches,
        };
        (parsed, findings)
    }

    /// Returns the patches in order.
    pub fn patches(&self) -> &[Arc<Patch>] {
        &self.listed
    }
}

// === impl Reading ===

impl Reading<'_> {
    fn patch(&mut self, object: &ConfigKey, index: usize, written: &ConfigPatch) -> Option<Patch> {
        let matching = written.r#match.clone().unwrap_or_default();
        if matching.context == PatchContext::Waypoint {
            return self.without_effect("match.context", "there are no waypoints here");
        }
        if written.apply_to == ApplyTo::Bootstrap {
            return self.without_effect("applyTo", "is rendered beside the proxy and not changed from here");
        }
        let patch = written.patch.as_ref().filter(|patch| patch.operation != Operation::Invalid)?;
        if !is_matched_as_such(written.apply_to, &matching) {
            return None;
        }
        let proxy = ProxyCondition::of(matching.proxy.as_ref()).ok()?;
        let operation = effective(written.apply_to, patch.operation);
        if !has_effect(written.apply_to, operation) {
            return self
                .without_effect("patch.operation", format!("has no effect on {}", name(written.apply_to)));
        }
        let (value, merge) = match operation {
            Operation::Remove => (None, None),
            _ => self.value(written.apply_to, operation, patch.value.as_ref()?)?,
        };
        let added_last = (written.apply_to, operation, patch.filter_class)
            == (ApplyTo::HttpFilter, Operation::Add, FilterClass::Unspecified);
        if added_last {
            self.warn(
                "patch.operation",
                "puts it behind the router, where Envoy allows none; use INSERT_BEFORE",
            );
        }
        Some(Patch {
            object: object.clone(),
            index,
            apply_to: written.apply_to,
            operation,
            class: patch.filter_class,
            context: matching.context,
            proxy,
            listener: matching.listener.map(|listener| self.listener(listener)),
            routes: matching.route_configuration,
            cluster: matching.cluster,
            value,
            merge,
        })
    }

    /// Returns the condition with current names of filters.
    fn listener(&mut self, mut written: ListenerMatch) -> ListenerMatch {
        self.rename("match.listener.listenerFilter", Level::Listener, &mut written.listener_filter);
        let filter = written.filter_chain.as_mut().and_then(|chain| chain.filter.as_mut());
        if let Some(filter) = filter {
            self.rename("match.listener.filterChain.filter.name", Level::Network, &mut filter.name);
            if let Some(inner) = &mut filter.sub_filter {
                self.rename("match.listener.filterChain.filter.subFilter.name", Level::Http, &mut inner.name);
            }
        }
        written
    }

    fn rename(&mut self, field: &str, level: Level, name: &mut String) {
        if let Some(today) = filter_name::successor(level, name) {
            self.warn(field, format!("{name} is deprecated; use {today}"));
            today.clone_into(name);
        }
    }

    fn value(
        &mut self,
        apply_to: ApplyTo,
        operation: Operation,
        value: &Json,
    ) -> Option<(Option<Value>, Option<Merge>)> {
        match apply_to {
            ApplyTo::Listener => self.message::<Listener>(operation, value),
            ApplyTo::ListenerFilter => self.message::<ListenerFilter>(operation, value),
            ApplyTo::FilterChain => self.message::<FilterChain>(operation, value),
            ApplyTo::NetworkFilter => self.message::<Filter>(operation, value),
            ApplyTo::HttpFilter => self.message::<HttpFilter>(operation, value),
            ApplyTo::RouteConfiguration => self.message::<RouteConfiguration>(operation, value),
            ApplyTo::VirtualHost => self.message::<VirtualHost>(operation, value),
            ApplyTo::HttpRoute => self.message::<Route>(operation, value),
            ApplyTo::Cluster => self.message::<Cluster>(operation, value),
            ApplyTo::ExtensionConfig => self.message::<TypedExtensionConfig>(operation, value),
            ApplyTo::Bootstrap | ApplyTo::Invalid => None,
        }
    }

    /// Decodes the value as a message of this type, with its merge plan.
    fn message<T: Thing>(
        &mut self,
        operation: Operation,
        value: &Json,
    ) -> Option<(Option<Value>, Option<Merge>)> {
        let remarks = match proto3_json::inspect(&T::full_name(), value) {
            Ok(remarks) => remarks,
            Err(error) => return self.reject("patch.value", explain(&error)),
        };
        let mut fits = true;
        for remark in remarks {
            let dot = if remark.path.is_empty() || remark.path.starts_with('[') { "" } else { "." };
            let field = format!("patch.value{dot}{}", remark.path);
            if matches!(remark.kind, RemarkKind::UnknownType(_) | RemarkKind::Unfit(_)) {
                fits = false;
                self.reject::<()>(&field, remark.to_string());
            } else {
                self.warn(&field, remark.to_string());
            }
        }
        if !fits {
            return None;
        }
        let message: T = match proto3_json::from_value_of_any_version(value) {
            Ok(message) => message,
            Err(error) => return self.reject("patch.value", explain(&error)),
        };
        let lists = match operation {
            Operation::Merge => Lists::Append,
            Operation::MergeAndReplaceList => Lists::Replace,
            _ => {
                if message.is_bare() {
                    self.warn(
                        "patch.value",
                        "has a name and no typed_config, which is what Envoy finds extensions by",
                    );
                }
                return Some((Some(message.into_value()), None));
            }
        };
        match Merge::of(&message, lists) {
            Ok(merge) => Some((Some(message.into_value()), Some(merge))),
            Err(error) => self.reject("patch.value", explain(&error)),
        }
    }

    fn reject<T>(&mut self, field: &str, message: impl Into<String>) -> Option<T> {
        self.findings.push(Finding::error(format!("{}.{field}", self.path), message));
        None
    }

    fn without_effect<T>(&mut self, field: &str, message: impl Into<String>) -> Option<T> {
        self.warn(field, message);
        None
    }

    fn warn(&mut self, field: &str, message: impl Into<String>) {
        self.findings.push(Finding::warning(format!("{}.{field}", self.path), message));
    }
}

/// Returns `true` unless the condition is on objects of another type, which never match.
const fn is_matched_as_such(apply_to: ApplyTo, matching: &ObjectMatch) -> bool {
    let (listener, routes) = (matching.listener.is_some(), matching.route_configuration.is_some());
    let (cluster, waypoint) = (matching.cluster.is_some(), matching.waypoint.is_some());
    match apply_to {
        ApplyTo::Listener | ApplyTo::FilterChain | ApplyTo::NetworkFilter | ApplyTo::HttpFilter => {
            !(routes || cluster || waypoint)
        }
        ApplyTo::RouteConfiguration | ApplyTo::VirtualHost | ApplyTo::HttpRoute => {
            !(listener || cluster || waypoint)
        }
        ApplyTo::Cluster => !(listener || routes || waypoint),
        ApplyTo::ListenerFilter | ApplyTo::ExtensionConfig | ApplyTo::Bootstrap => true,
        ApplyTo::Invalid => false,
    }
}

/// Returns the effective operation: objects in unordered lists are added, not inserted.
const fn effective(apply_to: ApplyTo, operation: Operation) -> Operation {
    let ordered = matches!(
        apply_to,
        ApplyTo::HttpFilter | ApplyTo::NetworkFilter | ApplyTo::HttpRoute | ApplyTo::ListenerFilter
    );
    match operation {
        Operation::InsertAfter | Operation::InsertBefore | Operation::InsertFirst if !ordered => {
            Operation::Add
        }
        operation => operation,
    }
}

/// Returns `true` if an operation is valid for a type. `MERGE_AND_REPLACE_LIST` of filter configuration is supported here and not
/// in Istio.
const fn has_effect(apply_to: ApplyTo, operation: Operation) -> bool {
    match operation {
        Operation::Invalid => false,
        Operation::Merge | Operation::MergeAndReplaceList => !matches!(apply_to, ApplyTo::ExtensionConfig),
        Operation::Add => !matches!(apply_to, ApplyTo::RouteConfiguration),
        Operation::Remove => !matches!(apply_to, ApplyTo::RouteConfiguration | ApplyTo::ExtensionConfig),
        Operation::InsertAfter | Operation::InsertBefore | Operation::InsertFirst => true,
        Operation::Replace => matches!(
            apply_to,
            ApplyTo::ListenerFilter | ApplyTo::NetworkFilter | ApplyTo::HttpFilter | ApplyTo::VirtualHost
        ),
    }
}

/// Returns the spelling of the API.
fn name(word: impl serde::Serialize) -> String {
    match serde_json::to_value(word) {
        Ok(Json::String(name)) => name,
        _ => String::new(),
    }
}

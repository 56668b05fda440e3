//! Selection of the `Telemetry` objects of a proxy, and the providers that they refer to.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use pilot_proto::mesh::ExtensionProvider;
use pilot_proto::mesh::proxy_config::{ControlPlaneOptions, Spans};

use super::View;
use crate::api::Telemetry;
use crate::api::values::Double;
use crate::generate::telemetry::{
    self, AccessLogRule, AccessLogSink, AccessLogger, Collector, ProviderError, TracingRule, TracingSettings,
    TrafficSide, access_log_rules, istio_tags, tracing_rule,
};
use crate::generate::{RejectReason, Rejected};
use crate::model::{ClusterName, ConfigKind, ConfigObject, ConfigSpec, Hostname, Labels, Namespace, selects};

/// Default percentage of traced requests, as in Istio.
const SAMPLING: f64 = 1.0;

/// Label of the proxies of a Kubernetes `Gateway`.
const GATEWAY: &str = "gateway.networking.k8s.io/gateway-name";

/// Telemetry of a proxy in one direction of traffic.
#[derive(Debug, Default)]
pub(super) struct Reports {
    pub(super) logs: Vec<AccessLogger>,
    pub(super) traces: Option<TracingSettings>,
    /// Findings about providers that cannot be used.
    pub(super) rejected: Vec<Rejected>,
}

// === impl View ===

impl<'a> View<'a> {
    pub(super) fn reports(self, side: TrafficSide, steering: &ControlPlaneOptions) -> Reports {
        let mesh = &self.push.mesh;
        let labels = self.push.labels_of(self.proxy);
        let objects = self.telemetries(&labels);
        let rejected = RefCell::default();
        let levels: Vec<_> =
            objects.iter().map(|spec| &*spec.access_logging).filter(|rules| !rules.is_empty()).collect();
        let rules = access_log_rules(&levels, &mesh.default_providers.access_logging, side);
        let logs = self.logs(rules, &rejected).unwrap_or_else(|| self.logs_of_mesh(steering));

        let default = mesh.default_providers.tracing.first().map(String::as_str);
        let rule = tracing_rule(objects.iter().flat_map(|spec| &spec.tracing), default, side);
        let traces = match (rule, &steering.spans) {
            (Some(rule), spans) => self.traces(&rule, spans.as_ref(), &labels, &rejected),
            (None, Some(spans)) if mesh.enable_tracing => Some(self.traces_of_bootstrap(spans, &labels)),
            (None, _) => None,
        };
        Reports { logs, traces, rejected: rejected.into_inner() }
    }

    /// Returns the objects for a proxy: the oldest for the whole mesh, the oldest for its whole namespace, and those for its
    /// workload, oldest first.
    fn telemetries(self, labels: &Labels) -> Vec<&'a Telemetry> {
        let root = Namespace::from(&*self.push.mesh.root_namespace);
        let own = &self.proxy.namespace;
        let for_all =
            |namespace: &Namespace| self.written(namespace).into_iter().find(|spec| spec.is_for_all());
        let mut found: Vec<&'a Telemetry> = for_all(&root).into_iter().collect();
        if root != *own {
            found.extend(for_all(own));
        }
        found.extend(self.written(own).into_iter().filter(|spec| !spec.is_for_all() && spec.selects(labels)));
        found
    }

    /// Returns the objects of a namespace, oldest first.
    fn written(self, namespace: &Namespace) -> Vec<&'a Telemetry> {
        let mut objects: Vec<&'a Arc<ConfigObject>> =
            self.push.configs_in(ConfigKind::Telemetry, namespace).collect();
        objects.sort_by_key(|object| (object.meta.created, &object.meta.name));
        let specs = objects.into_iter().filter_map(|object| match &object.spec {
            ConfigSpec::Telemetry(spec) => Some(spec),
            _ => None,
        });
        specs.collect()
    }

    /// Returns the access logs of `Telemetry` objects; `None`: there are none, and the mesh configuration applies.
    fn logs(
        self,
        rules: BTreeMap<&str, AccessLogRule>,
        rejected: &RefCell<Vec<Rejected>>,
    ) -> Option<Vec<AccessLogger>> {
        let mesh = &self.push.mesh;
        let usable = rules.into_iter().filter_map(|(name, rule)| {
            let made = self
                .provided(name, rejected, |provider, find| telemetry::access_log_sink(provider, mesh, find));
            Some((made?, rule))
        });
        let usable: Vec<(AccessLogSink, AccessLogRule)> = usable.collect();
        let any = !usable.is_empty();
        let logs = usable.into_iter().filter_map(|(sink, rule)| match rule {
            AccessLogRule::Enabled(expression) => Some(AccessLogger { sink, expression }),
            AccessLogRule::Disabled => None,
        });
        any.then(|| logs.collect())
    }

    fn logs_of_mesh(self, steering: &ControlPlaneOptions) -> Vec<AccessLogger> {
        let mesh = &self.push.mesh;
        let file = (!mesh.access_log_file.is_empty())
            .then(|| telemetry::mesh_access_log_file(&mesh.access_log_file, mesh));
        // Envoy rejects a listener that logs to a missing cluster.
        let service = (mesh.enable_envoy_access_log_service && steering.has_log_service)
            .then_some(AccessLogSink::Bootstrap);
        file.into_iter().chain(service).map(|sink| AccessLogger { sink, expression: None }).collect()
    }

    fn traces(
        self,
        rule: &TracingRule<'_>,
        spans: Option<&Spans>,
        labels: &Labels,
        rejected: &RefCell<Vec<Rejected>>,
    ) -> Option<TracingSettings> {
        let provider = rule.provider?;
        let tracer = self.provided(provider, rejected, |provider, find| {
            telemetry::tracing_provider(provider, self.proxy, find)
        })?;
        let of_istio = rule.istio_tags.then(|| istio_tags(self.proxy, labels)).into_iter().flatten();
        let own = rule.tags.or(spans.map(|spans| &spans.custom_tags)).into_iter().flatten();
        Some(TracingSettings {
            provider: Some(tracer),
            sampling: rule.sampling.unwrap_or_else(|| sampling(spans)),
            tags: of_istio.chain(own.map(|(name, tag)| (name.clone(), tag.clone()))).collect(),
            max_path_tag_length: spans.map_or(0, |spans| spans.max_path_tag_length),
            use_request_id: rule.use_request_id,
            context_propagation: rule.context_propagation,
        })
    }

    /// Returns the tracing by the tracer of the bootstrap. Without a tracer nothing is traced, and tags, which differ between
    /// proxies, would only keep them from sharing listeners.
    fn traces_of_bootstrap(self, spans: &Spans, labels: &Labels) -> TracingSettings {
        let of_istio = (spans.enable_istio_tags != Some(false)).then(|| istio_tags(self.proxy, labels));
        let own = spans.custom_tags.iter().map(|(name, tag)| (name.clone(), tag.clone()));
        TracingSettings {
            provider: None,
            sampling: sampling(Some(spans)),
            tags: of_istio.into_iter().flatten().chain(own).collect(),
            max_path_tag_length: spans.max_path_tag_length,
            use_request_id: true,
            context_propagation: true,
        }
    }

    /// Returns the result of a provider, if it exists and the proxy can reach it.
    fn provided<T>(
        self,
        name: &str,
        rejected: &RefCell<Vec<Rejected>>,
        make: impl FnOnce(&ExtensionProvider, telemetry::FindCollector<'_>) -> Result<T, ProviderError>,
    ) -> Option<T> {
        let reject = |why: &'static str| {
            rejected.borrow_mut().push(Rejected {
                subject: format!("extension provider {name}"),
                service: Hostname::from(""),
                reason: RejectReason::Unusable(why),
            });
        };
        let providers = &self.push.mesh.extension_providers;
        let Some(provider) = providers.iter().find(|provider| provider.name.eq_ignore_ascii_case(name))
        else {
            reject("the mesh has no such provider");
            return None;
        };
        match make(provider, &|service, port| self.collector(service, port)) {
            Ok(found) => Some(found),
            Err(ProviderError::UnsupportedKind) => {
                reject("takes nothing of the kind that it is to take");
                None
            }
            Err(ProviderError::ServiceNotFound) => {
                reject("the proxy sees no service of that name with that port, or several");
                None
            }
        }
    }

    /// Returns the service of a provider, among those visible to the proxy: Envoy rejects a listener that reports to a missing
    /// cluster.
    fn collector(self, service: &str, port: u32) -> Option<Collector> {
        let (namespace, host) = match service.split_once('/') {
            Some((namespace, host)) => (Some(namespace), host),
            None => (None, service),
        };
        let host = Hostname::from(host);
        let mut declared = self.push.of_host(&host).map(|service| &service.namespace);
        let place = match namespace {
            Some(namespace) => Namespace::from(namespace),
            None => {
                let only = declared.next()?.clone();
                if declared.next().is_some() {
                    return None;
                }
                only
            }
        };
        let seen = self.scope.by_host(host.as_str()).filter(|seen| seen.service.namespace == place)?;
        let port = seen.port(u16::try_from(port).ok()?)?.port;
        let cluster = ClusterName::outbound(port, &host).to_string();
        Some(Collector { host: host.to_string(), cluster })
    }
}

/// Returns the percentage of the proxy's `ProxyConfig`, if it is valid.
fn sampling(spans: Option<&Spans>) -> Double {
    let said = spans.map(|spans| spans.sampling).filter(|said| (0.0..=100.0).contains(said) && *said > 0.0);
    Double(said.unwrap_or(SAMPLING))
}

// === impl Telemetry ===

impl Telemetry {
    fn is_for_all(&self) -> bool {
        let selector = self.selector.as_ref().is_some_and(|selector| !selector.match_labels.is_empty());
        !selector && self.target_ref.is_none() && self.target_refs.is_empty()
    }

    /// Returns `true` if an object with a selector is for a workload: by its labels, or by the name of its Kubernetes `Gateway`.
    fn selects(&self, labels: &Labels) -> bool {
        let mut targets =
            self.target_refs.iter().chain(self.target_ref.iter().filter(|_| self.target_refs.is_empty()));
        match (labels.get(GATEWAY), &self.selector) {
            (Some(gateway), None) => targets.any(|target| {
                target.group == "gateway.networking.k8s.io"
                    && target.kind == "Gateway"
                    && target.name == *gateway
            }),
            (_, Some(selector)) => selects(&selector.match_labels, labels),
            (None, None) => false,
        }
    }
}

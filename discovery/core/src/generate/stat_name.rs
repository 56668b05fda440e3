//! Statistics names from the patterns of the mesh.
//! <https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#MeshConfig>

use crate::model::{Service, ServicePort, TargetPort};

/// Values of the variables in a pattern.
#[derive(Clone, Copy)]
pub(super) struct StatNameVariables<'a> {
    pub(super) service: &'a Service,
    pub(super) port: &'a ServicePort,
    /// Name of the subset; empty: the whole service.
    pub(super) subset: &'a str,
    /// Port of the workload; `None`: `targetPort` of the service.
    pub(super) target: Option<u16>,
}

// === impl StatNameVariables ===

impl StatNameVariables<'_> {
    /// Expands a pattern; `None`: the pattern is empty.
    pub(super) fn expand(&self, pattern: &str) -> Option<String> {
        if pattern.is_empty() {
            return None;
        }
        let Self { service, port, .. } = self;
        let host = service.hostname.as_str();
        let (short, name) = if service.registry.has_short_names() {
            (format!("{}.{}", service.name, service.namespace), service.name.as_ref())
        } else {
            (host.to_owned(), host)
        };
        let named = match port.target {
            TargetPort::Number(number) => number,
            // Each workload may map the name to another number.
            TargetPort::Name(_) => 0,
        };
        let texts = [
            ("%SERVICE%", short.as_str()),
            ("%SERVICE_NAME%", name),
            ("%SERVICE_FQDN%", host),
            ("%SUBSET_NAME%", self.subset),
            ("%TARGET_PORT%", &self.target.unwrap_or(named).to_string()),
            ("%SERVICE_PORT%", &port.port.to_string()),
            ("%SERVICE_PORT_NAME%", &port.name),
        ];
        Some(texts.iter().fold(pattern.to_owned(), |name, (key, text)| name.replace(key, text)))
    }
}

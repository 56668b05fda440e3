//! `serviceSettings[].settings.clusterLocal`: hosts that use only endpoints of the same cluster.
//! <https://istio.io/latest/docs/ops/configuration/traffic-management/multicluster/>

use std::cmp::Reverse;
use std::collections::BTreeMap;

use pilot_proto::mesh::MeshConfig;
use serde_json::Value;

use crate::model::Hostname;

/// Hosts that use only endpoints of the same cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ClusterLocalHosts {
    exact: BTreeMap<Hostname, bool>,
    /// Longest suffix first.
    wildcard: BTreeMap<(Reverse<usize>, Hostname), bool>,
}

/// Default of `discoveryAddress`.
const DISCOVERY: &str = "istiod.istio-system.svc:15012";

// === impl ClusterLocalHosts ===

impl ClusterLocalHosts {
    /// Reads the mesh settings and adds the defaults: services of the cluster itself, and the control plane.
    pub fn of(mesh: &MeshConfig, domain_suffix: &str) -> Self {
        let address = mesh.default_config.get("discoveryAddress").and_then(Value::as_str);
        let discovery = address.filter(|address| !address.is_empty()).unwrap_or(DISCOVERY);
        let discovery = discovery.rsplit_once(':').map_or(discovery, |(host, _)| host);
        let within = |host: &str| {
            let complete = host.ends_with(domain_suffix);
            Hostname::from(if complete { host.to_owned() } else { format!("{host}.{domain_suffix}") })
        };
        let mut defaults =
            vec![within("*.kube-system.svc"), within("kubernetes.default.svc"), within(discovery)];
        let mut hosts = Self::default();
        for settings in &mesh.service_settings {
            for host in settings.hosts.iter().map(|host| Hostname::from(host.as_str())) {
                if !settings.settings.cluster_local {
                    // A setting for any host of a default disables the default.
                    defaults.retain(|default| !default.includes(&host));
                }
                hosts.add(host, settings.settings.cluster_local);
            }
        }
        for host in defaults {
            hosts.add(host, true);
        }
        hosts
    }

    /// Returns true if endpoints in other clusters are not used. The most specific setting takes precedence.
    pub fn include(&self, host: &Hostname) -> bool {
        let wildcard = || {
            self.wildcard.iter().find(|((_, wildcard), _)| wildcard.includes(host)).map(|(_, local)| local)
        };
        self.exact.get(host).or_else(wildcard).copied().unwrap_or_default()
    }

    fn add(&mut self, host: Hostname, local: bool) {
        if host.is_wildcard() {
            self.wildcard.insert((Reverse(host.as_str().len()), host), local);
        } else {
            self.exact.insert(host, local);
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn most_specific_cluster_local_setting_takes_precedence() {
        let address = |settings: Value| {
            let mesh = json!({"serviceSettings": settings, "defaultConfig": {"discoveryAddress": "pilot.own.svc:1"}});
            ClusterLocalHosts::of(&MeshConfig::from_value(mesh).unwrap(), "cluster.local")
        };
        let setting =
            |local: bool, hosts: &[&str]| json!({"settings": {"clusterLocal": local}, "hosts": hosts});
        let shop = "*.shop.svc.cluster.local";
        for (settings, host, local) in [
            (json!([]), "dns.kube-system.svc.cluster.local", true),
            (json!([]), "kubernetes.default.svc.cluster.local", true),
            (json!([]), "pilot.own.svc.cluster.local", true),
            (json!([]), "web.default.svc.cluster.local", false),
            (json!([setting(true, &["*"])]), "web.default.svc.cluster.local", true),
            (json!([setting(true, &[shop])]), "web.shop.svc.cluster.local", true),
            (
                json!([setting(true, &[shop]), setting(false, &["web.shop.svc.cluster.local"])]),
                "web.shop.svc.cluster.local",
                false,
            ),
            (
                json!([setting(true, &[shop]), setting(false, &["web.shop.svc.cluster.local"])]),
                "db.shop.svc.cluster.local",
                true,
            ),
            (json!([setting(true, &["*"]), setting(false, &[shop])]), "db.shop.svc.cluster.local", false),
            (
                json!([setting(false, &["dns.kube-system.svc.cluster.local"])]),
                "api.kube-system.svc.cluster.local",
                false,
            ),
            (json!([setting(false, &["*"])]), "dns.kube-system.svc.cluster.local", true),
        ] {
            assert_eq!(address(settings.clone()).include(&host.into()), local, "{settings} {host}");
        }
    }
}

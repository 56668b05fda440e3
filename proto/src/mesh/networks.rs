//! `MeshNetworks`: the networks of the mesh and their gateways.
//! <https://istio.io/latest/docs/reference/config/istio.mesh.v1alpha1/#MeshNetworks>

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Every network by name.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct MeshNetworks {
    /// By name.
    pub networks: BTreeMap<String, Network>,
}

/// A network. Its endpoints reach each other directly.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Network {
    /// Endpoints of the network, besides those that declare it themselves.
    pub endpoints: Vec<NetworkEndpoints>,
    /// Gateways of the network.
    pub gateways: Vec<NetworkGateway>,
}

/// A selector of endpoints. Exactly one field is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkEndpoints {
    /// Endpoints with an address in this CIDR range.
    pub from_cidr: Option<String>,
    /// Endpoints of this registry or cluster.
    pub from_registry: Option<String>,
}

/// A gateway of a network. Either address or service is set.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NetworkGateway {
    /// An IP address or a host name.
    pub address: Option<String>,
    /// A service of the network's registry that provides the addresses.
    pub registry_service_name: Option<String>,
    /// Its port, 1 to 65535.
    pub port: u16,
    /// Locality, `region/zone/sub-zone`.
    pub locality: String,
}

// === impl MeshNetworks ===

impl MeshNetworks {
    /// Reads a file that was parsed as YAML. The error names the field.
    pub fn from_value(value: Value) -> Result<Self, serde_json::Error> {
        if value.is_null() { Ok(Self::default()) } else { serde_json::from_value(value) }
    }

    /// Returns findings for settings that are not supported: the external addresses of a gateway service are unknown.
    pub fn unused(&self) -> Vec<String> {
        let of = |(name, network): (&String, &Network)| {
            let services = network.gateways.iter().filter_map(|way| way.registry_service_name.as_ref());
            let services =
                services.map(|host| format!("networks.{name}.gateways: registryServiceName {host}"));
            services.collect::<Vec<_>>()
        };
        self.networks.iter().flat_map(of).collect()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn networks_are_read_and_what_means_nothing_is_named() {
        let networks = MeshNetworks::from_value(json!({"networks": {"n1": {
            "endpoints": [{"fromCidr": "10.0.0.0/8"}, {"fromRegistry": "east"}],
            "gateways": [{"address": "1.2.3.4", "port": 15443}, {"registryServiceName": "gw.ns", "port": 15443}],
        }}}))
        .unwrap();
        assert_eq!(networks.networks["n1"].gateways[0].address.as_deref(), Some("1.2.3.4"));
        assert_eq!(networks.unused(), ["networks.n1.gateways: registryServiceName gw.ns"]);
        assert_eq!(MeshNetworks::from_value(Value::Null).unwrap(), MeshNetworks::default());
        assert!(
            MeshNetworks::from_value(json!({"networks": {"n1": {"gateways": [{"port": 70000}]}}})).is_err()
        );
    }
}

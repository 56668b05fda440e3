//! `ProxyConfig`: the object of this name, which sets a few fields of `meshConfig.defaultConfig` for some workloads.
//! <https://istio.io/latest/docs/reference/config/networking/proxy-config/>

use serde::{Deserialize, Serialize};

use super::selector::MatchLabels;
use super::values::Map;

/// `ProxyConfig.spec`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyConfig {
    /// Workloads of the namespace that it is for; absent: all.
    pub selector: Option<MatchLabels>,
    /// Worker threads; 0: one per core.
    pub concurrency: Option<i32>,
    /// Environment variables of the proxy.
    pub environment_variables: Map,
    /// Image of the proxy.
    pub image: Option<ProxyImage>,
}

/// Image of a proxy.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub struct ProxyImage {
    /// `default`, `debug`, `distroless`.
    pub image_type: String,
}

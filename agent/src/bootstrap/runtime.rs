//! Envoy's runtime: Istio's flags, over them the user's, over all of them the admin's.

use pilot_proto::mesh::proxy_config::ProxyConfig;
use serde_json::{Map, Value, json};

use crate::config::env::{Switch, Variables};

/// `layered_runtime`.
pub(super) fn layers(proxy: &ProxyConfig, variables: &Variables) -> Value {
    json!({"layers": [
        {"name": "global config", "static_layer": flags(proxy, variables)},
        {"name": "admin", "admin_layer": {}},
    ]})
}

fn flags(proxy: &ProxyConfig, variables: &Variables) -> Map<String, Value> {
    let mut flags = Map::from_iter([
        ("re2.max_program_size.error_level".to_owned(), Value::from("32768")),
        (
            "envoy.deprecated_features:envoy.config.listener.v3.Listener.hidden_envoy_deprecated_use_original_dst".into(),
            true.into(),
        ),
        ("envoy.reloadable_features.http_reject_path_with_fragment".into(), false.into()),
        ("envoy.reloadable_features.fixed_heap_use_allocated".into(), true.into()),
        // https://github.com/envoyproxy/envoy/issues/45212
        ("envoy.reloadable_features.coalesce_lb_rebuilds_on_batch_update".into(), false.into()),
    ]);
    if variables.compliance_policy == "fips-140-2" {
        flags.insert("envoy.reloadable_features.google_grpc_disable_tls_13".into(), true.into());
    }
    if !variables.is_on(Switch::StripFragment) {
        // The value of Istio's variable is a string and means the opposite of its name.
        flags.insert(
            "envoy.reloadable_features.http_strip_fragment_from_path_unsafe_if_disabled".into(),
            "false".into(),
        );
    }
    for (name, value) in &proxy.runtime_values {
        match value.as_str() {
            "" => drop(flags.remove(name)),
            "true" => drop(flags.insert(name.clone(), true.into())),
            "false" => drop(flags.insert(name.clone(), false.into())),
            value => drop(flags.insert(name.clone(), value.into())),
        }
    }
    flags
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::fault::Faults;

    fn flags_of(values: &[(&str, &str)], environment: &[(&str, &str)]) -> Map<String, Value> {
        let values = values.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect();
        let proxy = ProxyConfig { runtime_values: values, ..ProxyConfig::default() };
        let variables = Variables::read(&environment.iter().copied().collect(), &mut Faults::default());
        flags(&proxy, &variables)
    }

    #[test]
    fn the_users_value_wins_and_nothing_removes() {
        let usual = flags_of(&[], &[]);
        assert_eq!(usual.len(), 5);
        let changed = flags_of(
            &[("re2.max_program_size.error_level", ""), ("a", "true"), ("b", "false"), ("c", "5000")],
            &[],
        );
        assert_eq!(changed.len(), 7);
        assert_eq!(
            [&changed["a"], &changed["b"], &changed["c"]],
            [&json!(true), &json!(false), &json!("5000")]
        );
    }

    #[test]
    fn the_environment_adds() {
        let added = flags_of(
            &[],
            &[
                ("COMPLIANCE_POLICY", "fips-140-2"),
                ("HTTP_STRIP_FRAGMENT_FROM_PATH_UNSAFE_IF_DISABLED", "false"),
            ],
        );
        assert_eq!(added["envoy.reloadable_features.google_grpc_disable_tls_13"], json!(true));
        assert_eq!(
            added["envoy.reloadable_features.http_strip_fragment_from_path_unsafe_if_disabled"],
            json!("false")
        );
    }
}

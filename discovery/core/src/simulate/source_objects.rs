//! Source objects of a resource from its metadata.

use pilot_proto::envoy::config::core::v3::Metadata;

use super::upstream::text;

/// Returns the object in `istio.config` of the metadata as `<kind>/<namespace>/<name>`.
///
/// Istio writes the API path of the object:
/// `/apis/networking.istio.io/v1alpha3/namespaces/default/virtual-service/reviews`.
pub(super) fn of(metadata: Option<&Metadata>) -> Vec<String> {
    let fields = metadata.and_then(|metadata| metadata.filter_metadata.get("istio"));
    let path = fields.and_then(|fields| text(fields, "config"));
    path.map(object).into_iter().collect()
}

fn object(path: &str) -> String {
    let parts: Vec<&str> = path.split('/').collect();
    match parts.as_slice() {
        [.., "namespaces", namespace, kind, name] => format!("{}/{namespace}/{name}", camel(kind)),
        // It is of no form we know, and still says something.
        _ => path.to_owned(),
    }
}

/// Converts `virtual-service` to `VirtualService`.
fn camel(kind: &str) -> String {
    kind.split('-')
        .map(|word| {
            let mut letters = word.chars();
            letters
                .next()
                .map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_of_the_api_name_objects() {
        for (path, expected) in [
            (
                "/apis/networking.istio.io/v1alpha3/namespaces/default/virtual-service/reviews",
                "VirtualService/default/reviews",
            ),
            ("/apis/networking.istio.io/v1/namespaces/a/destination-rule/b", "DestinationRule/a/b"),
            ("something else", "something else"),
        ] {
            assert_eq!(object(path), expected);
        }
    }
}

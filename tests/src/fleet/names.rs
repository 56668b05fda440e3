//! Interned names, and the node ids of clients.

use std::collections::HashMap;
use std::net::Ipv4Addr;
use std::rc::Rc;

use pilot_proto::envoy::config::core::v3::Node;
use pilot_proto::google::protobuf::{Struct, Value, value::Kind};

/// Interner: text by number, number by text.
#[derive(Debug, Default)]
pub(super) struct Names {
    numbers: HashMap<Rc<str>, u32>,
    texts: Vec<Rc<str>>,
}

// === impl Names ===

impl Names {
    /// Returns the number of this text, which never changes.
    pub(super) fn number(&mut self, text: &str) -> u32 {
        if let Some(number) = self.numbers.get(text) {
            return *number;
        }
        let number = u32::try_from(self.texts.len()).unwrap_or(u32::MAX);
        let text: Rc<str> = text.into();
        self.texts.push(text.clone());
        self.numbers.insert(text, number);
        number
    }

    /// Returns the text of a number.
    pub(super) fn text(&self, number: u32) -> &str {
        self.texts.get(number as usize).map_or("", |text| text)
    }
}

/// Returns the namespace of a client: one of `scopes`.
pub(super) fn namespace(client: u32, scopes: u32) -> String {
    format!("ns-{}", client % scopes.max(1))
}

/// Returns the node of a client. The template may have `{n}`, `{ns}` and `{ip}`; the default is a sidecar as named by Istio.
pub(super) fn node(template: Option<&str>, client: u32, scopes: u32) -> Node {
    const SIDECAR: &str = "sidecar~{ip}~proxy-{n}.{ns}~{ns}.svc.cluster.local";
    let namespace = namespace(client, scopes);
    // 10.0.0.0/9, where no service of the generated mesh has an endpoint.
    let ip = Ipv4Addr::from(0x0a00_0001 + client).to_string();
    let id = template.unwrap_or(SIDECAR);
    let id = id.replace("{ip}", &ip).replace("{ns}", &namespace).replace("{n}", &client.to_string());
    let text = |text: &str| Value { kind: Some(Kind::StringValue(text.to_owned())) };
    let metadata =
        [("NAMESPACE", namespace.as_str()), ("CLUSTER_ID", "Kubernetes"), ("ISTIO_VERSION", "1.30.3")];
    let fields = metadata.into_iter().map(|(name, value)| (name.to_owned(), text(value))).collect();
    Node { id, metadata: Some(Struct { fields }), ..Node::default() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interned_name_keeps_its_number() {
        let mut names = Names::default();
        let (a, b) = (names.number("a"), names.number("b"));
        assert_eq!((names.number("a"), names.text(a), names.text(b)), (a, "a", "b"));
        assert_ne!(a, b);
    }

    #[test]
    fn node_ids_are_spread_over_namespaces_and_addresses() {
        let check = |template, client, expected: &str| assert_eq!(node(template, client, 50).id, expected);
        check(None, 51, "sidecar~10.0.0.52~proxy-51.ns-1~ns-1.svc.cluster.local");
        check(None, 4999, "sidecar~10.0.19.136~proxy-4999.ns-49~ns-49.svc.cluster.local");
        check(Some("test-id"), 3, "test-id");
        check(Some("{n}-{ns}"), 3, "3-ns-3");
    }
}

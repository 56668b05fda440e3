//! State of each type of a proxy, in terms of Envoy's status API.
//! <https://www.envoyproxy.io/docs/envoy/latest/api-v3/service/status/v3/csds.proto>

use std::time::SystemTime;

use pilot_proto::ResourceType;
use pilot_proto::envoy::admin::v3::UpdateFailureState;
use pilot_proto::envoy::config::core::v3::Node;
use pilot_proto::envoy::service::status::v3::client_config::GenericXdsConfig;
use pilot_proto::envoy::service::status::v3::{ClientConfig, ConfigStatus};
use pilot_proto::google::protobuf::Timestamp;
use pilot_proto::node::NodeMetadata;

use crate::ads::{Client, TypeStatus};

/// Returns the status as in Istio: an error stays until a response is accepted.
pub(super) fn verdict(known: &TypeStatus) -> ConfigStatus {
    match (&known.last_error, &known.nonce_sent) {
        (Some(_), _) => ConfigStatus::Error,
        (None, None) => ConfigStatus::NotSent,
        (None, sent) if *sent == known.nonce_acked => ConfigStatus::Synced,
        (None, Some(_)) => ConfigStatus::Stale,
    }
}

/// Returns the status of a type.
pub(super) fn of_type(kind: ResourceType, known: &TypeStatus) -> GenericXdsConfig {
    let updated = known.sent.map(timestamp);
    GenericXdsConfig {
        type_url: kind.type_url().to_owned(),
        config_status: verdict(known).into(),
        last_updated: updated,
        error_state: known.last_error.as_ref().map(|details| UpdateFailureState {
            last_update_attempt: updated,
            details: details.to_string(),
            ..UpdateFailureState::default()
        }),
        ..GenericXdsConfig::default()
    }
}

/// Returns the status of a proxy for `istioctl`: short name, origin, a line for each type. `None` for a connection without
/// subscriptions, such as that of `istioctl` itself.
pub(super) fn of_client(client: &Client) -> Option<ClientConfig> {
    let types = client.types();
    if types.is_empty() {
        return None;
    }
    let mut lines: Vec<GenericXdsConfig> = types.iter().map(|(kind, known)| of_type(*kind, known)).collect();
    lines.sort_by(|one, other| one.type_url.cmp(&other.type_url));
    let said = &client.proxy.metadata;
    let metadata = NodeMetadata {
        cluster_id: said.cluster_id.clone(),
        namespace: Some(client.proxy.namespace.to_string()),
        istio_version: said.istio_version.clone(),
        ..NodeMetadata::default()
    };
    let node =
        Node { id: client.proxy.id.id.clone(), metadata: Some(metadata.to_struct()), ..Node::default() };
    Some(ClientConfig { node: Some(node), generic_xds_configs: lines, ..ClientConfig::default() })
}

fn timestamp(time: SystemTime) -> Timestamp {
    let prost_types::Timestamp { seconds, nanos } = time.into();
    Timestamp { seconds, nanos }
}

#[cfg(test)]
mod tests {
    use super::super::testing;
    use super::*;

    #[test]
    fn the_verdict_is_that_of_the_last_response() {
        use testing::Said::{Ack, Nack, Response};
        for (story, expected) in [
            (&[][..], ConfigStatus::NotSent),
            (&[Response], ConfigStatus::Stale),
            (&[Response, Ack], ConfigStatus::Synced),
            (&[Response, Ack, Response], ConfigStatus::Stale),
            (&[Response, Nack], ConfigStatus::Error),
            (&[Response, Nack, Response], ConfigStatus::Error),
            (&[Response, Nack, Response, Ack], ConfigStatus::Synced),
        ] {
            let known = testing::told(story);
            assert_eq!(verdict(&known), expected, "{story:?}");
            let line = of_type(ResourceType::Cluster, &known);
            assert_eq!(line.error_state.is_some(), expected == ConfigStatus::Error, "{story:?}");
            assert_eq!(line.last_updated.is_some(), !story.is_empty(), "{story:?}");
        }
    }
}

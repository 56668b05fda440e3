//! Constructors of messages that several generators need.

#![expect(
    clippy::unnecessary_wraps,
    reason = "a field of a message is an Option, and a wall of Some() hides values"
)]

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use pilot_proto::envoy::config::core::v3::{
    Address, AggregatedConfigSource, ApiVersion, CidrRange, ConfigSource, Metadata, Pipe, SocketAddress,
    TypedExtensionConfig, address, config_source, socket_address,
};
use pilot_proto::google::protobuf::{
    self, Any, BoolValue, ListValue, Struct, UInt32Value, Value, value::Kind,
};
use prost::{Message, Name};

use crate::model::{ConfigKind, ConfigObject, Vip};

pub(super) fn duration(duration: Duration) -> Option<protobuf::Duration> {
    Some(pilot_proto::duration::to_proto(duration))
}

pub(super) fn number(value: u32) -> Option<UInt32Value> {
    Some(UInt32Value { value })
}

pub(super) fn yes() -> Option<BoolValue> {
    Some(BoolValue { value: true })
}

pub(super) fn no() -> Option<BoolValue> {
    Some(BoolValue { value: false })
}

pub(super) fn any<M: Message + Name>(message: &M) -> Option<Any> {
    Some(pilot_proto::any(message))
}

pub(super) fn extension<M: Message + Name>(name: &str, message: &M) -> TypedExtensionConfig {
    TypedExtensionConfig { name: name.to_owned(), typed_config: any(message) }
}

pub(super) fn socket(host: &str, port: u16) -> SocketAddress {
    SocketAddress {
        address: host.to_owned(),
        port_specifier: Some(socket_address::PortSpecifier::PortValue(port.into())),
        ..SocketAddress::default()
    }
}

pub(super) fn address(host: &str, port: u16) -> Option<Address> {
    Some(Address { address: Some(address::Address::SocketAddress(socket(host, port))) })
}

pub(super) fn pipe(path: &str) -> Option<Address> {
    Some(Address { address: Some(address::Address::Pipe(Pipe { path: path.to_owned(), mode: 0 })) })
}

pub(super) fn cidr(vip: Vip) -> CidrRange {
    CidrRange { address_prefix: masked(vip).to_string(), prefix_len: number(vip.prefix.into()) }
}

/// Clears the host bits of a network: `10.1.2.3/8` and `10.0.0.0/8` are equal, and Envoy rejects a listener that matches a
/// network twice.
pub(super) fn masked(vip: Vip) -> IpAddr {
    let bits = u32::from(vip.prefix);
    match vip.ip {
        IpAddr::V4(ip) => {
            let mask = u32::MAX.checked_shl(32_u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V4((ip.to_bits() & mask).into())
        }
        IpAddr::V6(ip) => {
            let mask = u128::MAX.checked_shl(128_u32.saturating_sub(bits)).unwrap_or(0);
            IpAddr::V6((ip.to_bits() & mask).into())
        }
    }
}

/// Config source that subscribes on the ADS stream without a fetch timeout. A listener that proceeded without its routes
/// would answer valid requests with 404.
pub(super) fn ads() -> Option<ConfigSource> {
    Some(ConfigSource {
        initial_fetch_timeout: duration(Duration::ZERO),
        resource_api_version: ApiVersion::V3.into(),
        config_source_specifier: Some(config_source::ConfigSourceSpecifier::Ads(AggregatedConfigSource {})),
        ..ConfigSource::default()
    })
}

/// Returns the metadata that names a configuration object, in Istio's format.
pub(super) fn config_metadata(config: &ConfigObject) -> Metadata {
    let (kind, meta) = (config.spec.kind(), &config.meta);
    let group = if kind == ConfigKind::Telemetry { "telemetry.istio.io" } else { "networking.istio.io" };
    let path = format!("/apis/{group}/v1/namespaces/{}/{}/{}", meta.namespace, kind.resource(), meta.name);
    let istio = object([("config", string(&path))]);
    Metadata { filter_metadata: [("istio".to_owned(), istio)].into(), ..Metadata::default() }
}

pub(super) fn string(text: &str) -> Value {
    Value { kind: Some(Kind::StringValue(text.to_owned())) }
}

pub(super) fn bool_true() -> Value {
    Value { kind: Some(Kind::BoolValue(true)) }
}

pub(super) fn list(values: Vec<Value>) -> Value {
    Value { kind: Some(Kind::ListValue(ListValue { values })) }
}

pub(super) fn object<const N: usize>(fields: [(&str, Value); N]) -> Struct {
    let fields: BTreeMap<String, Value> =
        fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect();
    Struct { fields }
}

//! Reads `/listeners?format=json`: which listeners there are and what they are bound to.

use std::{
    net::{IpAddr, SocketAddr},
    path::PathBuf,
};

use serde::Deserialize;

/// One of Envoy's listeners.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Listener {
    /// Its name; Envoy makes one up for a listener that has none.
    pub(crate) name: String,
    /// Bound addresses, additional ones last. At least one.
    pub(crate) addresses: Vec<ListenerAddress>,
}

/// Bound address of a listener. The port is the actual one, also for port 0.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListenerAddress {
    /// A port.
    Socket {
        /// Protocol of the socket.
        protocol: Protocol,
        /// And which.
        address: SocketAddr,
    },
    /// A Unix socket; abstract if it begins with `@`.
    Pipe(PathBuf),
    /// A listener that only Envoy itself reaches, by this name. It has no socket.
    Internal(String),
    /// Something a later Envoy has come to know, as JSON.
    Unknown(String),
}

/// The two kinds of ports.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub(crate) enum Protocol {
    /// Left out in Envoy's answer.
    #[default]
    Tcp,
    /// QUIC or plain.
    Udp,
}

#[derive(Deserialize)]
struct ListenersResponse {
    #[serde(default)]
    listener_statuses: Vec<ListenerStatus>,
}

#[derive(Deserialize)]
struct ListenerStatus {
    #[serde(default)]
    name: String,
    local_address: serde_json::Value,
    #[serde(default)]
    additional_local_addresses: Vec<serde_json::Value>,
}

#[derive(Deserialize)]
enum BoundAddress {
    #[serde(rename = "socket_address")]
    Socket {
        #[serde(default)]
        protocol: Protocol,
        address: IpAddr,
        // Left out when it is zero.
        #[serde(default)]
        port_value: u16,
        #[serde(default)]
        network_namespace_filepath: String,
    },
    #[serde(rename = "pipe")]
    Pipe { path: PathBuf },
    #[serde(rename = "envoy_internal_address")]
    Internal { server_listener_name: String },
}

pub(crate) fn read(json: &[u8]) -> Result<Vec<Listener>, serde_json::Error> {
    let answer: ListenersResponse = serde_json::from_slice(json)?;
    let listener = |status: ListenerStatus| Listener {
        addresses: std::iter::once(&status.local_address)
            .chain(&status.additional_local_addresses)
            .map(ListenerAddress::read)
            .collect(),
        name: status.name,
    };
    Ok(answer.listener_statuses.into_iter().map(listener).collect())
}

// === impl ListenerAddress ===

impl ListenerAddress {
    fn read(json: &serde_json::Value) -> Self {
        match BoundAddress::deserialize(json) {
            // In another network namespace than ours the same address is another.
            Ok(BoundAddress::Socket { network_namespace_filepath: elsewhere, .. })
                if !elsewhere.is_empty() =>
            {
                Self::Unknown(json.to_string())
            }
            Ok(BoundAddress::Socket { protocol, address, port_value, .. }) => {
                Self::Socket { protocol, address: SocketAddr::new(address, port_value) }
            }
            Ok(BoundAddress::Pipe { path }) => Self::Pipe(path),
            Ok(BoundAddress::Internal { server_listener_name }) => Self::Internal(server_listener_name),
            Err(_) => Self::Unknown(json.to_string()),
        }
    }

    /// Returns the name in statistics, where a colon is an underscore: `127.0.0.1_80`, `[__1]_80`. A listener that is bound to
    /// port 0 has the port 0 in its statistics, and one with a `stat_prefix` has that.
    pub(super) fn stat_name(&self) -> Option<String> {
        match self {
            Self::Socket { address: SocketAddr::V4(address), .. } => {
                Some(format!("{}_{}", address.ip(), address.port()))
            }
            Self::Socket { address: SocketAddr::V6(address), .. } => {
                Some(format!("[{}]_{}", address.ip(), address.port()).replace(':', "_"))
            }
            Self::Pipe(path) => Some(path.to_string_lossy().replace(':', "_")),
            Self::Internal(name) => Some(format!("envoy_internal_{name}")),
            Self::Unknown(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tcp(address: &str) -> ListenerAddress {
        ListenerAddress::Socket { protocol: Protocol::Tcp, address: address.parse().unwrap() }
    }

    #[test]
    fn every_kind_of_address_is_read() {
        let json = br#"{"listener_statuses": [
            {"name": "both", "local_address": {"socket_address": {"address": "127.0.0.1", "port_value": 80}},
             "additional_local_addresses": [{"socket_address": {"address": "::1", "port_value": 80}}]},
            {"name": "quic", "local_address":
                {"socket_address": {"protocol": "UDP", "address": "0.0.0.0", "port_value": 443}}},
            {"name": "pipe", "local_address": {"pipe": {"path": "/run/a.sock", "mode": 384}}},
            {"name": "inner", "local_address": {"envoy_internal_address": {"server_listener_name": "inner"}}},
            {"local_address": {"socket_address": {"address": "fe80::1%eth0", "port_value": 80}}}]}"#;
        let quic =
            ListenerAddress::Socket { protocol: Protocol::Udp, address: "0.0.0.0:443".parse().unwrap() };
        let expected = [
            ("both", vec![tcp("127.0.0.1:80"), tcp("[::1]:80")]),
            ("quic", vec![quic]),
            ("pipe", vec![ListenerAddress::Pipe("/run/a.sock".into())]),
            ("inner", vec![ListenerAddress::Internal("inner".into())]),
            (
                "",
                vec![ListenerAddress::Unknown(
                    r#"{"socket_address":{"address":"fe80::1%eth0","port_value":80}}"#.into(),
                )],
            ),
        ];
        let expected = expected.map(|(name, addresses)| Listener { name: name.into(), addresses }).to_vec();
        assert_eq!(read(json).unwrap(), expected);
    }

    #[test]
    fn no_listeners_is_an_answer_and_nonsense_is_none() {
        assert_eq!(read(b"{}").unwrap(), []);
        for json in [&b""[..], b"3", br#"{"listener_statuses": [{"name": "x"}]}"#] {
            assert!(read(json).is_err(), "{}", String::from_utf8_lossy(json));
        }
    }

    #[test]
    fn statistics_spell_addresses_their_own_way() {
        let check = |address: ListenerAddress, name: &str| assert_eq!(address.stat_name().unwrap(), name);
        check(tcp("127.0.0.1:80"), "127.0.0.1_80");
        check(tcp("[::1]:80"), "[__1]_80");
        check(tcp("[::]:15006"), "[__]_15006");
        check(ListenerAddress::Pipe("/run/a.sock".into()), "/run/a.sock");
        check(ListenerAddress::Internal("inner".into()), "envoy_internal_inner");
    }
}

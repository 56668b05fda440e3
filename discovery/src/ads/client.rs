//! One connected proxy as debug pages see it: identity, state of each type, history of pushes.
//!
//! Written by the task of the connection, read by debug pages.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::SystemTime;

use pilot_core::generate::Report;
use pilot_core::model::{NameSet, Proxy};
use pilot_proto::ResourceType;
use pilot_xds::{Nonce, RequestedNames};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use super::history::History;
use super::hub::{Turn, lock};

/// State of one type.
#[derive(Clone, Debug, Default)]
pub(crate) struct TypeStatus {
    /// Requested names; `None`: all resources. Shared: many idle proxies request the same names.
    pub(crate) names: Option<NameSet>,
    /// Nonce of the last response.
    pub(crate) nonce_sent: Option<Nonce>,
    /// Nonce of the last ACKed response.
    pub(crate) nonce_acked: Option<Nonce>,
    /// Error detail of the last NACK; `None` after the next ACK.
    pub(crate) last_error: Option<Arc<str>>,
    /// NACKs since the last ACK.
    pub(crate) refused: Refused,
    /// Time of the last response.
    pub(crate) sent: Option<SystemTime>,
    /// Findings about resources that could not be generated.
    pub(crate) report: Arc<Report>,
}

/// NACKs of one type by one proxy since its last ACK.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    /// Number of NACKs.
    pub(crate) count: u32,
    /// Code of the last error detail, a `google.rpc.Code`.
    pub(crate) code: i32,
}

/// One connected proxy.
pub(crate) struct Client {
    /// Number of the connection on this instance.
    pub(crate) number: u64,
    /// Istio's connection id, `<pod>.<namespace>-<number>`.
    pub(crate) id: String,
    /// The proxy.
    pub(crate) proxy: Arc<Proxy>,
    /// Address of the peer.
    pub(crate) peer: Option<SocketAddr>,
    /// Time of the connection.
    pub(crate) connected: SystemTime,
    /// `SotW` or delta, in the spelling of the debug pages.
    pub(crate) codec: &'static str,
    /// Recent pushes.
    pub(crate) history: History,
    /// Cancelled when the stream must end.
    pub(crate) dismissed: CancellationToken,
    pub(super) pushes: mpsc::Sender<Turn>,
    types: Mutex<BTreeMap<ResourceType, TypeStatus>>,
}

/// Connection of a proxy.
pub(super) struct Via {
    /// Address of the peer.
    pub(super) peer: Option<SocketAddr>,
    /// Variant of the protocol.
    pub(super) codec: &'static str,
    /// Channel of its turns.
    pub(super) pushes: mpsc::Sender<Turn>,
}

// === impl Client ===

impl Client {
    /// Creates the state of a proxy that has just connected.
    pub(super) fn new(number: u64, proxy: Arc<Proxy>, via: Via) -> Self {
        let Via { peer, codec, pushes } = via;
        Self {
            number,
            id: format!("{}-{number}", proxy.id.id),
            proxy,
            peer,
            connected: SystemTime::now(),
            codec,
            history: History::default(),
            dismissed: CancellationToken::new(),
            pushes,
            types: Mutex::default(),
        }
    }

    /// Returns the state of each type.
    pub(crate) fn types(&self) -> BTreeMap<ResourceType, TypeStatus> {
        lock(&self.types).clone()
    }

    /// Updates the state of a type after a request or a response; `None`: the type is no longer subscribed.
    pub(crate) fn note(&self, kind: ResourceType, status: Option<pilot_xds::TypeStatus<'_>>) {
        let mut types = lock(&self.types);
        let Some(status) = status else {
            types.remove(&kind);
            return;
        };
        let known = types.entry(kind).or_default();
        known.names = match status.requested {
            RequestedNames::Wildcard => None,
            RequestedNames::None => Some(NameSet::default()),
            RequestedNames::Names(names) => Some(names.clone()),
        };
        known.nonce_sent = status.nonce_sent.cloned();
        known.nonce_acked = status.nonce_acked.cloned();
        if known.last_error.as_deref() != status.last_error {
            known.last_error = status.last_error.map(Arc::from);
        }
        if status.last_error.is_none() {
            known.refused = Refused::default();
        }
    }

    /// Counts a NACK with this code.
    pub(crate) fn refused(&self, kind: ResourceType, code: i32) {
        let mut types = lock(&self.types);
        let refused = &mut types.entry(kind).or_default().refused;
        *refused = Refused { count: refused.count.saturating_add(1), code };
    }

    /// Notes the time of a response.
    pub(crate) fn sent(&self, kind: ResourceType) {
        lock(&self.types).entry(kind).or_default().sent = Some(SystemTime::now());
    }

    /// Notes the findings of the last generation of a type.
    pub(crate) fn report(&self, kind: ResourceType, report: Arc<Report>) {
        lock(&self.types).entry(kind).or_default().report = report;
    }
}

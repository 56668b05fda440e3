//! One connected proxy as others see it: who it is, where each type stands, why it was pushed.
//!
//! The connection's task writes it, debug pages read it. Decides nothing.

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

/// What one type looks like from outside, for the debug pages.
#[derive(Clone, Debug, Default)]
pub(crate) struct TypeStatus {
    /// What was asked for by name; `None`: everything. Shared: a thousand idle proxies name the same clusters.
    pub(crate) names: Option<NameSet>,
    /// The last response.
    pub(crate) nonce_sent: Option<Nonce>,
    /// The last response that was accepted.
    pub(crate) nonce_acked: Option<Nonce>,
    /// Why the proxy rejected a response, until it accepts one.
    pub(crate) last_error: Option<Arc<str>>,
    /// How often it rejected one since, and the code it gave last.
    pub(crate) refused: Refused,
    /// When the last response was sent.
    pub(crate) sent: Option<SystemTime>,
    /// What could not be generated.
    pub(crate) report: Arc<Report>,
}

/// Rejections of one type by one proxy, since it last accepted a response.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Refused {
    /// How many.
    pub(crate) count: u32,
    /// Code of the last one's error detail, a `google.rpc.Code`.
    pub(crate) code: i32,
}

/// One connected proxy.
pub(crate) struct Client {
    /// Counts the connections of this instance.
    pub(crate) number: u64,
    /// Istio's connection id, `<pod>.<namespace>-<number>`.
    pub(crate) id: String,
    /// Who it is.
    pub(crate) proxy: Arc<Proxy>,
    /// Where it connects from.
    pub(crate) peer: Option<SocketAddr>,
    /// Since when.
    pub(crate) connected: SystemTime,
    /// `SotW` or delta, as the debug pages spell it.
    pub(crate) codec: &'static str,
    /// Why it was pushed lately.
    pub(crate) history: History,
    /// Cancelled: the stream is to end now.
    pub(crate) dismissed: CancellationToken,
    pub(super) pushes: mpsc::Sender<Turn>,
    types: Mutex<BTreeMap<ResourceType, TypeStatus>>,
}

/// How a proxy is connected.
pub(super) struct Via {
    /// Where it connects from.
    pub(super) peer: Option<SocketAddr>,
    /// Which variant of the protocol.
    pub(super) codec: &'static str,
    /// Where its turns go.
    pub(super) pushes: mpsc::Sender<Turn>,
}

// === impl Client ===

impl Client {
    /// A proxy that has just connected.
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

    /// What every type looks like.
    pub(crate) fn types(&self) -> BTreeMap<ResourceType, TypeStatus> {
        lock(&self.types).clone()
    }

    /// Where a type stands after a request or a response; nothing: it is not watched any more.
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

    /// The proxy rejected a response, with this code.
    pub(crate) fn refused(&self, kind: ResourceType, code: i32) {
        let mut types = lock(&self.types);
        let refused = &mut types.entry(kind).or_default().refused;
        *refused = Refused { count: refused.count.saturating_add(1), code };
    }

    /// A response was sent.
    pub(crate) fn sent(&self, kind: ResourceType) {
        lock(&self.types).entry(kind).or_default().sent = Some(SystemTime::now());
    }

    /// What could not be generated of a type.
    pub(crate) fn report(&self, kind: ResourceType, report: Arc<Report>) {
        lock(&self.types).entry(kind).or_default().report = report;
    }
}

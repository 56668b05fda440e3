//! Meaning of a request, and the state of one type, as the caller sees them.

use pilot_proto::ResourceType;

use super::name_set::NameSet;
use super::quarantine::RejectedVersion;
use super::response::Nonce;
use super::subscription::{RequestedNames, SubscriptionChange};

/// Meaning of one request. Whatever it is, [`Stream::next_due`](super::Stream::next_due) returns what to respond with.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RequestOutcome {
    /// The client subscribes to resources, for the first time or again.
    Subscribe {
        /// Type of the resources.
        kind: ResourceType,
        /// Names of the resources; `*` is the wildcard.
        added: NameSet,
    },
    /// The client unsubscribes from resources and subscribes to no others.
    Unsubscribe {
        /// Type of the resources.
        kind: ResourceType,
    },
    /// The client accepts the last response.
    Ack {
        /// Type of the response.
        kind: ResourceType,
    },
    /// The client rejects a response.
    Nack {
        /// Type of the response.
        kind: ResourceType,
        /// Error of the client.
        message: String,
        /// Resources that this proves to be bad; they are withheld from now on.
        rejected: Vec<RejectedVersion>,
        /// Names that the same request subscribes to; `*` is the wildcard.
        added: NameSet,
    },
    /// The nonce is not that of the last response.
    StaleNonce {
        /// Type of the response.
        kind: ResourceType,
    },
    /// The type is not one that is served here.
    UnknownType {
        /// The requested type.
        type_url: String,
    },
}

/// Acknowledgement of the last response of a type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckState {
    /// No response was sent.
    NotSent,
    /// The response is neither ACKed nor NACKed.
    Pending,
    /// As `Pending`; the caller no longer waits.
    TimedOut,
    /// The client accepted the response.
    Acked,
    /// The client rejected the response.
    Nacked,
}

/// Resources of a type that a response contains.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SendMode {
    /// Those that have changed for this client.
    Changed,
    /// All that the client subscribes to.
    All,
}

/// State of one type, for debug pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TypeStatus<'a> {
    /// Resources that the client requested.
    pub requested: RequestedNames<'a>,
    /// Acknowledgement of the last response.
    pub ack_state: AckState,
    /// Nonce of the last response.
    pub nonce_sent: Option<&'a Nonce>,
    /// Nonce of the last response that was ACKed.
    pub nonce_acked: Option<&'a Nonce>,
    /// Error of the last NACK, until the next ACK.
    pub last_error: Option<&'a str>,
}

// === impl RequestOutcome ===

impl RequestOutcome {
    pub(crate) fn of_change(kind: ResourceType, change: SubscriptionChange) -> Self {
        if change.added.is_empty() {
            Self::Unsubscribe { kind }
        } else {
            Self::Subscribe { kind, added: change.added }
        }
    }
}

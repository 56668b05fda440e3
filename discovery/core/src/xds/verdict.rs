//! What a stream says to its caller.

use pilot_proto::ResourceType;

use super::quarantine::Refusal;
use super::response::Nonce;
use super::subscription::Change;
use super::watch::Delivery;
use crate::model::NameSet;

/// What one request means. Whatever the verdict, [`Stream::next_due`](super::Stream::next_due) says what to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The client wants these (`*`: everything), for the first time or once more.
    Subscribe {
        /// Of this type.
        kind: ResourceType,
        /// The names.
        added: NameSet,
    },
    /// The client wants less than before, or nothing.
    Unsubscribe {
        /// Of this type.
        kind: ResourceType,
    },
    /// The client has the last response.
    Ack {
        /// Of this type.
        kind: ResourceType,
    },
    /// The client rejected a response.
    Nack {
        /// Of this type.
        kind: ResourceType,
        /// What it has against it.
        message: String,
        /// What is known to be bad by that; it is kept back from now on.
        refused: Vec<Refusal>,
        /// Names that the request subscribes to besides (`*`: everything).
        added: NameSet,
    },
    /// The request speaks of a response that is no longer the last one.
    Stale {
        /// Of this type.
        kind: ResourceType,
    },
    /// Not a type of ours.
    Unknown {
        /// What was asked for.
        type_url: String,
    },
}

/// What a client wants of one type.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted<'a> {
    /// Nothing.
    Nothing,
    /// Whatever this client should have.
    All,
    /// These.
    Names(&'a NameSet),
}

/// Why a response is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    /// Something may have changed: only news is sent.
    IfChanged,
    /// Everything the client wants is sent once more.
    Forced,
}

/// Where one type stands, for debug pages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status<'a> {
    /// What the client wants.
    pub wanted: Wanted<'a>,
    /// How it took the last response.
    pub delivery: Delivery,
    /// The last response.
    pub nonce_sent: Option<&'a Nonce>,
    /// The last response that was accepted.
    pub nonce_acked: Option<&'a Nonce>,
    /// Why the client rejected a response, until it accepts one.
    pub last_error: Option<&'a str>,
}

// === impl Verdict ===

impl Verdict {
    pub(super) fn on_change(kind: ResourceType, change: Change) -> Self {
        if change.added.is_empty() {
            Self::Unsubscribe { kind }
        } else {
            Self::Subscribe { kind, added: change.added }
        }
    }
}

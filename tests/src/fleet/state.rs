//! State shared by all clients of a fleet: settings, interned names, the current goal.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

use super::names::Names;
use super::orders::{Codec, Goal, Kind};

/// State shared by all clients of a fleet.
#[derive(Debug)]
pub(super) struct FleetState {
    pub(super) codec: Codec,
    pub(super) kinds: Vec<Kind>,
    pub(super) names: RefCell<Names>,
    /// RDS names by hash of the listener; decoding a listener is expensive, and many clients receive the same one.
    pub(super) routes: RefCell<HashMap<u64, Rc<[u32]>>>,
    pub(super) refused: RefCell<Option<String>>,
    pub(super) goal: RefCell<Goal>,
}

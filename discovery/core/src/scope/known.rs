//! Cached scope: computed again only if a change can affect it.

use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::{Scope, ScopeKey};
use crate::model::{Service, Shared};
use crate::push::PushContext;
use crate::world::ServiceKey;

/// Scope with the parts of the snapshot that it was computed from.
#[derive(Debug)]
pub struct Known {
    scope: Arc<Scope>,
    shape: Shared<()>,
    frame: Shared<()>,
    services: OrdMap<ServiceKey, Arc<Service>>,
}

// === impl Known ===

impl Known {
    /// Returns the scope of a key in a snapshot. Parts that are equal to those of `before` are the same values.
    pub fn of(push: &PushContext, key: ScopeKey, before: Option<&Self>) -> Self {
        let scope = match before {
            Some(before) if !before.is_touched(push) => before.scope.clone(),
            _ => Scope::of(push, key, before.map(|before| &before.scope)),
        };
        let (shape, frame) = (push.shape.clone(), push.frame.clone());
        Self { scope, shape, frame, services: push.services.clone() }
    }

    /// Returns the scope.
    pub const fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    /// Returns `true` if it was computed from this snapshot.
    pub fn is_of(&self, push: &PushContext) -> bool {
        self.shape == push.shape
    }

    /// Returns `true` if a change of the snapshot can affect the scope.
    fn is_touched(&self, push: &PushContext) -> bool {
        let mut changed = self.services.diff(&push.services);
        self.frame != push.frame
            || changed.any(|item| {
                let (host, versions) = match &item {
                    DiffItem::Add((host, _), service) | DiffItem::Remove((host, _), service) => {
                        (host, vec![*service])
                    }
                    DiffItem::Update { old: ((host, _), old), new: (_, new) } => (host, vec![*old, *new]),
                };
                self.scope.could_see(host, &versions, &push.mesh)
            })
    }
}

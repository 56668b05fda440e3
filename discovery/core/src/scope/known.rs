//! A scope as the mesh goes on: made again only when something changed that it could see.

use std::sync::Arc;

use imbl::OrdMap;
use imbl::ordmap::DiffItem;

use super::{Scope, ScopeKey};
use crate::model::{Service, Shared};
use crate::push::PushContext;
use crate::world::ServiceKey;

/// A scope, and what of a snapshot it was made from.
#[derive(Debug)]
pub struct Known {
    scope: Arc<Scope>,
    shape: Shared<()>,
    frame: Shared<()>,
    services: OrdMap<ServiceKey, Arc<Service>>,
}

// === impl Known ===

impl Known {
    /// What proxies with this key see in a snapshot. What is as it was `before` is the same value.
    pub fn of(push: &PushContext, key: ScopeKey, before: Option<&Self>) -> Self {
        let scope = match before {
            Some(before) if !before.is_touched(push) => before.scope.clone(),
            _ => Scope::of(push, key, before.map(|before| &before.scope)),
        };
        let (shape, frame) = (push.shape.clone(), push.frame.clone());
        Self { scope, shape, frame, services: push.services.clone() }
    }

    /// The scope.
    pub const fn scope(&self) -> &Arc<Scope> {
        &self.scope
    }

    /// Whether it is that of a snapshot.
    pub fn is_of(&self, push: &PushContext) -> bool {
        self.shape == push.shape
    }

    /// Whether anything is different in a snapshot that the scope could see.
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

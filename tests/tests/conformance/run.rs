//! One run of a scenario, in the suite's words.
//!
//! Each response must be the one that is expected, in one piece: what came before it, unasked, would be taken for it. That is how
//! "the service never responds more than necessary" is shown: after the last ACK something happens that is none of the client's
//! business, then something that is, and that alone must come next.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use pilot_proto::ResourceType;

use crate::Variant;
use crate::client::{Client, Heard};
use crate::mesh::{Mesh, Routes, letters, only, spelt};

/// How long a response may take.
const PATIENCE: Duration = Duration::from_secs(20);

/// What is not sent within this is not sent: twice the debounce.
const STILL: Duration = Duration::from_millis(200);

/// A mesh and its one client.
pub(crate) struct Run {
    mesh: Mesh,
    client: Client,
    variant: Variant,
}

// === impl Run ===

impl Run {
    pub(crate) const fn new(mesh: Mesh, variant: Variant) -> Self {
        Self { mesh, client: Client::new(variant), variant }
    }

    /// Routes are named by ports: in this scenario they change, and all of them exist.
    #[must_use]
    pub(crate) fn with_routes_of_ports(mut self) -> Self {
        self.mesh.routes = Routes::ByPort;
        self
    }

    /// Given a target setup with service `kind`, resources, and starting version 1.
    pub(crate) async fn target_setup(&self, kind: ResourceType, resources: &str) -> Result<()> {
        for letter in letters(resources) {
            self.mesh.write(kind, letter, 1)?;
        }
        self.mesh.are_known(kind, &letters(resources).collect::<String>()).await
    }

    /// When the client does a wildcard subscription.
    pub(crate) async fn wildcard_subscription(&mut self, kind: ResourceType) -> Result<()> {
        self.client.subscribe(&self.mesh, kind, &[]).await
    }

    /// When the client subscribes to resources.
    pub(crate) async fn subscribes_to(&mut self, kind: ResourceType, resources: &str) -> Result<()> {
        let names = self.names(kind, resources);
        self.client.subscribe(&self.mesh, kind, &names).await
    }

    /// When the client updates its subscription to these resources; none: when it unsubscribes from all.
    pub(crate) async fn updates_subscription_to(
        &mut self,
        kind: ResourceType,
        resources: &str,
    ) -> Result<()> {
        let names = self.names(kind, resources);
        self.client.narrow(&self.mesh, kind, &names).await
    }

    /// When the client unsubscribes from a resource.
    pub(crate) async fn unsubscribes_from(&mut self, kind: ResourceType, resource: &str) -> Result<()> {
        let name = self.mesh.name(kind, only(resource)?);
        self.client.unsubscribe(&self.mesh, kind, &name).await
    }

    /// When a resource is added, or updated to a version.
    pub(crate) fn is_now(&self, kind: ResourceType, resource: &str, version: u8) -> Result<()> {
        self.mesh.write(kind, only(resource)?, version)
    }

    /// When a resource is removed.
    pub(crate) fn is_removed(&self, kind: ResourceType, resource: &str) -> Result<()> {
        self.mesh.remove(kind, only(resource)?)
    }

    /// Then the client receives these resources and versions, all in one response and nothing besides. `A=1 B=1`; `-C`: told that
    /// there is no `C`. Of a type that lists are sent of, what every proxy has may be among them.
    pub(crate) async fn receives(&mut self, kind: ResourceType, expected: &str) -> Result<()> {
        let heard = self.client.hear(&self.mesh, kind, PATIENCE).await?;
        let heard = heard.with_context(|| format!("no response within {PATIENCE:?}; expected {expected}"))?;
        let said = self.said(&heard)?;
        let expected = self.expected(kind, expected)?;
        ensure!(
            heard.kind == kind && said == expected,
            "expected {kind} {expected}, heard {} {said}",
            heard.kind
        );
        if self.is_delta() {
            // And no resource other than these has the same version.
            ensure!(
                heard.versions.len() == heard.resources.len(),
                "versions are shared: {:?}",
                heard.versions
            );
        }
        Ok(())
    }

    /// The same for responses of two types, in whatever order they come.
    pub(crate) async fn receives_both(&mut self, kinds: [ResourceType; 2], expected: &str) -> Result<()> {
        let mut missing = kinds.to_vec();
        while let Some(kind) = missing.first().copied() {
            let heard = self.client.hear(&self.mesh, kind, PATIENCE).await?.context("no response")?;
            let said = self.said(&heard)?;
            let at = missing.iter().position(|kind| *kind == heard.kind);
            let at = at.with_context(|| format!("{} {said} once more", heard.kind))?;
            let expected = self.expected(heard.kind, expected)?;
            ensure!(said == expected, "expected {} {expected}, heard {said}", heard.kind);
            missing.remove(at);
        }
        Ok(())
    }

    /// Then the service has nothing to say, whatever else happens in the mesh.
    pub(crate) async fn receives_nothing(&mut self, kind: ResourceType) -> Result<()> {
        self.mesh.something_else_happens().await?;
        match self.client.hear(&self.mesh, kind, STILL).await? {
            None => Ok(()),
            Some(heard) => bail!("heard {} {} without need", heard.kind, self.said(&heard)?),
        }
    }

    /// And the service never responds more than necessary: here something happens that the client does not want, and then
    /// `resource` becomes version 3, which it wants; `expected` is all that comes.
    pub(crate) async fn never_responds_more_than_necessary(
        &mut self,
        kind: ResourceType,
        resource: &str,
        expected: &str,
    ) -> Result<()> {
        self.mesh.something_else_happens().await?;
        if self.mesh.shown(kind, 3) == 3 {
            self.is_now(kind, resource, 3)?;
            self.receives(kind, expected).await.context("after the last ACK")?;
        } else if self.is_delta() {
            // These do not change: they go and come back.
            self.is_removed(kind, resource)?;
            self.receives(kind, &format!("-{resource}")).await.context("after the last ACK")?;
            self.is_now(kind, resource, 3)?;
            self.receives(kind, &format!("{resource}=1")).await.context("after the last ACK")?;
        } else {
            // Nor can it be told that they are gone: one more is asked for.
            self.target_setup(kind, "M").await?;
            self.client.widen(&self.mesh, kind, &self.mesh.name(kind, 'M')).await?;
            self.receives(kind, "M=1").await.context("after the last ACK")?;
        }
        self.receives_nothing(kind).await
    }

    const fn is_delta(&self) -> bool {
        matches!(self.variant, Variant::DeltaAggregated | Variant::DeltaSeparate)
    }

    fn names(&self, kind: ResourceType, resources: &str) -> Vec<String> {
        letters(resources).map(|letter| self.mesh.name(kind, letter)).collect()
    }

    /// What a test expects, as this type shows it.
    fn expected(&self, kind: ResourceType, expected: &str) -> Result<String> {
        let (mut has, mut gone) = (BTreeMap::new(), Vec::new());
        for word in expected.split_whitespace() {
            match (word.split_once('='), kind) {
                (Some((letter, version)), _) => {
                    has.insert(only(letter)?, self.mesh.shown(kind, version.parse()?));
                }
                // A cluster without service has no endpoints, and that is an answer.
                (None, ResourceType::Endpoint) => {
                    has.insert(only(word.trim_start_matches('-'))?, 0);
                }
                (None, _) => gone.push(only(word.trim_start_matches('-'))?),
            }
        }
        if !self.is_delta() {
            gone.clear();
        }
        Ok(spelt(&has, &gone))
    }

    fn said(&self, heard: &Heard) -> Result<String> {
        let (mut has, mut gone) = (BTreeMap::new(), Vec::new());
        for (name, body) in &heard.resources {
            match self.mesh.letter(heard.kind, name) {
                Some(letter) => {
                    has.insert(letter, self.mesh.version(heard.kind, letter, body));
                }
                None => {
                    ensure!(!name.contains(".example") && !name.ends_with("_80"), "{name} is of another run");
                }
            }
        }
        for name in &heard.removed {
            gone.push(self.mesh.letter(heard.kind, name).with_context(|| format!("{name} was removed"))?);
        }
        gone.sort_unstable();
        Ok(spelt(&has, &gone))
    }
}

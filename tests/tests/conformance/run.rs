//! One run of a scenario, with the suite's steps.
//!
//! Each response must be the expected one, complete in one message. This shows that "the service never responds more than
//! necessary": after the last ACK comes a change that is irrelevant to the client, then a relevant one, and the next response
//! must contain the second change alone.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use pilot_proto::ResourceType;

use crate::Variant;
use crate::client::{Client, ReceivedResponse};
use crate::mesh::{Mesh, Routes, format_versions, letters, single};

/// Time limit for a response.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(20);

/// Period without a response that counts as silence: twice the debounce.
const SILENCE: Duration = Duration::from_millis(200);

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

    /// Uses routes named by ports: they can be updated, and all of them exist.
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
        self.mesh.wait_for_hosts(kind, &letters(resources).collect::<String>()).await
    }

    /// Step "when the client does a wildcard subscription".
    pub(crate) async fn wildcard_subscription(&mut self, kind: ResourceType) -> Result<()> {
        self.client.subscribe(&self.mesh, kind, &[]).await
    }

    /// Step "when the client subscribes to resources".
    pub(crate) async fn subscribes_to(&mut self, kind: ResourceType, resources: &str) -> Result<()> {
        let names = self.names(kind, resources);
        self.client.subscribe(&self.mesh, kind, &names).await
    }

    /// Step "when the client updates its subscription"; without resources, "when the client unsubscribes from all".
    pub(crate) async fn updates_subscription_to(
        &mut self,
        kind: ResourceType,
        resources: &str,
    ) -> Result<()> {
        let names = self.names(kind, resources);
        self.client.set_subscription(&self.mesh, kind, &names).await
    }

    /// Step "when the client unsubscribes from a resource".
    pub(crate) async fn unsubscribes_from(&mut self, kind: ResourceType, resource: &str) -> Result<()> {
        let name = self.mesh.name(kind, single(resource)?);
        self.client.unsubscribe(&self.mesh, kind, &name).await
    }

    /// Step "when a resource is added or updated".
    pub(crate) fn set_version(&self, kind: ResourceType, resource: &str, version: u8) -> Result<()> {
        self.mesh.write(kind, single(resource)?, version)
    }

    /// Step "when a resource is removed".
    pub(crate) fn remove(&self, kind: ResourceType, resource: &str) -> Result<()> {
        self.mesh.remove(kind, single(resource)?)
    }

    /// Then the client receives these resources and versions, all in one response and nothing else. `A=1 B=1`; `-C`: `C` is removed.
    /// The lists of a wildcard subscription may also contain the resources of every proxy.
    pub(crate) async fn receives(&mut self, kind: ResourceType, expected: &str) -> Result<()> {
        let response = self.client.next_response(&self.mesh, kind, RESPONSE_TIMEOUT).await?;
        let response = response
            .with_context(|| format!("no response within {RESPONSE_TIMEOUT:?}; expected {expected}"))?;
        let summary = self.summary(&response)?;
        let expected = self.expected(kind, expected)?;
        ensure!(
            response.kind == kind && summary == expected,
            "expected {kind} {expected}, received {} {summary}",
            response.kind
        );
        if self.is_delta() {
            // And no resource other than these has the same version.
            ensure!(
                response.versions.len() == response.resources.len(),
                "versions are not distinct: {:?}",
                response.versions
            );
        }
        Ok(())
    }

    /// Then the client receives responses of two types, in any order.
    pub(crate) async fn receives_both(&mut self, kinds: [ResourceType; 2], expected: &str) -> Result<()> {
        let mut missing = kinds.to_vec();
        while let Some(kind) = missing.first().copied() {
            let response = self
                .client
                .next_response(&self.mesh, kind, RESPONSE_TIMEOUT)
                .await?
                .context("no response")?;
            let summary = self.summary(&response)?;
            let at = missing.iter().position(|kind| *kind == response.kind);
            let at = at.with_context(|| format!("{} {summary} received twice", response.kind))?;
            let expected = self.expected(response.kind, expected)?;
            ensure!(summary == expected, "expected {} {expected}, received {summary}", response.kind);
            missing.remove(at);
        }
        Ok(())
    }

    /// Then the service sends no response, although something else changes in the mesh.
    pub(crate) async fn receives_nothing(&mut self, kind: ResourceType) -> Result<()> {
        self.mesh.trigger_unrelated_push().await?;
        match self.client.next_response(&self.mesh, kind, SILENCE).await? {
            None => Ok(()),
            Some(response) => bail!("received {} {} without need", response.kind, self.summary(&response)?),
        }
    }

    /// And the service never responds more than necessary: after an irrelevant change, `resource` is updated to version 3, and
    /// `expected` is all that is sent.
    pub(crate) async fn never_responds_more_than_necessary(
        &mut self,
        kind: ResourceType,
        resource: &str,
        expected: &str,
    ) -> Result<()> {
        self.mesh.trigger_unrelated_push().await?;
        if self.mesh.visible_version(kind, 3) == 3 {
            self.set_version(kind, resource, 3)?;
            self.receives(kind, expected).await.context("after the last ACK")?;
        } else if self.is_delta() {
            // These do not change, so they are removed and added again.
            self.remove(kind, resource)?;
            self.receives(kind, &format!("-{resource}")).await.context("after the last ACK")?;
            self.set_version(kind, resource, 3)?;
            self.receives(kind, &format!("{resource}=1")).await.context("after the last ACK")?;
        } else {
            // SotW cannot report their removal, so one more is requested.
            self.target_setup(kind, "M").await?;
            self.client.add_to_subscription(&self.mesh, kind, &self.mesh.name(kind, 'M')).await?;
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

    /// Returns the expected content as this type shows it.
    fn expected(&self, kind: ResourceType, expected: &str) -> Result<String> {
        let (mut has, mut gone) = (BTreeMap::new(), Vec::new());
        for word in expected.split_whitespace() {
            match (word.split_once('='), kind) {
                (Some((letter, version)), _) => {
                    has.insert(single(letter)?, self.mesh.visible_version(kind, version.parse()?));
                }
                // The response for a cluster without a service is an empty assignment.
                (None, ResourceType::Endpoint) => {
                    has.insert(single(word.trim_start_matches('-'))?, 0);
                }
                (None, _) => gone.push(single(word.trim_start_matches('-'))?),
            }
        }
        if !self.is_delta() {
            gone.clear();
        }
        Ok(format_versions(&has, &gone))
    }

    fn summary(&self, response: &ReceivedResponse) -> Result<String> {
        let (mut has, mut gone) = (BTreeMap::new(), Vec::new());
        for (name, body) in &response.resources {
            match self.mesh.letter(response.kind, name) {
                Some(letter) => {
                    has.insert(letter, self.mesh.version(response.kind, letter, body));
                }
                None => {
                    ensure!(!name.contains(".example") && !name.ends_with("_80"), "{name} is of another run");
                }
            }
        }
        for name in &response.removed {
            gone.push(self.mesh.letter(response.kind, name).with_context(|| format!("{name} was removed"))?);
        }
        gone.sort_unstable();
        Ok(format_versions(&has, &gone))
    }
}

//! Several loads at the same time, by name.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use anyhow::Result;

use super::{Load, Report, Running};

/// Running loads, by name.
#[derive(Default)]
pub struct Traffic(BTreeMap<String, Running>);

// === impl Traffic ===

impl Traffic {
    /// Starts loads, each under a name of its own.
    pub fn start<'a>(loads: impl IntoIterator<Item = (&'a str, Load)>) -> Self {
        Self(loads.into_iter().map(|(name, load)| (name.to_owned(), load.start())).collect())
    }

    /// Returns the report of each load so far.
    pub fn reports(&self) -> BTreeMap<String, Report> {
        self.0.iter().map(|(name, running)| (name.clone(), running.report())).collect()
    }

    /// Returns the merged report of all loads so far.
    pub fn report(&self) -> Report {
        Report::merge(self.0.values().map(Running::report))
    }

    /// Calls [`Running::connect_to`] on each load for which `to` returns an address.
    pub fn connect_to(&self, to: impl Fn(&str) -> Option<SocketAddr>) {
        for (name, running) in &self.0 {
            if let Some(to) = to(name) {
                running.connect_to(to);
            }
        }
    }

    /// Stops all loads and returns their reports.
    pub async fn stop(self) -> Result<BTreeMap<String, Report>> {
        let mut reports = BTreeMap::new();
        for (name, running) in self.0 {
            reports.insert(name, running.stop().await?);
        }
        Ok(reports)
    }
}

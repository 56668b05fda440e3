//! Two services with several endpoints each, as most tests and the demo need them.
//!
//! ```text
//! web   HTTP   127.0.0.1:<port>   ──▶  endpoint 1 at 127.0.0.2, endpoint 2 at 127.0.0.3, ...
//! db    TCP    127.0.0.1:<port>   ──▶  the same addresses, another port
//! ```
//!
//! Without interception the sidecar serves every service on loopback, on the service's port.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context, Result};
use serde_json::Value;

use crate::load::{Class, Load, Report, Running};
use crate::manifest::{Port, endpoint_slice, service};
use crate::net::{free_port, local, loopback};
use crate::upstream::Upstream;

/// The services and what stands behind them.
pub struct TwoServices {
    web: Port<'static>,
    db: Port<'static>,
    names: Vec<String>,
    upstreams: Vec<Upstream>,
}

impl TwoServices {
    /// Starts endpoints by these names; at most 200.
    pub async fn start(names: &[&str]) -> Result<Self> {
        let web = Port::new("http-web", free_port()?, free_port()?);
        let db = Port::new("tcp-db", free_port()?, free_port()?);
        let mut upstreams = Vec::new();
        let names: Vec<String> = names.iter().map(ToString::to_string).collect();
        for (name, address) in names.iter().zip(2..) {
            upstreams.push(Upstream::http(name, (loopback(address), web.target).into()).await?);
            upstreams.push(Upstream::tcp(name, (loopback(address), db.target).into()).await?);
        }
        Ok(Self { web, db, names, upstreams })
    }

    /// Both services, served by these endpoints alone.
    pub fn objects(&self, serving: &[&str]) -> Result<Vec<Value>> {
        let address = |name: &&str| -> Result<IpAddr> {
            let at = self.names.iter().position(|known| known == name);
            Ok(loopback(2 + u8::try_from(at.with_context(|| format!("no endpoint {name}"))?)?))
        };
        let addresses: Vec<IpAddr> = serving.iter().map(address).collect::<Result<_>>()?;
        Ok(vec![
            service("web", "10.0.0.1", &[self.web]),
            endpoint_slice("web", &[self.web], &addresses),
            service("db", "10.0.0.2", &[self.db]),
            endpoint_slice("db", &[self.db], &addresses),
        ])
    }

    /// Where the sidecar serves `web`.
    pub fn web(&self) -> SocketAddr {
        local(self.web.port)
    }

    /// Where the sidecar serves `db`.
    pub fn db(&self) -> SocketAddr {
        local(self.db.port)
    }

    /// The first endpoint of `web` without a sidecar before it.
    pub fn web_endpoint(&self) -> SocketAddr {
        SocketAddr::new(loopback(2), self.web.target)
    }

    /// The first endpoint of `db` without a sidecar before it.
    pub fn db_endpoint(&self) -> SocketAddr {
        SocketAddr::new(loopback(2), self.db.target)
    }

    /// How many connections the endpoints took, all together.
    pub fn connections(&self) -> u64 {
        self.upstreams.iter().map(Upstream::connections).sum()
    }

    /// Load of every class on both services.
    pub fn load(&self) -> MixedLoad {
        let http =
            [Class::KeepAlive, Class::New, Class::Http2].map(|class| Load::new(class, self.web(), "web"));
        MixedLoad { http: http.map(Load::start).into(), tcp: Load::new(Class::Tcp, self.db(), "db").start() }
    }
}

/// Load of every class, under way.
pub struct MixedLoad {
    http: Vec<Running>,
    tcp: Running,
}

impl MixedLoad {
    /// What came of each class so far.
    pub fn reports(&self) -> Vec<Report> {
        self.http.iter().chain([&self.tcp]).map(Running::report).collect()
    }

    /// What came of all of them so far.
    pub fn report(&self) -> Report {
        Report::merge(self.reports())
    }

    /// Sends everything past the sidecar from now on; see [`Running::move_to`].
    pub fn bypass_sidecar(&self, scene: &TwoServices) {
        self.http.iter().for_each(|load| load.move_to(scene.web_endpoint()));
        self.tcp.move_to(scene.db_endpoint());
    }

    /// Ends it; what came of all of them.
    pub async fn stop(self) -> Result<Report> {
        let mut reports = Vec::new();
        for load in self.http.into_iter().chain([self.tcp]) {
            reports.push(load.stop().await?);
        }
        Ok(Report::merge(reports))
    }
}

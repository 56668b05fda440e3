//! Two services with several endpoints each, for most tests and the demo.
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

/// The services and their endpoints.
pub struct TwoServices {
    web: Port<'static>,
    db: Port<'static>,
    names: Vec<String>,
    upstreams: Vec<Upstream>,
}

impl TwoServices {
    /// Starts endpoints with these names; at most 200.
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

    /// Returns the manifests of both services, with these endpoints.
    pub fn objects(&self, serving: &[&str]) -> Result<Vec<Value>> {
        let address = |name: &&str| -> Result<IpAddr> {
            let at = self.names.iter().position(|other| other == name);
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

    /// Returns the sidecar's address of `web`.
    pub fn web(&self) -> SocketAddr {
        local(self.web.port)
    }

    /// Returns the sidecar's address of `db`.
    pub fn db(&self) -> SocketAddr {
        local(self.db.port)
    }

    /// Returns the address of the first endpoint of `web`, past the sidecar.
    pub fn web_endpoint(&self) -> SocketAddr {
        SocketAddr::new(loopback(2), self.web.target)
    }

    /// Returns the address of the first endpoint of `db`, past the sidecar.
    pub fn db_endpoint(&self) -> SocketAddr {
        SocketAddr::new(loopback(2), self.db.target)
    }

    /// Returns the number of connections accepted by all endpoints.
    pub fn connections(&self) -> u64 {
        self.upstreams.iter().map(Upstream::connections).sum()
    }

    /// Starts load of every class on both services.
    pub fn load(&self) -> MixedLoad {
        let http =
            [Class::KeepAlive, Class::New, Class::Http2].map(|class| Load::new(class, self.web(), "web"));
        MixedLoad { http: http.map(Load::start).into(), tcp: Load::new(Class::Tcp, self.db(), "db").start() }
    }
}

/// Running load of every class.
pub struct MixedLoad {
    http: Vec<Running>,
    tcp: Running,
}

impl MixedLoad {
    /// Returns the report of each class so far.
    pub fn reports(&self) -> Vec<Report> {
        self.http.iter().chain([&self.tcp]).map(Running::report).collect()
    }

    /// Returns the merged report so far.
    pub fn report(&self) -> Report {
        Report::merge(self.reports())
    }

    /// Sends all requests past the sidecar from now on; see [`Running::move_to`].
    pub fn bypass_sidecar(&self, services: &TwoServices) {
        self.http.iter().for_each(|load| load.move_to(services.web_endpoint()));
        self.tcp.move_to(services.db_endpoint());
    }

    /// Stops the load and returns the merged report.
    pub async fn stop(self) -> Result<Report> {
        let mut reports = Vec::new();
        for load in self.http.into_iter().chain([self.tcp]) {
            reports.push(load.stop().await?);
        }
        Ok(Report::merge(reports))
    }
}

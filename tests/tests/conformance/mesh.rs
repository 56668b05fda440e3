//! The mesh with the suite's resources: `A`, `B`, `C` of each type as services, in versions.
//!
//! | type | resource `A` | its version | if it does not exist |
//! | --- | --- | --- | --- |
//! | CDS | the cluster of a DNS service | the address in it | no resource |
//! | EDS | the endpoints of a service | their address | an assignment without endpoints, which Istio sends as well |
//! | LDS | the listener on a service's own address | the host in it | no resource |
//! | RDS | the routes of a port, for updates | the host on the port | (the routes of any port exist) |
//! | RDS | the routes of one host's port, otherwise | always the same | no resource |
//!
//! Runs share a control plane. Each run has a namespace of its own and exports nothing from it.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use pilot_proto::ResourceType::{self, Cluster, Endpoint, Listener, Route};
use pilot_tests::manifest::{Folder, Port, service_entry};
use pilot_tests::mesh::Discovery;
use pilot_tests::net::get_ok;
use pilot_tests::wait::eventually;
use serde_json::{Value, json};

/// Time limit for the control plane to read a file.
const READ_TIMEOUT: Duration = Duration::from_secs(20);

/// Versions of a resource.
const VERSIONS: std::ops::RangeInclusive<u8> = 1..=3;

/// A control plane for the runs of a scenario.
pub(crate) struct ControlPlane {
    pub(crate) discovery: Discovery,
    folder: Folder,
    _dir: tempfile::TempDir,
}

/// Naming of route configurations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routes {
    /// By port, `8001`: they always exist, and change with the hosts on the port.
    ByPort,
    /// By host and port, `a.example:80`: they exist while the host does, and do not change.
    ByHost,
}

/// The part of the mesh that belongs to one run.
pub(crate) struct Mesh {
    pub(crate) xds: std::net::SocketAddr,
    http: std::net::SocketAddr,
    folder: Folder,
    number: u8,
    pub(crate) routes: Routes,
    written: AtomicU8,
}

// === impl ControlPlane ===

impl ControlPlane {
    pub(crate) async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let folder = Folder::create(dir.path().join("config"))?;
        let discovery = Discovery::start(dir.path(), &folder).await?;
        Ok(Self { discovery, folder, _dir: dir })
    }

    /// Returns the mesh of the `number`th run.
    pub(crate) fn mesh(&self, number: u8) -> Mesh {
        Mesh {
            xds: self.discovery.grpc,
            http: self.discovery.http,
            folder: self.folder.clone(),
            number,
            routes: Routes::ByHost,
            written: AtomicU8::new(0),
        }
    }
}

// === impl Mesh ===

impl Mesh {
    /// Returns the namespace of the run.
    pub(crate) fn namespace(&self) -> String {
        format!("run-{}", self.number)
    }

    /// Returns the xDS name of the resource that the suite calls `A`.
    pub(crate) fn name(&self, kind: ResourceType, letter: char) -> String {
        let at = index(letter);
        match kind {
            Listener => format!("10.{}.{at}.1_80", self.number),
            Route if self.routes == Routes::ByPort => port(letter).to_string(),
            Route => format!("{}:80", self.host(kind, letter, 1)),
            _ => format!("outbound|80||{}", self.host(kind, letter, 1)),
        }
    }

    /// Returns the suite's name of a resource, or `None` for the resources of every proxy.
    pub(crate) fn letter(&self, kind: ResourceType, name: &str) -> Option<char> {
        ('A'..='Z').find(|letter| self.name(kind, *letter) == name)
    }

    /// Returns the version of a resource by its content; 0: none.
    pub(crate) fn version(&self, kind: ResourceType, letter: char, body: &[u8]) -> u8 {
        let contains = |text: &str| body.windows(text.len()).any(|part| part == text.as_bytes());
        let version =
            VERSIONS.into_iter().find(|version| contains(&self.version_marker(kind, letter, *version)));
        version.unwrap_or_default()
    }

    /// Returns the version that a resource will have; route configurations by host have only one.
    pub(crate) fn visible_version(&self, kind: ResourceType, version: u8) -> u8 {
        if kind == Route && self.routes == Routes::ByHost { 1 } else { version }
    }

    /// Creates or updates the resource.
    pub(crate) fn write(&self, kind: ResourceType, letter: char, version: u8) -> Result<()> {
        self.folder.write(&self.file(kind, letter), &[self.entry(kind, letter, version)])
    }

    /// Removes the resource.
    pub(crate) fn remove(&self, kind: ResourceType, letter: char) -> Result<()> {
        self.folder.remove(&self.file(kind, letter))
    }

    /// Triggers a push that contains nothing for the run's client, by a change in another namespace. Returns when the control plane
    /// has read everything written so far.
    pub(crate) async fn trigger_unrelated_push(&self) -> Result<()> {
        let count = self.written.fetch_add(1, Ordering::Relaxed);
        let host = format!("count-{count}.elsewhere-{}.example", self.number);
        let mut entry = service_entry("else", &host, "STATIC", &[Port::new("http", 80, 80)], &["127.0.0.9"]);
        isolate(&mut entry, &format!("elsewhere-{}", self.number));
        self.folder.write(&format!("elsewhere-{}.yaml", self.number), &[entry])?;
        self.wait_for_host(&host).await
    }

    /// Waits until the control plane knows a host.
    async fn wait_for_host(&self, host: &str) -> Result<()> {
        eventually(READ_TIMEOUT, "the control plane has read the mesh", async || {
            let services = get_ok(self.http, "/debug/registryz").await?;
            ensure!(services.contains(host), "no {host}");
            Ok(())
        })
        .await
    }

    /// Waits until the control plane has these resources.
    pub(crate) async fn wait_for_hosts(&self, kind: ResourceType, letters: &str) -> Result<()> {
        for letter in letters.chars() {
            self.wait_for_host(&self.host(kind, letter, 1)).await?;
        }
        Ok(())
    }

    fn file(&self, kind: ResourceType, letter: char) -> String {
        format!("{}-{kind}-{}.yaml", self.namespace(), letter.to_ascii_lowercase())
    }

    /// Returns the host of the service of a resource. If the host is the version, it differs in each.
    fn host(&self, kind: ResourceType, letter: char, version: u8) -> String {
        let (letter, namespace) = (letter.to_ascii_lowercase(), self.namespace());
        match (kind, self.routes) {
            (Listener, _) | (Route, Routes::ByPort) => {
                format!("{kind}-{letter}-v{version}.{namespace}.example")
            }
            _ => format!("{kind}-{letter}.{namespace}.example"),
        }
    }

    /// Returns the text that only this version of a resource contains.
    fn version_marker(&self, kind: ResourceType, letter: char, version: u8) -> String {
        match (kind, self.routes) {
            (Cluster | Endpoint, _) => self.endpoint(letter, version),
            (Route, Routes::ByHost) => self.host(kind, letter, 1),
            _ => format!("|{}", self.host(kind, letter, version)),
        }
    }

    fn endpoint(&self, letter: char, version: u8) -> String {
        // All of equal length, so that none is the prefix of another.
        format!("127.{}.{}.{version}", 100 + self.number, 100 + index(letter))
    }

    fn entry(&self, kind: ResourceType, letter: char, version: u8) -> Value {
        let name = format!("{kind}-{}", letter.to_ascii_lowercase());
        let endpoint = self.endpoint(letter, version);
        let host = self.host(kind, letter, version);
        let of = |resolution: &str, protocol: &str, number: u16, endpoints: &[&str]| {
            service_entry(&name, &host, resolution, &[Port::new(protocol, number, 80)], endpoints)
        };
        let mut entry = match (kind, self.routes) {
            (Cluster, _) => of("DNS", "http", 80, &[&endpoint]),
            (Listener, _) => of("STATIC", "tcp", 80, &[]),
            (Route, Routes::ByPort) => of("STATIC", "http", port(letter), &[]),
            (Route, Routes::ByHost) => of("STATIC", "http", 80, &[]),
            _ => of("STATIC", "http", 80, &[&endpoint]),
        };
        isolate(&mut entry, &self.namespace());
        if kind == Listener {
            let address = format!("10.{}.{}.1", self.number, index(letter));
            set(&mut entry, "spec", "addresses", json!([address]));
        }
        entry
    }
}

/// Makes an entry visible in its own namespace only.
fn isolate(entry: &mut Value, namespace: &str) {
    set(entry, "metadata", "namespace", namespace.into());
    set(entry, "spec", "exportTo", json!(["."]));
}

fn set(entry: &mut Value, part: &str, key: &str, value: Value) {
    if let Some(fields) = entry.get_mut(part).and_then(Value::as_object_mut) {
        fields.insert(key.into(), value);
    }
}

/// Returns the index of a letter: `A` is 1.
fn index(letter: char) -> u8 {
    u8::try_from(letter).map_or(0, |letter| letter.saturating_sub(b'A') + 1)
}

fn port(letter: char) -> u16 {
    8000 + u16::from(index(letter))
}

/// Returns the letters of the suite's list, `A,B,C`.
pub(crate) fn letters(list: &str) -> impl Iterator<Item = char> {
    list.chars().filter(|letter| *letter != ',')
}

/// Returns the only letter of a list.
pub(crate) fn single(list: &str) -> Result<char> {
    letters(list).next().with_context(|| format!("{list:?} names no resource"))
}

/// Formats the content of a response as written in the scenarios: `A=1 B=2 -C`.
pub(crate) fn format_versions(has: &BTreeMap<char, u8>, gone: &[char]) -> String {
    let has = has.iter().map(|(letter, version)| format!("{letter}={version}"));
    has.chain(gone.iter().map(|letter| format!("-{letter}"))).collect::<Vec<_>>().join(" ")
}

/// Checks the table above, so that a mistake in it does not appear as a failed scenario.
#[test]
fn resource_names_and_versions_are_distinct() -> Result<()> {
    let dir = tempfile::tempdir()?;
    let folder = Folder::create(dir.path().to_owned())?;
    let any = std::net::SocketAddr::from(([127, 0, 0, 1], 0));
    for routes in [Routes::ByHost, Routes::ByPort] {
        let written = AtomicU8::new(0);
        let mesh = Mesh { xds: any, http: any, folder: folder.clone(), number: 7, routes, written };
        for kind in [Cluster, Endpoint, Listener, Route] {
            for letter in ['A', 'L', 'Z'] {
                let name = mesh.name(kind, letter);
                ensure!(mesh.letter(kind, &name) == Some(letter), "{name}");
                for version in VERSIONS {
                    let text = mesh.entry(kind, letter, version).to_string();
                    let mark = mesh.version_marker(kind, letter, version).replace('|', "");
                    let others = VERSIONS.filter(|other| {
                        text.contains(&mesh.version_marker(kind, letter, *other).replace('|', ""))
                    });
                    let count = others.count();
                    let versions = if (kind, routes) == (Route, Routes::ByHost) { 3 } else { 1 };
                    ensure!(text.contains(&mark) && count == versions, "{kind} {letter} {version}: {text}");
                }
            }
        }
    }
    Ok(())
}

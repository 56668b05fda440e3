//! Where the suite's resources come from: `A`, `B`, `C` of each type as services of a mesh, in versions.
//!
//! | type | resource `A` | what its version is | when it does not exist |
//! | --- | --- | --- | --- |
//! | CDS | the cluster of a service that DNS resolves | the address in it | there is none |
//! | EDS | the endpoints of a service | their address | an assignment without endpoints: a cluster needs one (Istio's rule) |
//! | LDS | the listener on a service's own address | the host that it leads to | there is none |
//! | RDS | the routes of a port, for updates | the host that is on the port | (the routes of any port exist) |
//! | RDS | the routes of one host's port, otherwise | there is only one | there are none |
//!
//! Runs share a control plane, and no run sees what is another's: each has a namespace, and exports nothing from it.

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

/// How long the control plane may take to read a file.
const READ: Duration = Duration::from_secs(20);

/// Versions of a resource.
const VERSIONS: std::ops::RangeInclusive<u8> = 1..=3;

/// A control plane for the runs of a scenario.
pub(crate) struct Plane {
    pub(crate) discovery: Discovery,
    folder: Folder,
    _dir: tempfile::TempDir,
}

/// What routes are named by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Routes {
    /// `8001`: they always exist, and change with the hosts that are on the port.
    ByPort,
    /// `a.example:80`: they exist while the host does, and do not change.
    ByHost,
}

/// The part of the mesh that is one run's.
pub(crate) struct Mesh {
    pub(crate) xds: std::net::SocketAddr,
    http: std::net::SocketAddr,
    folder: Folder,
    number: u8,
    pub(crate) routes: Routes,
    written: AtomicU8,
}

// === impl Plane ===

impl Plane {
    pub(crate) async fn start() -> Result<Self> {
        let dir = tempfile::tempdir()?;
        let folder = Folder::create(dir.path().join("config"))?;
        let discovery = Discovery::start(dir.path(), &folder).await?;
        Ok(Self { discovery, folder, _dir: dir })
    }

    /// The mesh of the `number`th run.
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
    /// The namespace of the run.
    pub(crate) fn namespace(&self) -> String {
        format!("run-{}", self.number)
    }

    /// What the suite calls `A` as the wire names it.
    pub(crate) fn name(&self, kind: ResourceType, letter: char) -> String {
        let at = place(letter);
        match kind {
            Listener => format!("10.{}.{at}.1_80", self.number),
            Route if self.routes == Routes::ByPort => port(letter).to_string(),
            Route => format!("{}:80", self.host(kind, letter, 1)),
            _ => format!("outbound|80||{}", self.host(kind, letter, 1)),
        }
    }

    /// What the suite calls the resource that the wire names so; `None` for those that every proxy has.
    pub(crate) fn letter(&self, kind: ResourceType, name: &str) -> Option<char> {
        ('A'..='Z').find(|letter| self.name(kind, *letter) == name)
    }

    /// The version of a resource, by what is in it; 0: nothing is.
    pub(crate) fn version(&self, kind: ResourceType, letter: char, body: &[u8]) -> u8 {
        let contains = |text: &str| body.windows(text.len()).any(|part| part == text.as_bytes());
        let version = VERSIONS.into_iter().find(|version| contains(&self.mark(kind, letter, *version)));
        version.unwrap_or_default()
    }

    /// The version that a resource will show; routes of one host have but one.
    pub(crate) fn shown(&self, kind: ResourceType, version: u8) -> u8 {
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

    /// Changes something that is none of the run's business, so that there is a push and nothing in it for its client. Returns
    /// when the control plane knows what was written so far.
    pub(crate) async fn something_else_happens(&self) -> Result<()> {
        let count = self.written.fetch_add(1, Ordering::Relaxed);
        let host = format!("count-{count}.elsewhere-{}.example", self.number);
        let mut entry = service_entry("else", &host, "STATIC", &[Port::new("http", 80, 80)], &["127.0.0.9"]);
        isolate(&mut entry, &format!("elsewhere-{}", self.number));
        self.folder.write(&format!("elsewhere-{}.yaml", self.number), &[entry])?;
        self.is_known(&host).await
    }

    /// Waits until the control plane knows a host.
    async fn is_known(&self, host: &str) -> Result<()> {
        eventually(READ, "the control plane has read the mesh", async || {
            let services = get_ok(self.http, "/debug/registryz").await?;
            ensure!(services.contains(host), "no {host}");
            Ok(())
        })
        .await
    }

    /// Waits until the control plane knows these resources.
    pub(crate) async fn are_known(&self, kind: ResourceType, letters: &str) -> Result<()> {
        for letter in letters.chars() {
            self.is_known(&self.host(kind, letter, 1)).await?;
        }
        Ok(())
    }

    fn file(&self, kind: ResourceType, letter: char) -> String {
        format!("{}-{kind}-{}.yaml", self.namespace(), letter.to_ascii_lowercase())
    }

    /// The host of the service behind a resource. Where the host is the version, it is another one each time.
    fn host(&self, kind: ResourceType, letter: char, version: u8) -> String {
        let (letter, namespace) = (letter.to_ascii_lowercase(), self.namespace());
        match (kind, self.routes) {
            (Listener, _) | (Route, Routes::ByPort) => {
                format!("{kind}-{letter}-v{version}.{namespace}.example")
            }
            _ => format!("{kind}-{letter}.{namespace}.example"),
        }
    }

    /// What only this version of a resource has in it.
    fn mark(&self, kind: ResourceType, letter: char, version: u8) -> String {
        match (kind, self.routes) {
            (Cluster | Endpoint, _) => self.endpoint(letter, version),
            (Route, Routes::ByHost) => self.host(kind, letter, 1),
            _ => format!("|{}", self.host(kind, letter, version)),
        }
    }

    fn endpoint(&self, letter: char, version: u8) -> String {
        // Always as long, so that none is the beginning of another.
        format!("127.{}.{}.{version}", 100 + self.number, 100 + place(letter))
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
            let address = format!("10.{}.{}.1", self.number, place(letter));
            set(&mut entry, "spec", "addresses", json!([address]));
        }
        entry
    }
}

/// Nobody sees it but its own namespace.
fn isolate(entry: &mut Value, namespace: &str) {
    set(entry, "metadata", "namespace", namespace.into());
    set(entry, "spec", "exportTo", json!(["."]));
}

fn set(entry: &mut Value, part: &str, key: &str, value: Value) {
    if let Some(fields) = entry.get_mut(part).and_then(Value::as_object_mut) {
        fields.insert(key.into(), value);
    }
}

/// `A` is 1.
fn place(letter: char) -> u8 {
    u8::try_from(letter).map_or(0, |letter| letter.saturating_sub(b'A') + 1)
}

fn port(letter: char) -> u16 {
    8000 + u16::from(place(letter))
}

/// The letters of a list as the suite writes it, `A,B,C`.
pub(crate) fn letters(list: &str) -> impl Iterator<Item = char> {
    list.chars().filter(|letter| *letter != ',')
}

/// One letter of a list of one.
pub(crate) fn only(list: &str) -> Result<char> {
    letters(list).next().with_context(|| format!("{list:?} names no resource"))
}

/// What a response has in it, as a test writes it: `A=1 B=2 -C`.
pub(crate) fn spelt(has: &BTreeMap<char, u8>, gone: &[char]) -> String {
    let has = has.iter().map(|(letter, version)| format!("{letter}={version}"));
    has.chain(gone.iter().map(|letter| format!("-{letter}"))).collect::<Vec<_>>().join(" ")
}

/// So that a mistake in the table above is found here and not in a scenario.
#[test]
fn resources_have_names_and_versions_of_their_own() -> Result<()> {
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
                    let mark = mesh.mark(kind, letter, version).replace('|', "");
                    let others = VERSIONS
                        .filter(|other| text.contains(&mesh.mark(kind, letter, *other).replace('|', "")));
                    let count = others.count();
                    let versions = if (kind, routes) == (Route, Routes::ByHost) { 3 } else { 1 };
                    ensure!(text.contains(&mark) && count == versions, "{kind} {letter} {version}: {text}");
                }
            }
        }
    }
    Ok(())
}

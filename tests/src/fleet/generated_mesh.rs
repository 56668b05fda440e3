//! The generated mesh as files for the registry File, and its changes: many services with ten endpoints each, one file for each
//! service, so that a change reads little.
//!
//! ```text
//! svc-00007.yaml    Service and EndpointSlice of one service: nine endpoints
//! tenth.yaml        EndpointSlices with the tenth endpoint of every service: one write changes all assignments
//! nodes.yaml        zones of the nodes
//! mesh.yaml         connectTimeout: one write changes all clusters
//! ```

use std::fs;
use std::path::PathBuf;

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::manifest::{Folder, yaml};
use crate::net::free_port;

/// Number of endpoints of each service.
pub const ENDPOINTS: u32 = 10;

/// Number of ports over which services are spread, so that each route configuration has a tenth of them.
const PORTS: u32 = 10;

/// Number of nodes, each in a zone of its own.
const NODES: u32 = 2;

/// Visibility of services.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Visibility {
    /// Every proxy sees all services: one scope.
    All,
    /// Each of so many namespaces has a fiftieth of the services for itself; all others are visible everywhere. Every proxy sees
    /// as many services as with [`Self::All`].
    Namespaces(u32),
}

/// A generated mesh in a folder.
#[derive(Debug)]
pub struct GeneratedMesh {
    /// The folder for `--configDir`.
    pub folder: Folder,
    /// The file for `--meshConfig`.
    pub mesh_file: PathBuf,
    visible_services: u32,
    visibility: Visibility,
    listen: (u16, u16),
    revision: u32,
    /// Number of changes of everything.
    turn: u32,
}

/// One service of the mesh.
struct GeneratedService {
    index: u32,
    namespace: String,
    export: &'static str,
}

// === impl GeneratedMesh ===

impl GeneratedMesh {
    /// Writes a mesh below `dir` in which every proxy sees so many services (at most 65,536).
    pub fn write(dir: &std::path::Path, visible_services: u32, visibility: Visibility) -> Result<Self> {
        let mesh = Self {
            folder: Folder::create(dir.join("mesh"))?,
            mesh_file: dir.join("mesh.yaml"),
            visible_services,
            visibility,
            listen: (free_port()?, free_port()?),
            revision: 0,
            turn: 0,
        };
        for service in mesh.services() {
            mesh.folder.write(&file(service.index), &service.objects(0, 0))?;
        }
        let nodes: Vec<Value> = (0..NODES).map(node).collect();
        mesh.folder.write("nodes.yaml", &nodes)?;
        mesh.write_tenth()?;
        mesh.write_mesh()?;
        Ok(mesh)
    }

    /// Returns the number of namespaces with proxies.
    pub const fn scopes(&self) -> u32 {
        match self.visibility {
            Visibility::All => 1,
            Visibility::Namespaces(count) => count,
        }
    }

    /// Returns the number of services that a proxy sees.
    pub const fn visible_services(&self) -> u32 {
        self.visible_services
    }

    /// Returns the cluster of a service that is visible everywhere.
    pub fn cluster(&self, index: u32) -> Result<String> {
        let service = self.services().nth(index as usize).context("there is no such service")?;
        Ok(format!("outbound|{}||{}.{}.svc.cluster.local", service.port(), service.name(), service.namespace))
    }

    /// Moves one endpoint of a service.
    pub fn change_endpoint(&mut self, index: u32) -> Result<()> {
        self.change(index, 1, 0)
    }

    /// Changes the cluster IP of a service. It occurs in the routes of an HTTP service and nowhere else.
    pub fn change_route(&mut self, index: u32) -> Result<()> {
        self.change(index, 0, 1)
    }

    fn change(&mut self, index: u32, endpoint: u32, route: u32) -> Result<()> {
        self.revision += 1;
        let service = self.services().nth(index as usize).context("there is no such service")?;
        let objects = service.objects(self.revision * endpoint, self.revision * route);
        self.folder.write(&file(index), &objects)
    }

    /// Changes every cluster and every endpoint assignment.
    pub fn change_everything(&mut self) -> Result<()> {
        self.turn += 1;
        // The large file first: reading it takes longer, and both changes should be one push.
        self.write_tenth()?;
        self.write_mesh()
    }

    /// Removes a service and its endpoints.
    pub fn remove(&self, index: u32) -> Result<()> {
        self.folder.remove(&file(index))
    }

    fn write_tenth(&self) -> Result<()> {
        let slices: Vec<Value> = self
            .services()
            .map(|service| service.slice("tenth", self.turn, ENDPOINTS - 1..ENDPOINTS))
            .collect();
        self.folder.write_text("tenth.yaml", &yaml(&slices)?)
    }

    fn write_mesh(&self) -> Result<()> {
        let (outbound, inbound) = self.listen;
        let timeout = format!("{}ms", 10_000 + self.turn);
        let mesh = json!({
            "proxyListenPort": outbound,
            "proxyInboundListenPort": inbound,
            "connectTimeout": timeout,
        });
        let unfinished = self.mesh_file.with_extension("swp");
        fs::write(&unfinished, serde_saphyr::to_string(&mesh)?).context("write the mesh's configuration")?;
        fs::rename(&unfinished, &self.mesh_file).context("write the mesh's configuration")
    }

    /// Returns the services that are visible everywhere, then those of one namespace each.
    fn services(&self) -> impl Iterator<Item = GeneratedService> {
        let (namespaces, own) = match self.visibility {
            Visibility::All => (1, 0),
            Visibility::Namespaces(count) => (count.max(1), (self.visible_services / 50).max(1)),
        };
        let common = self.visible_services.saturating_sub(own);
        (0..common + namespaces * own).map(move |index| GeneratedService {
            index,
            namespace: format!("ns-{}", index % namespaces),
            export: if index < common { "*" } else { "." },
        })
    }
}

// === impl GeneratedService ===

impl GeneratedService {
    fn name(&self) -> String {
        format!("service-{:04}", self.index)
    }

    fn port(&self) -> u32 {
        8000 + self.index % PORTS
    }

    fn objects(&self, endpoint: u32, route: u32) -> Vec<Value> {
        vec![self.service(route), self.slice("nine", endpoint, 0..ENDPOINTS - 1)]
    }

    fn service(&self, revision: u32) -> Value {
        let [.., b, c] = self.index.to_be_bytes();
        json!({
            "apiVersion": "v1",
            "kind": "Service",
            "metadata": {
                "name": self.name(),
                "namespace": self.namespace,
                "annotations": {"networking.istio.io/exportTo": self.export},
            },
            "spec": {
                "clusterIP": format!("172.{}.{b}.{c}", 16 + revision % 16),
                "ports": [{"name": "http-main", "port": self.port(), "targetPort": 8080, "protocol": "TCP"}],
            },
        })
    }

    /// Returns one of its slices. A revision moves the first endpoint, which is a removal and therefore pushed at once. The tenth
    /// endpoint only changes its zone, so that a full push is one push.
    fn slice(&self, part: &str, revision: u32, endpoints: std::ops::Range<u32>) -> Value {
        let [.., b, c] = self.index.to_be_bytes();
        let [.., r1, r2] = revision.to_be_bytes();
        let endpoint = |nth: u32| {
            let moved = nth == 0 && revision > 0;
            // 10.128.0.0/9 for endpoints that stay, 11.0.0.0/8 for those that move.
            let address = if moved {
                format!("11.{}.{r1}.{r2}", self.index % 250)
            } else {
                format!("10.{}.{b}.{c}", 128 + nth)
            };
            let node = if nth == ENDPOINTS - 1 { revision % NODES } else { 0 };
            json!({"addresses": [address], "conditions": {"ready": true}, "nodeName": format!("node-{node}")})
        };
        let endpoints: Vec<Value> = endpoints.map(endpoint).collect();
        json!({
            "apiVersion": "discovery.k8s.io/v1",
            "kind": "EndpointSlice",
            "metadata": {
                "name": format!("{}-{part}", self.name()),
                "namespace": self.namespace,
                "labels": {"kubernetes.io/service-name": self.name()},
            },
            "addressType": "IPv4",
            "ports": [{"name": "http-main", "port": 8080, "protocol": "TCP"}],
            "endpoints": endpoints,
        })
    }
}

fn node(number: u32) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": format!("node-{number}"),
            "labels": {
                "topology.kubernetes.io/region": "region",
                "topology.kubernetes.io/zone": format!("zone-{number}"),
            },
        },
    })
}

fn file(index: u32) -> String {
    format!("svc-{index:05}.yaml")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_namespace_sees_as_many_services_but_different_ones() {
        let dir = tempfile::tempdir().unwrap();
        let mesh = GeneratedMesh::write(dir.path(), 100, Visibility::Namespaces(50)).unwrap();
        let visible_services = |namespace: &str| -> BTreeSet<u32> {
            let sees = |service: &GeneratedService| service.export == "*" || service.namespace == namespace;
            mesh.services().filter(sees).map(|service| service.index).collect()
        };
        let scopes: BTreeSet<BTreeSet<u32>> = (0..50).map(|n| visible_services(&format!("ns-{n}"))).collect();
        assert_eq!(scopes.len(), 50);
        assert!(scopes.iter().all(|scope| scope.len() == 100));
        let files = fs::read_dir(mesh.folder.path()).unwrap().count();
        assert_eq!(files, 98 + 50 * 2 + 2, "a file for each service, tenth endpoints, nodes");
    }

    #[test]
    fn a_change_writes_only_the_files_of_what_changes() {
        let dir = tempfile::tempdir().unwrap();
        let mut mesh = GeneratedMesh::write(dir.path(), 3, Visibility::All).unwrap();
        let read = |path: PathBuf| fs::read_to_string(path).unwrap();
        let all = |mesh: &GeneratedMesh| {
            let files = [file(0), file(1), "tenth.yaml".into()];
            let mut texts: Vec<String> = files.iter().map(|name| read(mesh.folder.file(name))).collect();
            texts.push(read(mesh.mesh_file.clone()));
            texts
        };
        let mut check = |what: &str, change: &dyn Fn(&mut GeneratedMesh), expected: [bool; 4]| {
            let before = all(&mesh);
            change(&mut mesh);
            let after = all(&mesh);
            let changed: Vec<bool> = before.iter().zip(&after).map(|(a, b)| a != b).collect();
            assert_eq!(changed, expected, "{what}");
        };
        check("an endpoint", &|mesh| mesh.change_endpoint(1).unwrap(), [false, true, false, false]);
        check("a route", &|mesh| mesh.change_route(0).unwrap(), [true, false, false, false]);
        check("everything", &|mesh| mesh.change_everything().unwrap(), [false, false, true, true]);
        check("the endpoint again", &|mesh| mesh.change_endpoint(1).unwrap(), [false, true, false, false]);
    }
}

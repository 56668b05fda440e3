//! YAML manifests: Kubernetes' `Service` and `EndpointSlice`, Istio's `ServiceEntry`, and the folder that holds them.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use crate::net::loopback;

/// A port of a service.
#[derive(Clone, Copy, Debug)]
pub struct Port<'a> {
    /// Port name; its first part is the protocol: `http-web`, `tcp-db`, `grpc`.
    pub name: &'a str,
    /// Service port.
    pub port: u16,
    /// Port of the endpoints.
    pub target: u16,
}

impl<'a> Port<'a> {
    /// Creates a port with a target port.
    pub const fn new(name: &'a str, port: u16, target: u16) -> Self {
        Self { name, port, target }
    }
}

/// Returns a `Service` of the namespace `default`. A `cluster_ip` of `None` makes it headless.
pub fn service(name: &str, cluster_ip: &str, ports: &[Port]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| json!({"name": port.name, "port": port.port, "targetPort": port.target, "protocol": "TCP"}))
        .collect();
    json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"clusterIP": cluster_ip, "selector": {"app": name}, "ports": ports},
    })
}

/// Returns a `Service` of type `ExternalName`.
pub fn external_name(name: &str, host: &str, ports: &[Port]) -> Value {
    let mut service = service(name, "", ports);
    if let Some(spec) = service.get_mut("spec") {
        let ports = spec.get("ports").cloned().unwrap_or_default();
        *spec = json!({"type": "ExternalName", "externalName": host, "ports": ports});
    }
    service
}

/// Returns the `EndpointSlice` of a service of the namespace `default`.
pub fn endpoint_slice(service: &str, ports: &[Port], addresses: &[IpAddr]) -> Value {
    let ports: Vec<Value> =
        ports.iter().map(|port| json!({"name": port.name, "port": port.target, "protocol": "TCP"})).collect();
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({"addresses": [address.to_string()], "conditions": {"ready": true}}))
        .collect();
    json!({
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {
            "name": format!("{service}-1"),
            "namespace": "default",
            "labels": {"kubernetes.io/service-name": service},
        },
        "addressType": "IPv4",
        "ports": ports,
        "endpoints": endpoints,
    })
}

/// Returns a `ServiceEntry` of the namespace `default`. Each endpoint is an address or a host name.
pub fn service_entry(name: &str, host: &str, resolution: &str, ports: &[Port], endpoints: &[&str]) -> Value {
    let ports: Vec<Value> = ports
        .iter()
        .map(|port| {
            let protocol = port.name.split('-').next().unwrap_or(port.name).to_uppercase();
            json!({"name": port.name, "number": port.port, "targetPort": port.target, "protocol": protocol})
        })
        .collect();
    let mut spec =
        json!({"hosts": [host], "location": "MESH_INTERNAL", "resolution": resolution, "ports": ports});
    if let Some(spec) = spec.as_object_mut().filter(|_| !endpoints.is_empty()) {
        let endpoints: Vec<Value> = endpoints.iter().map(|address| json!({"address": address})).collect();
        spec.insert("endpoints".into(), endpoints.into());
    }
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    })
}

/// Writes several objects as one file of several documents.
pub fn yaml(objects: &[Value]) -> Result<String> {
    let documents: Result<Vec<String>, _> = objects.iter().map(serde_saphyr::to_string).collect();
    Ok(documents.context("write YAML")?.join("---\n"))
}

/// A folder of YAML. Files are replaced atomically: written beside, then renamed.
#[derive(Clone, Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// Creates the folder.
    pub fn create(path: PathBuf) -> Result<Self> {
        fs::create_dir_all(&path).with_context(|| format!("create {}", path.display()))?;
        Ok(Self(path))
    }

    /// Creates a folder in `dir` with one service, `web` in `default`, port 80, served at 127.0.0.2.
    pub fn of_web(dir: &Path) -> Result<Self> {
        let folder = Self::create(dir.join("config"))?;
        let ports = [Port::new("http", 80, 8080)];
        let slice = endpoint_slice("web", &ports, &[loopback(2)]);
        folder.write("web.yaml", &[service("web", "10.0.0.1", &ports), slice])?;
        Ok(folder)
    }

    /// Returns the path of the folder.
    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Returns the path of the file `name`.
    pub fn file(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// Writes a file of objects, replacing the previous content.
    pub fn write(&self, name: &str, objects: &[Value]) -> Result<()> {
        self.write_text(name, &yaml(objects)?)
    }

    /// Writes a file as given, valid YAML or not.
    pub fn write_text(&self, name: &str, text: &str) -> Result<()> {
        let unfinished = self.0.join(format!(".{name}.swp"));
        fs::write(&unfinished, text).with_context(|| format!("write {name}"))?;
        fs::rename(&unfinished, self.file(name)).with_context(|| format!("write {name}"))
    }

    /// Removes a file.
    pub fn remove(&self, name: &str) -> Result<()> {
        fs::remove_file(self.file(name)).with_context(|| format!("remove {name}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn yaml_documents_read_back_unchanged() {
        let port = [Port::new("http-web", 80, 8080)];
        let objects = [
            service("web", "None", &port),
            endpoint_slice("web", &port, &[loopback(2)]),
            service_entry("on", "no.example.com", "STATIC", &port, &["10.0.0.1"]),
            external_name("far", "1.example.com", &port),
        ];
        let text = yaml(&objects).unwrap();
        let read: Vec<Value> = serde_saphyr::from_multiple(&text).unwrap();
        assert_eq!(read, objects, "{text}");
    }
}

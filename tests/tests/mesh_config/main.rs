//! What users' configuration does to real requests: manifests in a folder, a real control plane, real Envoys.
//!
//! ```text
//! ask ──▶ client's sidecar ──▶ v1, v2, v3 of `web`; `db`          requests, destinations, egress
//! ask ──▶ client's sidecar ──▶ server's sidecar ──▶ its workload   sidecars
//! ask ──▶ gateway ──▶ v1, v2, v3 of `web`                          gateways
//! ask ──▶ client's sidecar ──▶ access log, collector of spans         reporting
//! ```

mod bookshop;
mod destinations;
mod egress;
mod gateways;
mod reporting;
mod requests;
mod sidecars;

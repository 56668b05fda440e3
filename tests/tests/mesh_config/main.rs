//! The effect of users' configuration on real requests: manifests in a folder, a real control plane, real Envoys.
//!
//! ```text
//! test ──▶ client's sidecar ──▶ v1, v2, v3 of `web`; `db`          requests, destinations, egress
//! test ──▶ client's sidecar ──▶ server's sidecar ──▶ its workload   sidecars
//! test ──▶ gateway ──▶ v1, v2, v3 of `web`                          gateways
//! test ──▶ client's sidecar ──▶ access log, collector of spans      telemetry
//! ```

mod bookshop;
mod destinations;
mod egress;
mod gateways;
mod requests;
mod sidecars;
mod telemetry;

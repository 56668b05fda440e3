//! Validation of `MeshConfig`: fields without effect, and values that are ignored.
//!
//! Types of fields were checked when it was decoded.

use pilot_proto::mesh::proxy_config::ControlPlaneOptions;
use pilot_proto::mesh::{AccessLogEncoding, MeshConfig};
use serde_json::{Map, Value};

use super::findings::{At, Findings};
use super::unsupported;

pub(super) fn check(out: &mut Findings, mesh: &MeshConfig) {
    for name in mesh.unread.keys().chain(&mesh.unknown) {
        out.warning(At::Root(name), "is not known and has no effect");
    }
    let format = &mesh.access_log_format;
    let is_object = || serde_json::from_str::<Map<String, Value>>(format).is_ok();
    if mesh.access_log_encoding == AccessLogEncoding::Json && !format.is_empty() && !is_object() {
        out.warning(At::Root("accessLogFormat"), "is no JSON object: the default fields are logged");
    }
    for wrong in ControlPlaneOptions::faults(&mesh.default_config) {
        out.warning(
            At::Root("defaultConfig").of(&wrong.field),
            format!("{} and has no effect", wrong.message),
        );
    }
    unsupported::mesh(out, mesh);
}

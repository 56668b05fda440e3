//! What makes a configuration object unusable though every field has the right type, and what in it has no effect.
//!
//! One object at a time, by itself: whether a host or a gateway that it names is there is not known here. The rules are
//! Istio's, of its webhook and of its CRDs, so that what `kubectl apply` takes there is taken here; one file for each
//! kind, and one for each part that several kinds have.
//! <https://istio.io/latest/docs/reference/config/analysis/>

mod findings;
mod service_entry;
mod sharing;
pub mod values;
mod workload;

use self::findings::{At, Findings};
use crate::model::{ConfigObject, ConfigSpec};

pub use findings::{Finding, Severity};

/// Everything that is to be said about an object; without an [`Severity::Error`] it can be used.
pub fn config(object: &ConfigObject) -> Vec<Finding> {
    let mut out = Findings::default();
    let (spec, namespace) = (At::Root("spec"), object.meta.namespace.as_str());
    match &object.spec {
        ConfigSpec::ServiceEntry(entry) => service_entry::check(&mut out, spec, namespace, entry),
        ConfigSpec::WorkloadEntry(entry) => workload::entry(&mut out, spec, entry, workload::Place::Alone),
        ConfigSpec::WorkloadGroup(group) => workload::group(&mut out, spec, group),
        _ => {}
    }
    out.into_inner()
}

//! Validation of `ProxyConfig`.

use super::findings::{At, Findings};
use crate::api::ProxyConfig;

/// Maximum length of the value of an environment variable.
const LONGEST_VALUE: usize = 2048;

pub(super) fn check(out: &mut Findings, at: At<'_>, config: &ProxyConfig) {
    out.match_labels(at.of("selector"), config.selector.as_ref());
    out.not_negative(at.of("concurrency"), config.concurrency.unwrap_or(0));
    for (name, value) in &config.environment_variables {
        if value.len() > LONGEST_VALUE {
            let field = at.of("environmentVariables");
            out.error(field.of(name), format!("is {} bytes long: {LONGEST_VALUE} at most", value.len()));
        }
    }
}

//! `/debug/cachez`: which resources are remembered, how large they are; and forgetting them.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use tracing::info;

use super::page::{Params, given, page, refuse};
use super::{Arc, RunningState};

/// `GET /debug/cachez[?sizes=true]`: names, or bytes, by type.
pub(super) async fn cachez(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    if given(&params, "clear").is_some() {
        return refuse(StatusCode::METHOD_NOT_ALLOWED, "the cache is cleared by POST\n");
    }
    let contents = state.ads.generation.cached();
    if given(&params, "sizes").is_none() {
        let names: BTreeMap<&str, Vec<&str>> = contents
            .iter()
            .map(|(kind, known)| (kind.type_url(), known.iter().map(|(name, _)| &**name).collect()))
            .collect();
        return page(&params, &names);
    }
    let mut sizes = BTreeMap::new();
    let mut total = 0;
    for (kind, known) in &contents {
        let bytes: usize = known.iter().map(|(_, bytes)| bytes).sum();
        total += bytes;
        sizes.insert(kind.type_url(), byte_count(bytes));
    }
    sizes.insert("total", byte_count(total));
    page(&params, &sizes)
}

/// `POST /debug/cachez?clear=true`
pub(super) async fn clear(State(state): State<Arc<RunningState>>, params: Params) -> Response {
    if given(&params, "clear").is_none() {
        return refuse(StatusCode::BAD_REQUEST, "nothing to do but ?clear=true\n");
    }
    state.ads.generation.forget();
    info!("cache cleared by /debug/cachez");
    "Cache cleared\n".into_response()
}

/// As Istio prints sizes: `999B`, `1.0kB`, `1.2MB`; steps of a thousand.
fn byte_count(bytes: usize) -> String {
    const STEP: u128 = 1000;
    let bytes = bytes as u128;
    if bytes < STEP {
        return format!("{bytes}B");
    }
    let (mut unit, mut units) = (STEP, "kMGTPE".chars().peekable());
    while bytes / unit >= STEP
        && let Some(_) = units.next_if(|unit| *unit != 'E')
    {
        unit *= STEP;
    }
    let tenths = (bytes * 10 + unit / 2) / unit;
    format!("{}.{}{}B", tenths / 10, tenths % 10, units.peek().unwrap_or(&'E'))
}

#[cfg(test)]
mod tests {
    use super::byte_count;

    #[test]
    fn sizes_are_printed_as_istio_prints_them() {
        for (bytes, printed) in [
            (0, "0B"),
            (999, "999B"),
            (1_000, "1.0kB"),
            (1_234, "1.2kB"),
            (1_000_000, "1.0MB"),
            (40_000_000, "40.0MB"),
            (2_600_000_000, "2.6GB"),
            (usize::MAX, "18.4EB"),
        ] {
            assert_eq!(byte_count(bytes), printed, "{bytes}");
        }
    }
}

//! Validates manifests once. Keeps and serves nothing.
//!
//! Stricter than the source: an unknown field is an error here, as in `istioctl validate`.

use std::fs;
use std::path::Path;

use pilot_core::validate::Finding;

use super::documents;
use super::reader::manifest_tree;
use crate::source::objects::{Decoded, decode};
use crate::source::{ManifestLocation, Problem};

/// Returns the problems of a file, or of all manifests in a directory and below it.
pub(crate) fn path(path: &Path) -> Vec<Problem> {
    if !path.is_dir() {
        return match fs::read_to_string(path) {
            Ok(content) => text(path, &content),
            Err(error) => vec![Problem::of_file(path, error.to_string())],
        };
    }
    let listing = match manifest_tree(path).list() {
        Ok(listing) => listing,
        Err(error) => return vec![Problem::of_file(path, format!("{:#}", anyhow::Error::new(error)))],
    };
    let unreadable = listing.unreadable.into_iter().map(|(path, error)| Problem::of_file(&path, error));
    listing.files.keys().flat_map(|file| self::path(file)).chain(unreadable).collect()
}

/// Returns the problems of a text. `file` is its name in them.
pub(crate) fn text(file: &Path, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for document in documents::split(text) {
        let location = ManifestLocation { line: document.line, document: document.index, item: None };
        let manifest = match documents::parse(&document) {
            Ok(manifest) => manifest,
            Err(error) => {
                let location = ManifestLocation { line: document.line + error.line, ..location };
                problems.push(location.problem(file, None, Finding::error("", error.message)));
                continue;
            }
        };
        for item in decode(manifest) {
            let location = ManifestLocation { item: item.index, ..location };
            let key = match &item.decoded {
                Decoded::Object(object) => Some(object.key()),
                Decoded::Invalid(key) => key.clone(),
                Decoded::Unsupported(..) | Decoded::Unknown(..) => None,
            };
            let unknown_fields = item.unknown.into_iter();
            let unknown_fields = unknown_fields.map(|field| Finding::error(field, "unknown field"));
            let findings = item.findings.into_iter().chain(unknown_fields);
            problems.extend(findings.map(|finding| location.problem(file, key.as_ref(), finding)));
        }
    }
    problems
}

//! Manifests looked at once, for whoever wants to know whether they can be used. Nothing is kept, and nothing served.
//!
//! Stricter than the source: a field that a kind does not have is a mistake here, as it is to `istioctl validate`.

use std::fs;
use std::path::Path;

use pilot_core::validate::Finding;

use super::documents;
use super::status::{Place, Problem};
use super::tree::Root;
use crate::source::kubernetes::{Decoded, decode};

/// Everything that is to be said about a file, or about all manifests in a directory and below it.
pub(crate) fn path(path: &Path) -> Vec<Problem> {
    if !path.is_dir() {
        return match fs::read_to_string(path) {
            Ok(content) => text(path, &content),
            Err(error) => vec![Problem::of_file(path, error.to_string())],
        };
    }
    let look = match Root::Directory(path.to_owned()).look(&mut |_| {}) {
        Ok(look) => look,
        Err(error) => return vec![Problem::of_file(path, format!("{:#}", anyhow::Error::new(error)))],
    };
    let unreadable = look.unreadable.into_iter().map(|(path, why)| Problem::of_file(&path, why));
    look.files.keys().flat_map(|file| self::path(file)).chain(unreadable).collect()
}

/// Everything that is to be said about a text. `file`: what it is called.
pub(crate) fn text(file: &Path, text: &str) -> Vec<Problem> {
    let mut problems = Vec::new();
    for document in documents::split(text) {
        let place = Place { line: document.line, document: document.index, item: None };
        let manifest = match documents::parse(&document) {
            Ok(manifest) => manifest,
            Err(fault) => {
                let place = Place { line: document.line + fault.line, ..place };
                problems.push(place.problem(file, None, Finding::error("", fault.message)));
                continue;
            }
        };
        for item in decode(manifest) {
            let place = Place { item: item.index, ..place };
            let key = match &item.decoded {
                Decoded::Object(object) => Some(object.key()),
                Decoded::Faulty(key) => key.clone(),
                Decoded::NotRead(..) | Decoded::Unknown(..) => None,
            };
            let unknown = item.unknown.into_iter();
            let unknown = unknown.map(|field| Finding::error(field, "is no field of this kind"));
            let findings = item.findings.into_iter().chain(unknown);
            problems.extend(findings.map(|finding| place.problem(file, key.as_ref(), finding)));
        }
    }
    problems
}

//! Objects that files declare. Pure: contents of files in, changes of the object store out.
//!
//! Every object has the version of one declaration, that of its active file.
//!
//! - An invalid document keeps the declaration that its object had. If the object of an invalid document cannot be
//!   identified, every object of the file that no other document of it declares keeps its version.
//! - An empty file is a write in progress or the result of a full disk, not a request to delete everything: its declarations
//!   stay.
//! - If two files declare an object, the first one stays active. A file that is missing gives way to any other, so that an
//!   object that moves from file to file exists all the time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pilot_core::validate::Finding;

use super::documents::{self, Document};
use super::reader::FileContentChange;
use crate::source::objects::{Decoded, Item, Object, ObjectChange, ObjectKey, ObjectStore, decode};
use crate::source::{ManifestLocation, Problem};

/// Declarations of all files.
#[derive(Debug, Default)]
pub(super) struct Declarations {
    files: BTreeMap<PathBuf, FileRecord>,
    objects: BTreeMap<ObjectKey, ObjectRecord>,
    /// Problems of objects that several files declare.
    duplicates: BTreeMap<ObjectKey, Vec<Problem>>,
    /// Kinds that were reported as ignored.
    ignored: BTreeSet<IgnoredKind>,
    hasher: RandomState,
}

/// Kind of ignored objects: `apiVersion` and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum IgnoredKind {
    /// A kind of Istio or Kubernetes that is not supported.
    Unsupported(String, String),
    /// A kind of another API.
    Unknown(String, String),
}

/// State of a file.
#[derive(Debug, Default)]
struct FileRecord {
    presence: FilePresence,
    declarations: BTreeMap<ObjectKey, Declaration>,
    /// Parsed documents by the hash of their text: after an edit only changed documents are parsed.
    parsed: HashMap<u64, Arc<[ParsedManifest]>>,
    problems: Vec<Problem>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum FilePresence {
    #[default]
    Present,
    Missing,
}

/// Declaration of an object in a file.
#[derive(Clone, Debug)]
struct Declaration {
    object: Object,
    location: ManifestLocation,
}

/// Files that declare an object.
#[derive(Debug, Default)]
struct ObjectRecord {
    declaring_files: BTreeSet<PathBuf>,
    /// File of the version in the object store.
    active: Option<PathBuf>,
}

/// Result of parsing one manifest of a document.
#[derive(Clone, Debug)]
struct ParsedManifest {
    item: Option<usize>,
    /// Line in the document, from 0.
    line: usize,
    content: ManifestContent,
    findings: Vec<Finding>,
}

#[derive(Clone, Debug)]
enum ManifestContent {
    Object(Object),
    Ignored(IgnoredKind),
    /// The manifest cannot be used. Key of its object, if it could be identified.
    Invalid(Option<ObjectKey>),
}

// === impl Declarations ===

impl Declarations {
    /// Applies changes of one scan to the store. Returns the changed objects, and the kinds ignored for the first time.
    pub(super) fn apply(
        &mut self,
        changes: Vec<FileContentChange>,
        store: &mut ObjectStore,
    ) -> (Vec<ObjectChange>, Vec<IgnoredKind>) {
        let mut affected = BTreeSet::new();
        let mut ignored = Vec::new();
        for change in changes {
            match change {
                FileContentChange::Content(path, bytes) => {
                    self.apply_content(path, &bytes, &mut affected, &mut ignored);
                }
                FileContentChange::Unreadable(path, error) => {
                    let record = self.files.entry(path.clone()).or_default();
                    record.presence = FilePresence::Present;
                    record.problems = vec![Problem::of_file(&path, error)];
                }
                FileContentChange::Missing(path) => {
                    if let Some(record) = self.files.get_mut(&path) {
                        record.presence = FilePresence::Missing;
                        affected.extend(record.declarations.keys().cloned());
                    }
                }
                FileContentChange::Removed(path) => {
                    if let Some(record) = self.files.remove(&path) {
                        affected.extend(self.update_declarations(
                            &path,
                            &record.declarations,
                            &BTreeMap::new(),
                        ));
                    }
                }
            }
        }
        (affected.iter().filter_map(|key| self.resolve(key, store)).collect(), ignored)
    }

    /// Returns the problems of all files.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        let in_files = self.files.values().flat_map(|record| &record.problems);
        in_files.chain(self.duplicates.values().flatten())
    }

    /// Applies the new content of a file.
    fn apply_content(
        &mut self,
        path: PathBuf,
        bytes: &[u8],
        affected: &mut BTreeSet<ObjectKey>,
        ignored: &mut Vec<IgnoredKind>,
    ) {
        let mut record = self.files.remove(&path).unwrap_or_default();
        record.presence = FilePresence::Present;
        let previous = std::mem::take(&mut record.declarations);
        match std::str::from_utf8(bytes) {
            Err(error) => {
                record.problems = vec![Problem::of_file(&path, format!("not UTF-8: {error}"))];
                record.declarations.clone_from(&previous);
            }
            Ok(text) if text.trim().is_empty() && !previous.is_empty() => {
                let message = "file is empty; keeping its objects until it is deleted".to_owned();
                record.problems = vec![Problem::of_file(&path, message)];
                record.declarations.clone_from(&previous);
            }
            Ok(text) => self.apply_documents(&path, &mut record, text, &previous, ignored),
        }
        affected.extend(self.update_declarations(&path, &previous, &record.declarations));
        self.files.insert(path, record);
    }

    fn apply_documents(
        &mut self,
        path: &Path,
        record: &mut FileRecord,
        text: &str,
        previous: &BTreeMap<ObjectKey, Declaration>,
        ignored: &mut Vec<IgnoredKind>,
    ) {
        let parsed_before = std::mem::take(&mut record.parsed);
        record.problems.clear();
        let mut invalid = BTreeSet::new();
        let mut has_unidentified = false;
        for document in documents::split(text) {
            let hash = self.hasher.hash_one(document.text);
            let parsed = parsed_before.get(&hash).cloned().unwrap_or_else(|| parse(&document));
            for ParsedManifest { item, line, content, findings } in parsed.iter() {
                let location =
                    ManifestLocation { line: document.line + line, document: document.index, item: *item };
                let problems = findings.iter().cloned();
                record
                    .problems
                    .extend(problems.map(|finding| location.problem(path, content.key().as_ref(), finding)));
                match content {
                    ManifestContent::Object(object) => {
                        let key = object.key();
                        if let Some(first) = record.declarations.get(&key) {
                            let message = format!("already declared in document {}", first.location.document);
                            let finding = Finding::error("", message);
                            record.problems.push(location.problem(path, Some(&key), finding));
                            invalid.insert(key);
                        } else {
                            let declaration = Declaration { object: object.clone(), location };
                            record.declarations.insert(key, declaration);
                        }
                    }
                    ManifestContent::Ignored(kind) => {
                        if self.ignored.insert(kind.clone()) {
                            ignored.push(kind.clone());
                        }
                    }
                    ManifestContent::Invalid(Some(key)) => drop(invalid.insert(key.clone())),
                    ManifestContent::Invalid(None) => has_unidentified = true,
                }
            }
            record.parsed.insert(hash, parsed);
        }
        for (key, declaration) in previous {
            if invalid.contains(key) {
                record.declarations.insert(key.clone(), declaration.clone());
            } else if has_unidentified {
                record.declarations.entry(key.clone()).or_insert_with(|| declaration.clone());
            }
        }
    }

    /// Updates the declaring files of the objects in `before` and `after`, and returns these objects.
    fn update_declarations(
        &mut self,
        path: &Path,
        before: &BTreeMap<ObjectKey, Declaration>,
        after: &BTreeMap<ObjectKey, Declaration>,
    ) -> BTreeSet<ObjectKey> {
        for key in before.keys().filter(|key| !after.contains_key(*key)) {
            if let Some(record) = self.objects.get_mut(key) {
                record.declaring_files.remove(path);
            }
        }
        for key in after.keys() {
            self.objects.entry(key.clone()).or_default().declaring_files.insert(path.to_owned());
        }
        before.keys().chain(after.keys()).cloned().collect()
    }

    /// Chooses the active file of an object, and stores its version. Returns the change of the object, if it differs.
    fn resolve(&mut self, key: &ObjectKey, store: &mut ObjectStore) -> Option<ObjectChange> {
        let object_record = self.objects.get_mut(key)?;
        let is_present = |path: &&PathBuf| {
            self.files.get(*path).is_some_and(|record| record.presence == FilePresence::Present)
        };
        let present: Vec<&PathBuf> = object_record.declaring_files.iter().filter(is_present).collect();
        let active = object_record.active.as_ref();
        let active = active.and_then(|file| object_record.declaring_files.get(file));
        let file = match present.first() {
            None => active.or(object_record.declaring_files.first()),
            Some(first) => active.filter(|path| present.contains(path)).or(Some(*first)),
        };
        let declaration = file.and_then(|path| Some((path, self.files.get(path)?.declarations.get(key)?)));
        let Some((file, declaration)) = declaration else {
            self.duplicates.remove(key);
            self.objects.remove(key);
            return store.delete(key);
        };
        let others = present.iter().filter(|path| **path != file).filter_map(|path| {
            let location = self.files.get(*path)?.declarations.get(key)?.location;
            let message = format!("already declared in {}", file.display());
            Some(location.problem(path, Some(key), Finding::error("", message)))
        });
        let others: Vec<_> = others.collect();
        if others.is_empty() {
            self.duplicates.remove(key);
        } else {
            self.duplicates.insert(key.clone(), others);
        }
        object_record.active = Some(file.clone());
        store.upsert(declaration.object.clone())
    }
}

// === impl ManifestContent ===

impl ManifestContent {
    fn key(&self) -> Option<ObjectKey> {
        match self {
            Self::Object(object) => Some(object.key()),
            Self::Invalid(key) => key.clone(),
            Self::Ignored(_) => None,
        }
    }
}

fn parse(document: &Document<'_>) -> Arc<[ParsedManifest]> {
    let manifest = match documents::parse(document) {
        Ok(manifest) => manifest,
        Err(error) => {
            let (content, findings) =
                (ManifestContent::Invalid(None), vec![Finding::error("", error.message)]);
            return [ParsedManifest { item: None, line: error.line, content, findings }].into();
        }
    };
    decode(manifest).into_iter().map(ParsedManifest::from).collect()
}

impl From<Item> for ParsedManifest {
    fn from(item: Item) -> Self {
        let unknown_fields = item.unknown.into_iter();
        let unknown_fields =
            unknown_fields.map(|field| Finding::warning(field, "unknown field, has no effect"));
        Self {
            item: item.index,
            line: 0,
            findings: item.findings.into_iter().chain(unknown_fields).collect(),
            content: match item.decoded {
                Decoded::Object(object) => ManifestContent::Object(object),
                Decoded::Invalid(key) => ManifestContent::Invalid(key),
                Decoded::Unsupported(api, kind) => {
                    ManifestContent::Ignored(IgnoredKind::Unsupported(api, kind))
                }
                Decoded::Unknown(api, kind) => ManifestContent::Ignored(IgnoredKind::Unknown(api, kind)),
            },
        }
    }
}

#[cfg(test)]
mod tests;

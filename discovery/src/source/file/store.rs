//! The last good version of every object. Pure: files' contents in, changed objects out.
//!
//! A file *claims* the objects it declares, and every object is served from one claim, its holder's.
//!
//! - A document that cannot be used keeps the claim that its object had. When it cannot even be told whose
//!   document it is, every object of the file that is in no other document of it stays as it was.
//! - An empty file is somebody about to write, or a full disk, not a wish to delete everything: its claims stay.
//! - Two claims for one object: who held it holds on. A file that is vanishing gives way to any other, so that an
//!   object that moves from file to file is there all the time.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use pilot_core::validate::Finding;

use super::documents::{self, Document};
use super::observer::Sighting;
use super::status::{Fate, Place, Problem};
use crate::source::kubernetes::{Decoded, Item, Object, ObjectEvent, ObjectKey, decode};

/// Everything that files declare.
#[derive(Debug, Default)]
pub(super) struct Store {
    files: BTreeMap<PathBuf, Record>,
    objects: BTreeMap<ObjectKey, Held>,
    duplicates: BTreeMap<ObjectKey, Vec<Problem>>,
    foreign: BTreeSet<Foreign>,
    hasher: RandomState,
}

/// A kind that was met and is not read.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Foreign {
    /// One of Istio's or Kubernetes': `apiVersion` and kind.
    NotRead(String, String),
    /// Somebody else's.
    Unknown(String, String),
}

/// One file.
#[derive(Debug, Default)]
struct Record {
    presence: Presence,
    claims: BTreeMap<ObjectKey, Claim>,
    /// What its documents came to, by their fingerprint: an edit parses what it touched.
    parsed: HashMap<u64, Arc<[Parsed]>>,
    problems: Vec<Problem>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Presence {
    #[default]
    There,
    Vanishing,
}

/// One declaration of an object.
#[derive(Clone, Debug)]
struct Claim {
    object: Arc<Object>,
    place: Place,
}

/// Who claims an object, and from whose claim it is served.
#[derive(Debug, Default)]
struct Held {
    claimants: BTreeSet<PathBuf>,
    served: Option<(PathBuf, Arc<Object>)>,
}

/// What one manifest of a document came to.
#[derive(Clone, Debug)]
struct Parsed {
    item: Option<usize>,
    /// Lines below the document's first.
    line: usize,
    outcome: Outcome,
    findings: Vec<Finding>,
}

#[derive(Clone, Debug)]
enum Outcome {
    Object(Arc<Object>),
    Foreign(Foreign),
    /// It cannot be used; whose it is, when that can be told.
    Faulty(Option<ObjectKey>),
}

// === impl Store ===

impl Store {
    /// Takes in what was seen together, and tells what is different now and which kinds were met first.
    pub(super) fn take(&mut self, sightings: Vec<Sighting>) -> (Vec<(Fate, ObjectEvent)>, Vec<Foreign>) {
        let mut concerned = BTreeSet::new();
        let mut met = Vec::new();
        for sighting in sightings {
            match sighting {
                Sighting::Content(path, bytes) => self.content(path, &bytes, &mut concerned, &mut met),
                Sighting::Unreadable(path, why) => {
                    let record = self.files.entry(path.clone()).or_default();
                    record.presence = Presence::There;
                    record.problems = vec![Problem::of_file(&path, why)];
                }
                Sighting::Vanishing(path) => {
                    if let Some(record) = self.files.get_mut(&path) {
                        record.presence = Presence::Vanishing;
                        concerned.extend(record.claims.keys().cloned());
                    }
                }
                Sighting::Gone(path) => {
                    if let Some(record) = self.files.remove(&path) {
                        concerned.extend(self.claimed(&path, &record.claims, &BTreeMap::new()));
                    }
                }
            }
        }
        (concerned.iter().filter_map(|key| self.resolve(key)).collect(), met)
    }

    /// How many objects there are.
    pub(super) fn len(&self) -> usize {
        self.objects.len()
    }

    /// Everything that is wrong, file by file.
    pub(super) fn problems(&self) -> impl Iterator<Item = &Problem> {
        let in_files = self.files.values().flat_map(|record| &record.problems);
        in_files.chain(self.duplicates.values().flatten())
    }

    /// A file's new content.
    fn content(
        &mut self,
        path: PathBuf,
        bytes: &[u8],
        concerned: &mut BTreeSet<ObjectKey>,
        met: &mut Vec<Foreign>,
    ) {
        let mut record = self.files.remove(&path).unwrap_or_default();
        record.presence = Presence::There;
        let before = std::mem::take(&mut record.claims);
        match std::str::from_utf8(bytes) {
            Err(error) => {
                record.problems = vec![Problem::of_file(&path, format!("is not UTF-8: {error}"))];
                record.claims.clone_from(&before);
            }
            Ok(text) if text.trim().is_empty() && !before.is_empty() => {
                let why = "is empty; what it declared stays until the file is deleted".to_owned();
                record.problems = vec![Problem::of_file(&path, why)];
                record.claims.clone_from(&before);
            }
            Ok(text) => self.documents(&path, &mut record, text, &before, met),
        }
        concerned.extend(self.claimed(&path, &before, &record.claims));
        self.files.insert(path, record);
    }

    fn documents(
        &mut self,
        path: &Path,
        record: &mut Record,
        text: &str,
        before: &BTreeMap<ObjectKey, Claim>,
        met: &mut Vec<Foreign>,
    ) {
        let known = std::mem::take(&mut record.parsed);
        record.problems.clear();
        let mut faulty = BTreeSet::new();
        let mut anybody = false;
        for document in documents::split(text) {
            let fingerprint = self.hasher.hash_one(document.text);
            let parsed = known.get(&fingerprint).cloned().unwrap_or_else(|| parse(&document));
            for Parsed { item, line, outcome, findings } in parsed.iter() {
                let place = Place { line: document.line + line, document: document.index, item: *item };
                let problems = findings.iter().cloned();
                record
                    .problems
                    .extend(problems.map(|finding| place.problem(path, outcome.key().as_ref(), finding)));
                match outcome {
                    Outcome::Object(object) => {
                        let key = object.key();
                        if let Some(first) = record.claims.get(&key) {
                            let message = format!("is declared in document {} before", first.place.document);
                            let finding = Finding::error("", message);
                            record.problems.push(place.problem(path, Some(&key), finding));
                            faulty.insert(key);
                        } else {
                            record.claims.insert(key, Claim { object: object.clone(), place });
                        }
                    }
                    Outcome::Foreign(foreign) => {
                        if self.foreign.insert(foreign.clone()) {
                            met.push(foreign.clone());
                        }
                    }
                    Outcome::Faulty(Some(key)) => drop(faulty.insert(key.clone())),
                    Outcome::Faulty(None) => anybody = true,
                }
            }
            record.parsed.insert(fingerprint, parsed);
        }
        for (key, claim) in before {
            if faulty.contains(key) {
                record.claims.insert(key.clone(), claim.clone());
            } else if anybody {
                record.claims.entry(key.clone()).or_insert_with(|| claim.clone());
            }
        }
    }

    /// Notes who claims what now; returns the objects that this concerns.
    fn claimed(
        &mut self,
        path: &Path,
        before: &BTreeMap<ObjectKey, Claim>,
        after: &BTreeMap<ObjectKey, Claim>,
    ) -> BTreeSet<ObjectKey> {
        for key in before.keys().filter(|key| !after.contains_key(*key)) {
            if let Some(held) = self.objects.get_mut(key) {
                held.claimants.remove(path);
            }
        }
        for key in after.keys() {
            self.objects.entry(key.clone()).or_default().claimants.insert(path.to_owned());
        }
        before.keys().chain(after.keys()).cloned().collect()
    }

    /// Decides who holds an object, and tells whether it is different now.
    fn resolve(&mut self, key: &ObjectKey) -> Option<(Fate, ObjectEvent)> {
        let held = self.objects.get_mut(key)?;
        let is_there =
            |path: &&PathBuf| self.files.get(*path).is_some_and(|record| record.presence == Presence::There);
        let present: Vec<&PathBuf> = held.claimants.iter().filter(is_there).collect();
        let incumbent = held.served.as_ref().and_then(|(holder, _)| held.claimants.get(holder));
        let holder = match present.first() {
            None => incumbent.or(held.claimants.first()),
            Some(first) => incumbent.filter(|path| present.contains(path)).or(Some(*first)),
        };
        let claim = holder.and_then(|path| Some((path, self.files.get(path)?.claims.get(key)?)));
        let Some((holder, claim)) = claim else {
            self.duplicates.remove(key);
            self.objects.remove(key);
            return Some((Fate::Deleted, ObjectEvent::Delete(key.clone())));
        };
        let others = present.iter().filter(|path| **path != holder).filter_map(|path| {
            let place = self.files.get(*path)?.claims.get(key)?.place;
            let message = format!("is declared in {}, which was there first", holder.display());
            Some(place.problem(path, Some(key), Finding::error("", message)))
        });
        let others: Vec<_> = others.collect();
        if others.is_empty() {
            self.duplicates.remove(key);
        } else {
            self.duplicates.insert(key.clone(), others);
        }
        let fate = match &held.served {
            None => Some(Fate::Added),
            Some((_, object)) => (*object != claim.object).then_some(Fate::Updated),
        };
        held.served = Some((holder.clone(), claim.object.clone()));
        Some((fate?, ObjectEvent::Upsert(Box::new((*claim.object).clone()))))
    }
}

// === impl Outcome ===

impl Outcome {
    fn key(&self) -> Option<ObjectKey> {
        match self {
            Self::Object(object) => Some(object.key()),
            Self::Faulty(key) => key.clone(),
            Self::Foreign(_) => None,
        }
    }
}

fn parse(document: &Document<'_>) -> Arc<[Parsed]> {
    let manifest = match documents::parse(document) {
        Ok(manifest) => manifest,
        Err(fault) => {
            let (outcome, findings) = (Outcome::Faulty(None), vec![Finding::error("", fault.message)]);
            return [Parsed { item: None, line: fault.line, outcome, findings }].into();
        }
    };
    decode(manifest).into_iter().map(Parsed::from).collect()
}

impl From<Item> for Parsed {
    fn from(item: Item) -> Self {
        let unknown = item.unknown.into_iter();
        let unknown =
            unknown.map(|field| Finding::warning(field, "is no field of this kind and has no effect"));
        Self {
            item: item.index,
            line: 0,
            findings: item.findings.into_iter().chain(unknown).collect(),
            outcome: match item.decoded {
                Decoded::Object(object) => Outcome::Object(object.into()),
                Decoded::Faulty(key) => Outcome::Faulty(key),
                Decoded::NotRead(api, kind) => Outcome::Foreign(Foreign::NotRead(api, kind)),
                Decoded::Unknown(api, kind) => Outcome::Foreign(Foreign::Unknown(api, kind)),
            },
        }
    }
}

#[cfg(test)]
mod tests;

//! The rules of the house, as functions over the files of the repository. Each finding is one line.
//!
//! They check what the compiler and clippy cannot: dependencies between crates and modules, file layout, names, prose and
//! documentation. They read text, not types; a rule that needs types belongs to clippy (`.clippy.toml`).

mod crates;
mod cycles;
mod documents;
mod layers;
mod places;
mod prose;
mod source;
mod types;

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};

/// A file of the repository.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Path relative to the root, with `/`.
    pub path: String,
    /// Content; empty if it is not text.
    pub text: String,
}

impl Entry {
    /// Returns true for Rust source.
    pub fn is_rust(&self) -> bool {
        self.has_extension("rs")
    }

    /// Returns true if the file consists of tests: unit tests in a file of their own, or a whole test program.
    fn is_test(&self) -> bool {
        self.path.ends_with("/tests.rs") || self.path.contains("/tests/")
    }

    fn has_extension(&self, extension: &str) -> bool {
        Path::new(&self.path).extension().is_some_and(|found| found == extension)
    }
}

/// Returns the findings about the dependencies of the workspace at `root`, by its manifests.
pub fn manifest_faults(root: &Path) -> Result<Vec<String>> {
    crates::faults(root)
}

/// Returns the findings about these files.
pub fn file_faults(entries: &[Entry]) -> Vec<String> {
    let rules =
        [layers::faults, places::faults, documents::faults, prose::faults, types::faults, cycles::faults];
    let mut faults: Vec<String> = rules.into_iter().flat_map(|rule| rule(entries)).collect();
    faults.sort();
    faults
}

/// Returns every file of the repository at `root`, without `.git` and `target`.
pub fn entries(root: &Path) -> Result<Vec<Entry>> {
    let mut found = Vec::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| format!("read {}", folder.display()))? {
            let path = entry?.path();
            let below = path.strip_prefix(root)?.to_string_lossy().into_owned();
            match below.as_str() {
                ".git" | "target" => {}
                _ if path.is_dir() => folders.push(path),
                _ => found.push(Entry { path: below, text: read(&path)? }),
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

fn read(path: &PathBuf) -> Result<String> {
    let bytes = fs::read(path).with_context(|| format!("read {}", path.display()))?;
    Ok(String::from_utf8(bytes).unwrap_or_default())
}

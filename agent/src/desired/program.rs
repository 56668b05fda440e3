//! Which program Envoy is. A hundred megabytes are not read whenever something changes, and not at all before the
//! first start; a file that only was touched, or was replaced by its own copy, is still the same program.

use std::path::Path;

use crate::config::sources::{Digest, Question, Sight};

/// A program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Program {
    /// The file that had this content first, as it was then: what tells this program from another.
    identity: Sight,
    /// The file that has it now.
    now: Sight,
    /// The content; `None`: not read yet.
    content: Option<Digest>,
}

// === impl Program ===

impl Program {
    /// The program that is found under a path, after another. Blocks if it has changed, to read it.
    pub(super) fn found(path: &Path, now: Sight, before: Option<&Self>) -> Self {
        let new = |content| Self { identity: now, now, content };
        match before {
            None => new(None),
            Some(before) if before.now == now => before.clone(),
            Some(before) => match new(None).read(path) {
                Some(content) if before.content == Some(content) => {
                    Self { identity: before.identity, now, content: Some(content) }
                }
                content => new(content),
            },
        }
    }

    /// Reads what was not read at the start, so that a later copy is known as one. Blocks.
    pub(super) fn learn(&mut self, path: &Path) {
        if self.content.is_none() {
            self.content = self.read(path);
        }
    }

    /// Equal for equal programs.
    pub(super) fn identity(&self) -> Sight {
        self.identity
    }

    /// The content, unless the file is another by now.
    fn read(&self, path: &Path) -> Option<Digest> {
        let digest = Digest::of_program(path).ok()?;
        (Question::Identity.ask(path) == self.now).then_some(digest)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn find(path: &Path, before: Option<&Program>) -> Program {
        Program::found(path, Question::Identity.ask(path), before)
    }

    #[test]
    fn a_copy_of_a_known_program_is_the_same_and_another_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("envoy");
        let put = |content: &str| {
            fs::write(folder.path().join("new"), content).unwrap();
            fs::rename(folder.path().join("new"), &path).unwrap();
        };
        put("one");
        let mut first = find(&path, None);
        assert_eq!(find(&path, Some(&first)), first, "nothing has changed");
        first.learn(&path);

        put("one");
        let copy = find(&path, Some(&first));
        assert_eq!(copy.identity(), first.identity(), "its own copy");
        put("two");
        let second = find(&path, Some(&copy));
        assert_ne!(second.identity(), first.identity(), "another of the same size");
        fs::remove_file(&path).unwrap();
        assert_eq!(find(&path, Some(&second)).identity(), Sight::Absent);
    }

    #[test]
    fn what_was_never_read_is_not_known_again() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("envoy");
        fs::write(&path, "one").unwrap();
        let first = find(&path, None);
        let mut late = first.clone();
        fs::write(&path, "two").unwrap();
        late.learn(&path);
        assert_eq!(late, first, "what is read now is not what there was");
        assert_ne!(find(&path, Some(&late)).identity(), first.identity());
    }
}

//! The way to a file, step by step, as the kernel walks it: whatever is put in the place of any step, a folder, a
//! link or the file itself, makes the path mean another file.
//!
//! ```text
//! /etc/istio/config/mesh     /: etc   /etc: istio   /etc/istio: config
//!                            /etc/istio/config: mesh (a link to ..data/mesh)
//!                            /etc/istio/config: ..data (a link to ..2026)   /etc/istio/config: ..2026
//!                            /etc/istio/config/..2026: mesh
//! ```

use std::collections::VecDeque;
use std::ffi::{OsStr, OsString};
use std::path::{Component, Path, PathBuf};

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;

/// Walks to a file, as far as there is a way. `step` is told each folder and the name that matters in it before
/// that name is looked at: what changes later can be noticed, what changed before is seen. Gives the end of the
/// way. Blocks.
pub(super) fn walk(path: &Path, mut step: impl FnMut(&Path, &OsStr)) -> PathBuf {
    // A working directory that is gone leaves nothing to walk from.
    let Ok(path) = std::path::absolute(path) else { return path.to_owned() };
    let (mut at, mut links) = (PathBuf::from("/"), 0);
    let mut left = VecDeque::new();
    push_front(&mut left, &path);
    while let Some(name) = left.pop_front() {
        if name == ".." {
            at.pop();
            continue;
        }
        step(&at, &name);
        let next = at.join(&name);
        match next.read_link() {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                if target.is_absolute() {
                    at = PathBuf::from("/");
                }
                push_front(&mut left, &target);
            }
            _ => at = next,
        }
    }
    at
}

fn push_front(left: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => left.push_front(name.to_owned()),
            Component::ParentDir => left.push_front("..".into()),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn every_step_matters_and_the_end_is_the_kernels() {
        let folder = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(folder.path()).unwrap();
        fs::create_dir_all(root.join("config/..v1")).unwrap();
        fs::create_dir_all(root.join("other/deep")).unwrap();
        fs::write(root.join("config/..v1/mesh"), "").unwrap();
        fs::write(root.join("other/file"), "").unwrap();
        symlink("..v1", root.join("config/..data")).unwrap();
        symlink("..data/mesh", root.join("config/mesh")).unwrap();
        symlink(root.join("other/deep"), root.join("config/far")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let check = |path: &str, expected: &[(&str, &str)], end: &str| {
            let mut steps = Vec::new();
            let walked = walk(&root.join(path), |folder, name| {
                if let Ok(folder) = folder.strip_prefix(&root) {
                    steps.push((folder.display().to_string(), name.to_str().unwrap().to_owned()));
                }
            });
            let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            assert_eq!((steps, walked.as_path()), (expected, root.join(end).as_path()), "{path}");
            if let Ok(real) = fs::canonicalize(root.join(path)) {
                assert_eq!(real, walked, "{path}");
            }
        };
        let config = ("", "config");
        check(
            "config/mesh",
            &[config, ("config", "mesh"), ("config", "..data"), ("config", "..v1"), ("config/..v1", "mesh")],
            "config/..v1/mesh",
        );
        let far = [config, ("config", "far"), ("", "other"), ("other", "deep"), ("other", "file")];
        check("config/far/../file", &far, "other/file");
        check(
            "./config/none/below",
            &[config, ("config", "none"), ("config/none", "below")],
            "config/none/below",
        );
        let mut steps = 0;
        walk(&root.join("loop"), |_, _| steps += 1);
        assert!(steps < 100, "a link to itself ends: {steps}");
    }
}

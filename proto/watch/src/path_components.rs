//! Components of a path in the order in which the kernel resolves them. Replacing any of them, a directory, a symbolic
//! link or the file itself, makes the path refer to another file.
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

/// Number of links that the kernel follows.
const MAX_LINKS: usize = 40;

/// Calls `step` with each directory and the name looked up in it, before the lookup: a later change can be noticed, an
/// earlier one is seen. Returns the resolved path, as far as it exists. Blocks.
pub(crate) fn walk(path: &Path, mut step: impl FnMut(&Path, &OsStr)) -> PathBuf {
    // Fails only if the working directory was removed.
    let Ok(path) = std::path::absolute(path) else { return path.to_owned() };
    let (mut resolved, mut links) = (PathBuf::from("/"), 0);
    let mut remaining = VecDeque::new();
    push_front(&mut remaining, &path);
    while let Some(name) = remaining.pop_front() {
        if name == ".." {
            resolved.pop();
            continue;
        }
        step(&resolved, &name);
        let next = resolved.join(&name);
        match next.read_link() {
            Ok(target) if links < MAX_LINKS => {
                links += 1;
                if target.is_absolute() {
                    resolved = PathBuf::from("/");
                }
                push_front(&mut remaining, &target);
            }
            _ => resolved = next,
        }
    }
    resolved
}

fn push_front(remaining: &mut VecDeque<OsString>, path: &Path) {
    for component in path.components().rev() {
        match component {
            Component::Normal(name) => remaining.push_front(name.to_owned()),
            Component::ParentDir => remaining.push_front("..".into()),
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
    fn every_component_is_visited_and_the_path_is_resolved_as_by_the_kernel() {
        let directory = tempfile::tempdir().unwrap();
        let root = fs::canonicalize(directory.path()).unwrap();
        fs::create_dir_all(root.join("config/..v1")).unwrap();
        fs::create_dir_all(root.join("other/deep")).unwrap();
        fs::write(root.join("config/..v1/mesh"), "").unwrap();
        fs::write(root.join("other/file"), "").unwrap();
        symlink("..v1", root.join("config/..data")).unwrap();
        symlink("..data/mesh", root.join("config/mesh")).unwrap();
        symlink(root.join("other/deep"), root.join("config/far")).unwrap();
        symlink("loop", root.join("loop")).unwrap();
        let check = |path: &str, expected: &[(&str, &str)], target: &str| {
            let mut steps = Vec::new();
            let resolved = walk(&root.join(path), |directory, name| {
                if let Ok(directory) = directory.strip_prefix(&root) {
                    steps.push((directory.display().to_string(), name.to_str().unwrap().to_owned()));
                }
            });
            let expected: Vec<_> = expected.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned())).collect();
            assert_eq!((steps, resolved.as_path()), (expected, root.join(target).as_path()), "{path}");
            if let Ok(canonical) = fs::canonicalize(root.join(path)) {
                assert_eq!(canonical, resolved, "{path}");
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

//! Packages from PyPI with nothing but `python3`.
//!
//! Debian's `python3` comes with neither pip nor venv. Where `python3 -m pip` is missing, pip's own wheel is fetched once,
//! checked against its hash, and run from inside the file. Pip chooses the wheel for the platform and the index that the user
//! has configured.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};
use nix::fcntl::{Flock, FlockArg};

/// Wheel of pip, for machines without pip.
const PIP: &str = "pip-26.1-py3-none-any.whl";
const PIP_SHA256: &str = "4e8486d821d814b77319acb7b9e8bf5a4ee7590a643e7cb21029f209be8573c1";

/// Fetches one file of a project from the index. Arguments: `project file sha256 destination`.
const FETCH: &str = include_str!("fetch.py");

/// Returns `~/.cache/pilot`, or `pilot` below `$XDG_CACHE_HOME`.
pub fn cache() -> Result<PathBuf> {
    let set = |key: &str| std::env::var_os(key).filter(|value| !value.is_empty()).map(PathBuf::from);
    let base = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")));
    Ok(base.context("neither XDG_CACHE_HOME nor HOME is set: no place for a cache")?.join("pilot"))
}

/// Creates `target` once: if it is missing, `make` fills a folder beside it, which is then renamed. Concurrent processes wait
/// for the first, and an incomplete `target` never exists.
pub fn once(target: &Path, make: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    if target.exists() {
        return Ok(());
    }
    let parent = target.parent().context("a cache entry has a parent")?;
    fs::create_dir_all(parent).with_context(|| format!("create {}", parent.display()))?;
    let lock = File::create(parent.join(".lock")).context("create the lock of the cache")?;
    let _lock =
        Flock::lock(lock, FlockArg::LockExclusive).map_err(|(_, errno)| errno).context("lock the cache")?;
    if target.exists() {
        return Ok(());
    }
    let unfinished = tempfile::tempdir_in(parent).context("create a folder in the cache")?;
    make(unfinished.path())?;
    fs::rename(unfinished.keep(), target).with_context(|| format!("rename to {}", target.display()))
}

/// Runs `python3` with these arguments. Returns its output, or an error with the last line of standard error.
pub fn python<I: AsRef<OsStr>>(args: impl IntoIterator<Item = I>) -> Result<String> {
    let mut command = Command::new("python3");
    let output = command.args(args).stdin(Stdio::null()).output();
    let output = output.context("run python3 (on Debian: apt-get install python3)")?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    bail!("python3: {}", errors.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("failed in silence"))
}

/// Runs pip: the machine's own if there is one, else the fetched wheel.
pub fn pip(args: &[&OsStr]) -> Result<()> {
    let own = python(["-m", "pip", "--version"]).is_ok();
    let pip: Vec<PathBuf> = if own { vec!["-m".into(), "pip".into()] } else { vec![fetched_pip()?] };
    let run = pip.iter().map(|part| part.as_os_str()).chain(args.iter().copied());
    python(run).map(drop)
}

fn fetched_pip() -> Result<PathBuf> {
    let folder = cache()?.join("pip");
    once(&folder, |unfinished| {
        let wheel = unfinished.join(PIP);
        let args = ["-c", FETCH, "pip", PIP, PIP_SHA256].map(OsStr::new);
        python(args.into_iter().chain([wheel.as_os_str()])).map(drop).context("fetch pip")
    })?;
    Ok(folder.join(PIP).join("pip"))
}

/// Returns a folder for `PYTHONPATH` with these packages (`name==version`) and their dependencies.
pub fn packages(requirements: &[&str]) -> Result<PathBuf> {
    let tag = python(["-c", "import sys; print(sys.implementation.cache_tag)"])?;
    let target = cache()?.join("python").join(format!("{}-{}", requirements.join("-"), tag.trim()));
    once(&target, |unfinished| {
        let mut args: Vec<&OsStr> =
            ["install", "--quiet", "--only-binary=:all:", "--target"].map(OsStr::new).into();
        args.push(unfinished.as_os_str());
        args.extend(requirements.iter().map(OsStr::new));
        pip(&args).with_context(|| format!("install {}", requirements.join(" ")))
    })?;
    Ok(target)
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;
    use std::thread;

    use super::*;

    /// An index with one file of one project, for two requests.
    fn index(body: &'static [u8]) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/simple", listener.local_addr().unwrap());
        thread::spawn(move || {
            for stream in listener.incoming().take(2) {
                let mut stream = stream.unwrap();
                let mut head = [0; 1024];
                let n = stream.read(&mut head).unwrap();
                let page = br#"<a href="../../files/p-1-py3-none-any.whl#sha256=0">p</a>"#;
                let body = if head[..n].starts_with(b"GET /simple/p/ ") { page } else { body };
                let head =
                    format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
                stream.write_all(head.as_bytes()).unwrap();
                stream.write_all(body).unwrap();
            }
        });
        url
    }

    fn fetch(index: &str, sha256: &str, to: &Path) -> std::process::Output {
        let args = ["-c", FETCH, "p", "p-1-py3-none-any.whl", sha256];
        Command::new("python3").args(args).arg(to).env("PIP_INDEX_URL", index).output().unwrap()
    }

    #[test]
    fn a_wheel_is_fetched_from_the_configured_index_and_its_hash_is_checked() {
        let folder = tempfile::tempdir().unwrap();
        let to = folder.path().join("wheel");
        let sha256 = "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824";
        let output = fetch(&index(b"hello"), sha256, &to);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(fs::read(&to).unwrap(), b"hello");
        fs::remove_file(&to).unwrap();
        let output = fetch(&index(b"hell0"), sha256, &to);
        assert!(String::from_utf8_lossy(&output.stderr).contains("unexpected sha256"));
        assert!(!to.exists());
    }

    #[test]
    fn a_cache_entry_is_created_once_and_atomically() {
        let folder = tempfile::tempdir().unwrap();
        let target = folder.path().join("cache/entry");
        let failed = once(&target, |unfinished| {
            fs::write(unfinished.join("half"), "")?;
            bail!("the network went away")
        });
        assert!(failed.is_err() && !target.exists());
        once(&target, |unfinished| Ok(fs::write(unfinished.join("whole"), "")?)).unwrap();
        once(&target, |_| bail!("made twice")).unwrap();
        assert!(target.join("whole").exists());
    }

    #[test]
    fn a_python_error_has_the_last_line_of_standard_error() {
        let error = python(["-c", "raise SystemExit('no such wheel')"]).unwrap_err();
        assert_eq!(error.to_string(), "python3: no such wheel");
    }
}

